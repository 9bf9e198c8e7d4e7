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
