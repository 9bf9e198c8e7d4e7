/** The IPv4 header (RFC 791 section 3.1). Offsets are bytes from its start. */
import {
  DROP_BAD_HEADER_LENGTH,
  DROP_BAD_TOTAL_LENGTH,
  DROP_BAD_VERSION,
  DROP_TRUNCATED,
} from "../layout.ts";
import { load16, load32, store16, store32 } from "../bytes.ts";
import { adjust, checksum } from "../checksum.ts";

/** Version in the upper four bits, header length in 32-bit words in the lower. */
export const VERSION_IHL = 0;
export const DSCP_ECN = 1;
export const TOTAL_LENGTH = 2;
export const IDENTIFICATION = 4;
export const FLAGS_FRAGMENT_OFFSET = 6;
export const TTL = 8;
export const PROTOCOL = 9;
export const HEADER_CHECKSUM = 10;
export const SOURCE = 12;
export const DESTINATION = 16;
/** Without options. */
export const HEADER_LEN = DESTINATION + 4;

export const DONT_FRAGMENT = 0x4000;
export const MORE_FRAGMENTS = 0x2000;
export const FRAGMENT_OFFSET_MASK = 0x1fff;
export const PROTOCOL_ICMP = 1;
/** RFC 1812 section 4.3.2.5: ICMP errors have precedence 6, internetwork control. */
export const DSCP_INTERNETWORK_CONTROL = 0xc0;
export const TTL_DEFAULT = 64;

export function version(packet: i32): u32 {
  return <u32> load<u8>(packet + VERSION_IHL) >> 4;
}

/** Bytes, options included. */
export function headerLength(packet: i32): i32 {
  return (<i32> load<u8>(packet + VERSION_IHL) & 0xf) << 2;
}

/**
 * Whether `size` bytes at `packet` are one whole IPv4 packet: 0, or the drop reason. After 0, the
 * header with its options may be read and `headerLength` is at most `size`. The header checksum is
 * left to the kernel that takes the packet in the end, as every router on the way only adjusts it.
 */
export function check(packet: i32, size: i32): i32 {
  if (size < HEADER_LEN) return DROP_TRUNCATED;
  if (version(packet) !== 4) return DROP_BAD_VERSION;
  const header = headerLength(packet);
  if (header < HEADER_LEN || header > size) return DROP_BAD_HEADER_LENGTH;
  if (<i32> load16(packet + TOTAL_LENGTH) !== size) return DROP_BAD_TOTAL_LENGTH;
  return 0;
}

export function source(packet: i32): u32 {
  return load32(packet + SOURCE);
}

export function destination(packet: i32): u32 {
  return load32(packet + DESTINATION);
}

/**
 * Whether an address is not one host's that routers forward to and from (RFC 6890): 0/8, loopback,
 * link-local, multicast, class E, or the broadcast address.
 */
export function isSpecial(address: u32): bool {
  const first = address >> 24;
  return first === 0 || first === 127 || first >= 224 || address >> 16 === 0xa9fe;
}

export function isLaterFragment(packet: i32): bool {
  return (load16(packet + FLAGS_FRAGMENT_OFFSET) & FRAGMENT_OFFSET_MASK) !== 0;
}

/** Whether the packet must not be cut. */
export function isWholeAlone(packet: i32): bool {
  return (load16(packet + FLAGS_FRAGMENT_OFFSET) & DONT_FRAGMENT) !== 0;
}

/**
 * Takes one off the TTL and adjusts the checksum (RFC 1812 section 5.3.1). False, and nothing
 * changed, if the TTL would be zero after it.
 */
export function decrementTtl(packet: i32): bool {
  const before = load16(packet + TTL);
  if (before < 0x0200) return false;
  const after = before - 0x0100;
  store16(packet + TTL, after);
  const sum = load16(packet + HEADER_CHECKSUM);
  store16(packet + HEADER_CHECKSUM, adjust(sum, before, after));
  return true;
}

/** Writes a header without options. One that cannot be fragmented needs no number (RFC 6864). */
export function write(
  packet: i32,
  dscpEcn: u32,
  totalLength: i32,
  protocol: u32,
  from: u32,
  to: u32,
): void {
  store<u8>(packet + VERSION_IHL, <u8> (4 << 4 | HEADER_LEN >> 2));
  store<u8>(packet + DSCP_ECN, <u8> dscpEcn);
  store16(packet + TOTAL_LENGTH, totalLength);
  store16(packet + IDENTIFICATION, 0);
  store16(packet + FLAGS_FRAGMENT_OFFSET, DONT_FRAGMENT);
  store<u8>(packet + TTL, TTL_DEFAULT);
  store<u8>(packet + PROTOCOL, <u8> protocol);
  store16(packet + HEADER_CHECKSUM, 0);
  store32(packet + SOURCE, from);
  store32(packet + DESTINATION, to);
  store16(packet + HEADER_CHECKSUM, checksum(packet, HEADER_LEN));
}
