/**
 * Gathering packets of one flow that follow each other into one packet of many segments, under the
 * rules of Linux's GRO (`net/ipv4/tcp_offload.c`, `udp_offload.c`, `net/core/gro.c`): cutting it
 * again gives back the same packets. Payload stays where it is. One group is open at a time, so
 * order is kept whatever comes.
 */
import { load16, load32, store16 } from "./bytes.ts";
import { checksum, fold } from "./checksum.ts";
import {
  IOVEC_SIZE,
  PACKET_HEADROOM,
  SEGMENT_COUNT_MAX,
  WRITE_HEADER_OFFSET,
  WRITE_IOVECS_OFFSET,
} from "./layout.ts";
import * as lane from "./lane.ts";
import { iovecBuffer, setIovec } from "./messages.ts";
import { headerLength, isRight, locate, protocol, pseudoSum, TCP, UDP } from "./transport.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as ipv6 from "./wire/ipv6.ts";
import * as tcp from "./wire/tcp.ts";
import * as udp from "./wire/udp.ts";
import * as virtio from "./wire/virtio.ts";

/** What an IP packet's length field can say. */
const TOTAL_SIZE_MAX = 65535;
/** Offset of ports in TCP and UDP: 32 bits, both. */
const PORTS = 0;
/** TCP's data offset, flags and window as one word; and what of it may differ. */
const WORD = tcp.DATA_OFFSET;
const WORD_MAY_DIFFER: u32 = (tcp.FIN | tcp.PSH) << 16;
/** CWR too: whether others follow it without (RFC 3168) or with it (AccECN) is not known here. */
const FLAGS_ALONE: u32 = tcp.SYN | tcp.RST | tcp.URG | tcp.CWR;
/** The identification of a group's second packet says which. */
const ID_STEP_UNKNOWN = -1;

const UNKNOWN = 0;
const RIGHT = 1;
const WRONG = 2;

let mayTcp: bool = false;
let mayUdp: bool = false;

/** The group: its first packet, and what its headers are. */
let first: i32 = 0;
let firstSize: i32 = 0;
let start: i32 = 0;
let headers: i32 = 0;
let isTcp: bool = false;
let packetCount: i32 = 0;
/** No packet may follow. */
let isClosed: bool = true;
/** Whether the first packet's checksums are right, once somebody asked. */
let firstState: i32 = 0;
/** Payload bytes of every segment but the last, and of all. */
let step: i32 = 0;
let total: i32 = 0;
let idStep: i32 = 0;
/** FIN and PSH, which are the last packet's. */
let lastFlags: u32 = 0;

/** The packet at hand, as `inspect` found it. */
let foundStart: i32 = 0;
let foundHeaders: i32 = 0;

/** Before a loop's first batch: whether TCP and UDP may be gathered. */
export function setUp(tcpToo: bool, udpToo: bool): void {
  mayTcp = tcpToo;
  mayUdp = udpToo;
  packetCount = 0;
  isClosed = true;
}

/** Iovec i of a group's write: 0 is the headers', then one a packet's payload. */
function iovec(index: i32): i32 {
  return lane.work + WRITE_IOVECS_OFFSET + index * IOVEC_SIZE;
}

/** Packets in the group; 0: there is none. */
export function count(): i32 {
  return packetCount;
}

/** Packet i of the group, as it came. */
export function packet(index: i32): i32 {
  return index === 0 ? first : iovecBuffer(iovec(index + 1)) - headers;
}

/** Bytes of packet i of the group. */
export function packetSize(index: i32): i32 {
  if (index === 0) return firstSize;
  return headers + (index + 1 < packetCount ? step : total - index * step);
}

/** Of all packets of the group together. */
export function bytes(): i32 {
  return packetCount * headers + total;
}

/** Forgets the group: what it held is no longer lent. */
export function clear(): void {
  packetCount = 0;
  isClosed = true;
}

