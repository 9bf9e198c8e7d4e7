/** An inner packet of the lane's family. */
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
