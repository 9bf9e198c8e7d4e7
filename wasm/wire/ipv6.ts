/** The IPv6 header (RFC 8200 section 3). Offsets are bytes from its start. */
import { DROP_BAD_TOTAL_LENGTH, DROP_BAD_VERSION, DROP_TRUNCATED } from "../layout.ts";
import { load16, store16, store32 } from "../bytes.ts";

/** Version in the upper four bits, then traffic class (8 bits) and flow label (20). */
export const VERSION_CLASS_FLOW = 0;
/** What is behind this header. */
export const PAYLOAD_LENGTH = 4;
export const NEXT_HEADER = 6;
export const HOP_LIMIT = 7;
export const SOURCE = 8;
export const ADDRESS_LEN = 16;
export const DESTINATION = SOURCE + ADDRESS_LEN;
export const HEADER_LEN = DESTINATION + ADDRESS_LEN;

/** Every link carries so much (RFC 8200 section 5). */
export const MTU_MIN = 1280;
export const HOP_LIMIT_DEFAULT = 64;
/** First byte of a multicast address (RFC 4291 section 2.7). */
export const MULTICAST: u32 = 0xff;

/** Next headers that are extension headers (RFC 8200 section 4, RFC 4302). */
export const HOP_BY_HOP: u32 = 0;
export const ROUTING: u32 = 43;
export const FRAGMENT: u32 = 44;
export const AUTHENTICATION: u32 = 51;
export const DESTINATION_OPTIONS: u32 = 60;

/** In the fragment header: what is behind it, and offset, two reserved bits, and "more". */
export const FRAGMENT_NEXT_HEADER = 0;
export const FRAGMENT_OFFSET = 2;
export const FRAGMENT_HEADER_LEN = 8;
export const FRAGMENT_OFFSET_MASK: u32 = 0xfff8;
/** Of an extension header. */
export const OPTIONS_LEN_MIN = 8;

/**
 * Whether `size` bytes at `packet` are one whole IPv6 packet: 0, or the drop reason. After 0, the
 * header may be read; of extension headers nothing is said. A jumbogram (RFC 2675) is none: its
 * payload length is zero.
 */
export function check(packet: i32, size: i32): i32 {
  if (size < HEADER_LEN) return DROP_TRUNCATED;
  if (load<u8>(packet + VERSION_CLASS_FLOW) >> 4 !== 6) return DROP_BAD_VERSION;
  if (<i32> load16(packet + PAYLOAD_LENGTH) + HEADER_LEN !== size) return DROP_BAD_TOTAL_LENGTH;
  return 0;
}

/** Whether it is an extension header of a length that it says itself. */
export function isOptions(header: u32): bool {
  return header === HOP_BY_HOP || header === ROUTING || header === DESTINATION_OPTIONS;
}

/** Bytes of such a header. */
export function optionsLength(header: i32): i32 {
  return (<i32> load<u8>(header + 1) + 1) << 3;
}

/** fe80::/10 (RFC 4291 section 2.5.6). */
export function isLinkLocal(address: i32): bool {
  return (load16(address) & 0xffc0) === 0xfe80;
}

export function isMulticast(address: i32): bool {
  return load<u8>(address) === MULTICAST;
}

/**
 * Whether an address is not one host's that routers forward to and from (RFC 4291 sections 2.5 and
 * 2.7): multicast, link-local, or in ::/64, which holds the unspecified address, loopback, and
 * IPv4 addresses that are mapped or compatible.
 */
export function isSpecial(address: i32): bool {
  return load<u64>(address) === 0 || isMulticast(address) || isLinkLocal(address);
}

/** Takes one off the hop limit. False, and nothing changed, if it would be zero after it. */
export function decrementHopLimit(packet: i32): bool {
  const before = load<u8>(packet + HOP_LIMIT);
  if (before < 2) return false;
  store<u8>(packet + HOP_LIMIT, before - 1);
  return true;
}

/** Writes a header without flow label; `from` and `to` are where 16 bytes of address lie. */
export function writeHeader(
  packet: i32,
  trafficClass: u32,
  payloadLength: i32,
  nextHeader: u32,
  from: i32,
  to: i32,
): void {
  store32(packet + VERSION_CLASS_FLOW, 6 << 28 | trafficClass << 20);
  store16(packet + PAYLOAD_LENGTH, payloadLength);
  store<u8>(packet + NEXT_HEADER, <u8> nextHeader);
  store<u8>(packet + HOP_LIMIT, HOP_LIMIT_DEFAULT);
  v128.store(packet + SOURCE, v128.load(from));
  v128.store(packet + DESTINATION, v128.load(to));
}