/** Whether the packet is of a kind that can be in a group; sets `foundStart` and `foundHeaders`. */
function inspect(packet: i32, size: i32): bool {
  foundStart = locate(packet, size);
  // An IPv4 header with options goes alone.
  if (foundStart !== ipv4.HEADER_LEN && foundStart !== ipv6.HEADER_LEN) return false;
  if (foundStart === ipv6.HEADER_LEN && ipv4.version(packet) !== 6) return false;
  foundHeaders = headerLength(packet, size, foundStart);
  // Without payload it is no segment.
  if (foundHeaders === 0 || foundHeaders === size) return false;
  const transport = packet + foundStart;
  if (protocol() !== TCP) return mayUdp && load16(transport + udp.CHECKSUM) !== 0;
  const flags = <u32> load<u8>(transport + tcp.FLAGS);
  return mayTcp && (flags & FLAGS_ALONE) === 0;
}

/** Makes this packet the group. There must be none, or it must have been written. */
export function begin(packet: i32, size: i32): void {
  first = packet;
  firstSize = size;
  packetCount = 1;
  isClosed = !inspect(packet, size);
  if (isClosed) return;
  start = foundStart;
  headers = foundHeaders;
  isTcp = protocol() === TCP;
  firstState = UNKNOWN;
  idStep = ID_STEP_UNKNOWN;
  step = total = size - headers;
  setIovec(iovec(1), packet + headers, total);
  lastFlags = 0;
  if (isTcp) closeBehind(packet, step);
}

/** PSH and FIN end a group, and so does a segment that is shorter than the others. */
function closeBehind(packet: i32, payload: i32): void {
  if (isTcp) {
    lastFlags = <u32> load<u8>(packet + start + tcp.FLAGS) & (tcp.FIN | tcp.PSH);
    if (lastFlags !== 0) isClosed = true;
  }
  if (payload < step) isClosed = true;
}

/** Same addresses and everything else of the IP header but lengths, number and checksum. */
function isSameIp(packet: i32): bool {
  if (ipv4.version(packet) === 6) {
    return load<u32>(packet) === load<u32>(first) &&
      load<u16>(packet + ipv6.NEXT_HEADER) === load<u16>(first + ipv6.NEXT_HEADER) &&
      v128.all_true<u8>(i8x16.eq(v128.load(packet + 8), v128.load(first + 8))) &&
      v128.all_true<u8>(i8x16.eq(v128.load(packet + 24), v128.load(first + 24)));
  }
  return load<u16>(packet) === load<u16>(first) &&
    load<u32>(packet + ipv4.FLAGS_FRAGMENT_OFFSET) ===
      load<u32>(first + ipv4.FLAGS_FRAGMENT_OFFSET) &&
    load<u64>(packet + ipv4.SOURCE) === load<u64>(first + ipv4.SOURCE);
}

/** How far the identification is from the first packet's. IPv6 has none. */
function idDistance(packet: i32): i32 {
  if (ipv4.version(packet) === 6) return 0;
  const from = load16(first + ipv4.IDENTIFICATION);
  return <i32> ((load16(packet + ipv4.IDENTIFICATION) - from) & 0xffff);
}

/**
 * Whether the number follows: each is one more. Cutting would give another number than was there
 * where all are the same, which means nothing as long as none can be cut again (RFC 6864).
 */
function isNumberNext(packet: i32): bool {
  if (ipv4.version(packet) === 6) return true;
  const distance = idDistance(packet);
  if (idStep !== ID_STEP_UNKNOWN) return distance === idStep * packetCount;
  const mayStay = (load16(packet + ipv4.FLAGS_FRAGMENT_OFFSET) & ipv4.DONT_FRAGMENT) !== 0;
  return distance === 1 || (distance === 0 && mayStay);
}

