/** TCP and UDP within IPv4 and IPv6: where the headers are, and the checksum over both. */
import { load16 } from "./bytes.ts";
import { fold, onesSum } from "./checksum.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as ipv6 from "./wire/ipv6.ts";
import * as tcp from "./wire/tcp.ts";
import * as udp from "./wire/udp.ts";

export const TCP: u32 = 6;
export const UDP: u32 = 17;

/**
 * Where the header behind the IP header starts in the `size` bytes at `packet`; 0 if they are not
 * one whole IP packet, or a fragment of one. No IPv6 extension header is followed.
 */
export function locate(packet: i32, size: i32): i32 {
  if (size < ipv4.HEADER_LEN) return 0;
  if (ipv4.version(packet) !== 6) {
    if (ipv4.check(packet, size) !== 0) return 0;
    const fragment = load16(packet + ipv4.FLAGS_FRAGMENT_OFFSET) & ~ipv4.DONT_FRAGMENT;
    return fragment === 0 ? ipv4.headerLength(packet) : 0;
  }
  if (size < ipv6.HEADER_LEN) return 0;
  const length = <i32> load16(packet + ipv6.PAYLOAD_LENGTH) + ipv6.HEADER_LEN;
  return length === size ? ipv6.HEADER_LEN : 0;
}

/** Of a located packet. */
export function protocol(packet: i32): u32 {
  const at = ipv4.version(packet) === 6 ? ipv6.NEXT_HEADER : ipv4.PROTOCOL;
  return <u32> load<u8>(packet + at);
}

/** Bytes of the IP header and the TCP or UDP header; 0 if it is neither, or not whole. */
export function headerLength(packet: i32, size: i32, start: i32): i32 {
  const kind = protocol(packet);
  if (kind === TCP) {
    if (size < start + tcp.HEADER_LEN) return 0;
    const length = (<i32> load<u8>(packet + start + tcp.DATA_OFFSET) >> 4) << 2;
    return length < tcp.HEADER_LEN || start + length > size ? 0 : start + length;
  }
  if (kind !== UDP || size < start + udp.HEADER_LEN) return 0;
  const isWhole = <i32> load16(packet + start + udp.LENGTH) === size - start;
  return isWhole ? start + udp.HEADER_LEN : 0;
}

/** The sum, not folded, of the pseudo-header for `length` bytes of transport (RFC 8200, 8.1). */
export function pseudoSum(packet: i32, length: i32): u32 {
  const addresses = ipv4.version(packet) === 6
    ? onesSum(packet + ipv6.SOURCE, 32)
    : onesSum(packet + ipv4.SOURCE, 8);
  return addresses + protocol(packet) + <u32> length;
}

/** Whether the checksums of a located TCP or UDP packet are right: IPv4 header and transport. */
export function isRight(packet: i32, size: i32, start: i32): bool {
  if (ipv4.version(packet) !== 6 && onesSum(packet, start) !== 0xffff) return false;
  const length = size - start;
  return fold(<u64> (pseudoSum(packet, length) + onesSum(packet + start, length))) === 0xffff;
}
