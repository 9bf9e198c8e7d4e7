/** Pure functions of the loops under names of their own, for tests. */
import * as fragment from "./fragment.ts";
import { build } from "./icmp_reply.ts";
import { build6, mayAnswer6 } from "./icmp_reply6.ts";
import { lookup } from "./prefix_table.ts";
import * as ipv6 from "./wire/ipv6.ts";

export { lookup as prefixLookup };
export { build as icmpBuild, build6 as icmpBuild6, mayAnswer6 as icmpMayAnswer6 };

export function ipv6Check(packet: i32, size: i32): i32 {
  return ipv6.check(packet, size);
}

export function ipv6DecrementHopLimit(packet: i32): bool {
  return ipv6.decrementHopLimit(packet);
}

export function fragmentOpen(
  headers: i32,
  headersSize: i32,
  payload: i32,
  payloadSize: i32,
  mtu: i32,
): i32 {
  return fragment.open(headers, headersSize, payload, payloadSize, mtu);
}

export function fragmentWriteHeaders(at: i32, index: i32): i32 {
  return fragment.writeHeaders(at, index);
}

export function fragmentPayloadAt(index: i32): i32 {
  return fragment.payloadAt(index);
}

export function fragmentPayloadSize(index: i32): i32 {
  return fragment.payloadSize(index);
}
