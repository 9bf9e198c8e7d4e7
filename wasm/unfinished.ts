/**
 * Inner packets that their kernel left unfinished. Where a kernel's VXLAN device and we share a
 * machine, its packets never meet hardware that would complete their checksums and cut them: they
 * come with the pseudo-header's sum alone, and up to 64 KiB long. Ingress only.
 */
import { load16 } from "./bytes.ts";
import { fold } from "./checksum.ts";
import { LANE_MTU_OFFSET } from "./layout.ts";
import * as lane from "./lane.ts";
import {
  headerLength,
  isHeaderRight,
  isRight,
  locate,
  protocol,
  pseudoSum,
  TCP,
} from "./transport.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as tcp from "./wire/tcp.ts";
import * as udp from "./wire/udp.ts";
import * as virtio from "./wire/virtio.ts";

/**
 * What TCP is cut into at most, headers included. The sender's own size did not come along, and it
 * may have known of a narrower way than we do: this is what every IPv6 link carries.
 */
const SEGMENT_SIZE_MAX = 1280;

let start: i32 = 0;
let headers: i32 = 0;
let isTcp: bool = false;

/** Whether the packet is one. The functions below are about the last for which this was true. */
export function isSo(packet: i32, size: i32): bool {
  start = locate(packet, size);
  if (start === 0) return false;
  headers = headerLength(packet, size, start);
  if (headers === 0) return false;
  isTcp = protocol() === TCP;
  const sum = load16(packet + start + checksumOffset());
  // UDP: 0 says that there is none. A sum that is right by chance is tried last.
  if (sum === 0 && !isTcp) return false;
  const kind = protocol();
  if (sum !== fold(<u64> pseudoSum(packet, size - start, kind))) return false;
  // What is cut gets headers anew: a wrong one must not become right by it.
  return isHeaderRight(packet) && !isRight(packet, size, start, kind);
}

/** Where the checksum's data start in the packet. */
export function checksumStart(): i32 {
  return start;
}

/** And where the field is from there. */
export function checksumOffset(): i32 {
  return isTcp ? tcp.CHECKSUM : udp.CHECKSUM;
}

/** Bytes of all its headers. */
export function headersSize(): i32 {
  return headers;
}

/** Bytes of the longest packet that is written as it is. */
function sizeMax(): i32 {
  const mtu = lane.field(LANE_MTU_OFFSET);
  return isTcp ? min(mtu, SEGMENT_SIZE_MAX) : mtu;
}

/** Whether it is to be cut. */
export function isMany(size: i32): bool {
  return size > sizeMax();
}

/** Payload bytes of each segment but the last. */
export function segmentSize(): i32 {
  return sizeMax() - headers;
}

/** The virtio header's type of what it is cut into; GSO_NONE where that cannot be known: UDP. */
export function gsoType(packet: i32): u32 {
  if (!isTcp) return virtio.GSO_NONE;
  const type = ipv4.version(packet) === 6 ? virtio.GSO_TCPV6 : virtio.GSO_TCPV4;
  const hasCwr = (<u32> load<u8>(packet + start + tcp.FLAGS) & tcp.CWR) !== 0;
  return hasCwr ? type | virtio.GSO_ECN : type;
}
