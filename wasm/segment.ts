/**
 * Cutting a packet of many segments (TSO, USO) into packets as a sender without offloads would have
 * made them. Payload stays where it is: each segment is a header of its own and a part of it.
 */
import { load16, load32, store16, store32 } from "./bytes.ts";
import { checksum, fold, onesSum } from "./checksum.ts";
import { SEGMENT_HEADER_SIZE } from "./layout.ts";
import { headerLength, locate, protocol, pseudoSum, TCP, UDP } from "./transport.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as ipv6 from "./wire/ipv6.ts";
import * as tcp from "./wire/tcp.ts";
import * as udp from "./wire/udp.ts";
import * as virtio from "./wire/virtio.ts";

/** The packet being cut. */
let packet: i32 = 0;
let size: i32 = 0;
/** Where its transport header starts, and where its payload does. */
let transport: i32 = 0;
let headers: i32 = 0;
let isTcp: bool = false;
/** Payload bytes of each segment but the last. */
let step: i32 = 0;
let count: i32 = 0;

function isKind(gsoType: u32): bool {
  const isV6 = ipv4.version(packet) === 6;
  const kind = protocol();
  if (gsoType === virtio.GSO_UDP_L4) return kind === UDP;
  return kind === TCP && gsoType === (isV6 ? virtio.GSO_TCPV6 : virtio.GSO_TCPV4);
}

/**
 * Starts on the packet that its virtio header says is to be cut. Returns how many segments it has,
 * or 0 if header and packet do not fit each other: then it must not be sent. A packet with URG is
 * none of this kind; the urgent pointer would be wrong in all segments but one.
 */
export function open(at: i32, length: i32, type: u32, gsoSize: i32): i32 {
  packet = at;
  size = length;
  step = gsoSize;
  transport = locate(at, length);
  if (transport === 0 || step === 0 || !isKind(type & ~virtio.GSO_ECN)) return 0;
  headers = headerLength(at, length, transport);
  if (headers === 0 || headers === length || headers > SEGMENT_HEADER_SIZE) return 0;
  isTcp = protocol() === TCP;
  if (isTcp && (load<u8>(at + transport + tcp.FLAGS) & tcp.URG) !== 0) return 0;
  count = (length - headers + step - 1) / step;
  return count;
}

/** Bytes of each segment's headers. */
export function headersSize(): i32 {
  return headers;
}

/** Where the payload of segment `index` is. */
export function payload(index: i32): i32 {
  return packet + headers + index * step;
}

/** Bytes of the payload of segment `index`. */
export function payloadSize(index: i32): i32 {
  return index + 1 < count ? step : size - headers - index * step;
}

/** The IP header: RFC 6864 asks for another number in each packet, as the kernel does it too. */
function patchIp(at: i32, index: i32, length: i32): void {
  if (ipv4.version(at) === 6) {
    store16(at + ipv6.PAYLOAD_LENGTH, length - ipv6.HEADER_LEN);
    return;
  }
  store16(at + ipv4.TOTAL_LENGTH, length);
  store16(at + ipv4.IDENTIFICATION, load16(at + ipv4.IDENTIFICATION) + <u32> index);
  store16(at + ipv4.HEADER_CHECKSUM, 0);
  store16(at + ipv4.HEADER_CHECKSUM, checksum(at, transport));
}

/** FIN and PSH belong to the last segment, CWR to the first (RFC 3168 section 6.1.2). */
function patchTcp(at: i32, index: i32): void {
  store32(at + tcp.SEQUENCE, load32(at + tcp.SEQUENCE) + <u32> (index * step));
  let flags = <u32> load<u8>(at + tcp.FLAGS);
  if (index > 0) flags &= ~tcp.CWR;
  if (index + 1 < count) flags &= ~(tcp.FIN | tcp.PSH);
  store<u8>(at + tcp.FLAGS, <u8> flags);
}

/**
 * Writes the headers of segment `index`, checksums complete, at `at`, where `SEGMENT_HEADER_SIZE`
 * bytes are free.
 */
export function writeHeaders(at: i32, index: i32): void {
  for (let i = 0; i < headers; i += 16) v128.store(at + i, v128.load(packet + i));
  const part = payloadSize(index);
  patchIp(at, index, headers + part);
  const header = at + transport;
  const length = headers - transport + part;
  const field = header + (isTcp ? tcp.CHECKSUM : udp.CHECKSUM);
  if (isTcp) patchTcp(header, index);
  else store16(header + udp.LENGTH, length);
  store16(field, 0);
  const sum = pseudoSum(at, length, isTcp ? TCP : UDP) + onesSum(header, headers - transport) +
    onesSum(payload(index), part);
  const value = ~fold(<u64> sum) & 0xffff;
  // UDP: 0 would say that there is none (RFC 768).
  store16(field, value === 0 && !isTcp ? 0xffff : value);
}

/**
 * Completes the checksum of a packet that goes as it is: the field holds the pseudo-header's sum.
 * False, and nothing changed, if the virtio header's places are not in the packet.
 */
export function completeChecksum(at: i32, length: i32, start: i32, offset: i32): bool {
  const field = start + offset;
  if (start < ipv4.HEADER_LEN || field + 2 > length) return false;
  const value = checksum(at + start, length - start);
  // Of TCP too both forms of zero are right, and UDP has the one alone.
  store16(at + field, value === 0 ? 0xffff : value);
  return true;
}