/** The next bytes of the same stream, with the same options, flags and window. */
function isTcpNext(packet: i32): bool {
  const header = packet + start;
  const other = first + start;
  if (((load32(header + WORD) ^ load32(other + WORD)) & ~WORD_MAY_DIFFER) !== 0) return false;
  if (load<u32>(header + tcp.ACKNOWLEDGMENT) !== load<u32>(other + tcp.ACKNOWLEDGMENT)) {
    return false;
  }
  // It means nothing without URG, which goes alone; yet what is cut again is to be what came.
  if (load<u16>(header + tcp.URGENT_POINTER) !== load<u16>(other + tcp.URGENT_POINTER)) {
    return false;
  }
  if (load32(header + tcp.SEQUENCE) !== load32(other + tcp.SEQUENCE) + <u32> total) return false;
  for (let i = start + tcp.HEADER_LEN; i < headers; i += 4) {
    if (load<u32>(packet + i) !== load<u32>(first + i)) return false;
  }
  return true;
}

function kind(): u32 {
  return isTcp ? TCP : UDP;
}

function isFirstRight(): bool {
  if (firstState === UNKNOWN) firstState = isRight(first, firstSize, start, kind()) ? RIGHT : WRONG;
  return firstState === RIGHT;
}

/** Takes the packet into the open group. False, and nothing changed, if it does not belong. */
export function append(packet: i32, size: i32): bool {
  if (isClosed || packetCount === SEGMENT_COUNT_MAX || !inspect(packet, size)) return false;
  if (foundStart !== start || foundHeaders !== headers || !isSameIp(packet)) return false;
  if (load<u32>(packet + start + PORTS) !== load<u32>(first + start + PORTS)) return false;
  const payload = size - headers;
  if (payload > step || headers + total + payload > TOTAL_SIZE_MAX) return false;
  if (!isNumberNext(packet) || (isTcp && !isTcpNext(packet))) return false;
  if (!isFirstRight() || !isRight(packet, size, start, kind())) return false;
  if (packetCount === 1) idStep = idDistance(packet);
  packetCount++;
  total += payload;
  setIovec(iovec(packetCount), packet + headers, payload);
  closeBehind(packet, payload);
  return true;
}

function gsoType(): u32 {
  if (!isTcp) return virtio.GSO_UDP_L4;
  return ipv4.version(first) === 6 ? virtio.GSO_TCPV6 : virtio.GSO_TCPV4;
}

function writeVirtio(header: i32, checksumOffset: i32): void {
  store<u8>(header + virtio.FLAGS, virtio.NEEDS_CSUM);
  store<u8>(header + virtio.GSO_TYPE, <u8> gsoType());
  store<u16>(header + virtio.HDR_LEN, <u16> headers);
  store<u16>(header + virtio.GSO_SIZE, <u16> step);
  store<u16>(header + virtio.CSUM_START, <u16> start);
  store<u16>(header + virtio.CSUM_OFFSET, <u16> checksumOffset);
}

/** The IP header for all of the group at `packet`, where the first packet's was copied to. */
function patchIp(packet: i32): void {
  const size = headers + total;
  if (ipv4.version(packet) === 6) {
    store16(packet + ipv6.PAYLOAD_LENGTH, size - ipv6.HEADER_LEN);
    return;
  }
  store16(packet + ipv4.TOTAL_LENGTH, size);
  store16(packet + ipv4.HEADER_CHECKSUM, 0);
  store16(packet + ipv4.HEADER_CHECKSUM, checksum(packet, start));
}

/**
 * Makes the iovecs of a group of two or more ready to be written to the TUN, and returns how many
 * they are. The packets themselves stay as they came.
 */
export function finish(): i32 {
  const packet = lane.work + WRITE_HEADER_OFFSET + PACKET_HEADROOM;
  const header = packet + start;
  memory.copy(packet, first, headers);
  patchIp(packet);
  const length = headers - start + total;
  const checksumOffset = isTcp ? tcp.CHECKSUM : udp.CHECKSUM;
  if (isTcp) store<u8>(header + tcp.FLAGS, <u8> (load<u8>(header + tcp.FLAGS) | lastFlags));
  else store16(header + udp.LENGTH, length);
  store16(header + checksumOffset, fold(<u64> pseudoSum(packet, length, kind())));
  writeVirtio(packet - virtio.SIZE, checksumOffset);
  setIovec(iovec(0), packet - virtio.SIZE, virtio.SIZE + headers);
  return packetCount + 1;
}
