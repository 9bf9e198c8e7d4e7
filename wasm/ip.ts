/** An inner packet of the lane's family. */
import { load16 } from "./bytes.ts";
import * as lane from "./lane.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as ipv6 from "./wire/ipv6.ts";

/** Whether `size` bytes are one whole packet: 0, or the drop reason. */
export function check(packet: i32, size: i32): i32 {
  return lane.isV6 ? ipv6.check(packet, size) : ipv4.check(packet, size);
}

/** Takes one off the TTL or hop limit. False, and nothing changed, if it would be zero after it. */
export function decrementTtl(packet: i32): bool {
  return lane.isV6 ? ipv6.decrementHopLimit(packet) : ipv4.decrementTtl(packet);
}

/**
 * Whether a checked packet is IPv6 that no router forwards: from or to a link-local address, from
 * none or from many (RFC 4291 section 2.5.6); or to many, for whom the overlay has no way.
 */
export function isLinkScope(packet: i32): bool {
  if (!lane.isV6) return false;
  const from = packet + ipv6.SOURCE;
  const to = packet + ipv6.DESTINATION;
  return ipv6.isMulticast(to) || ipv6.isLinkLocal(to) || ipv6.isMulticast(from) ||
    ipv6.isLinkLocal(from) || ipv6.isUnspecified(from);
}

/** Bytes of the packet in a frame of `size` bytes of payload, which may have been padded. */
export function sizeInFrame(packet: i32, size: i32): i32 {
  if (lane.isV6) {
    if (size < ipv6.HEADER_LEN) return size;
    const payload = <i32> load16(packet + ipv6.PAYLOAD_LENGTH);
    return payload === 0 ? size : min(size, payload + ipv6.HEADER_LEN);
  }
  if (size < ipv4.HEADER_LEN) return size;
  const total = <i32> load16(packet + ipv4.TOTAL_LENGTH);
  return total < ipv4.HEADER_LEN ? size : min(size, total);
}
