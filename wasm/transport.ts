/** TCP and UDP within IPv4 and IPv6: where the headers are, and the checksum over both. */
import { load16 } from "./bytes.ts";
import { fold, onesSum } from "./checksum.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as ipv6 from "./wire/ipv6.ts";
import * as tcp from "./wire/tcp.ts";
import * as udp from "./wire/udp.ts";

export const TCP: u32 = 6;
export const UDP: u32 = 17;

/** What lies where `locate` said. */
let found: u32 = 0;

/**
 * Where TCP or UDP, or whatever is behind the IP headers, starts in the `size` bytes at `packet`; 0
 * if they are not one whole IP packet, or a fragment of one. `protocol` says what it is.
 */
export function locate(packet: i32, size: i32): i32 {
  if (size < ipv4.HEADER_LEN) return 0;
  if (ipv4.version(packet) === 6) return locate6(packet, size);
  if (ipv4.check(packet, size) !== 0) return 0;
  const fragment = load16(packet + ipv4.FLAGS_FRAGMENT_OFFSET) & ~ipv4.DONT_FRAGMENT;
  found = <u32> load<u8>(packet + ipv4.PROTOCOL);
  return fragment === 0 ? ipv4.headerLength(packet) : 0;
}

/** Follows the extension headers that a sender's own packets have; a fragment's is none of them. */
function locate6(packet: i32, size: i32): i32 {
  if (ipv6.check(packet, size) !== 0) return 0;
  found = <u32> load<u8>(packet + ipv6.NEXT_HEADER);
  let at = ipv6.HEADER_LEN;
  while (ipv6.isOptions(found)) {
    if (at + ipv6.OPTIONS_LEN_MIN > size) return 0;
    found = <u32> load<u8>(packet + at);
    at += ipv6.optionsLength(packet + at);
  }
  return found === ipv6.FRAGMENT || at > size ? 0 : at;
}

/** Of the packet last located. */
export function protocol(): u32 {
  return found;
}

/** Bytes of all headers of the packet last located; 0 if it is no TCP or UDP, or not whole. */
export function headerLength(packet: i32, size: i32, start: i32): i32 {
  const kind = found;
  if (kind === TCP) {
    if (size < start + tcp.HEADER_LEN) return 0;
    const length = (<i32> load<u8>(packet + start + tcp.DATA_OFFSET) >> 4) << 2;
    return length < tcp.HEADER_LEN || start + length > size ? 0 : start + length;
  }
  if (kind !== UDP || size < start + udp.HEADER_LEN) return 0;
  const isWhole = <i32> load16(packet + start + udp.LENGTH) === size - start;
  return isWhole ? start + udp.HEADER_LEN : 0;
}

/** The sum, not folded, of the pseudo-header for `length` bytes of `kind` (RFC 8200, 8.1). */
export function pseudoSum(packet: i32, length: i32, kind: u32): u32 {
  const addresses = ipv4.version(packet) === 6
    ? onesSum(packet + ipv6.SOURCE, 32)
    : onesSum(packet + ipv4.SOURCE, 8);
  return addresses + kind + <u32> length;
}

/** Whether an IPv4 header's checksum is right; IPv6 has none. */
export function isHeaderRight(packet: i32): bool {
  return ipv4.version(packet) === 6 || onesSum(packet, ipv4.headerLength(packet)) === 0xffff;
}

/** Whether the checksums of a packet with `kind` at `start` are right: header and transport. */
export function isRight(packet: i32, size: i32, start: i32, kind: u32): bool {
  if (!isHeaderRight(packet)) return false;
  const length = size - start;
  return fold(<u64> (pseudoSum(packet, length, kind) + onesSum(packet + start, length))) === 0xffff;
}
