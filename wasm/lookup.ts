/** Whose a packet is, by its inner and its outer addresses, which are of the lane's family. */
import { load32, load64 } from "./bytes.ts";
import { lookupPeer } from "./fib.ts";
import {
  DESTINATIONS6_OFFSET,
  LANE_MASK_OFFSET,
  LANE_NETWORK_OFFSET,
  SOURCES6_OFFSET,
} from "./layout.ts";
import * as lane from "./lane.ts";
import { isAt } from "./peer.ts";
import * as prefixTable from "./prefix_table.ts";
import { lookupSource } from "./source_table.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as ipv6 from "./wire/ipv6.ts";

/** Offsets of the address in `sockaddr_in` and `sockaddr_in6`. */
const SIN_ADDR = 4;
const SIN6_ADDR = 8;

/** The overlay's network and its mask, upper and lower half. */
let networkHigh: u64 = 0;
let networkLow: u64 = 0;
let maskHigh: u64 = 0;
let maskLow: u64 = 0;

/** Before a loop's first batch. */
export function setUp(): void {
  networkHigh = lane.wideField(LANE_NETWORK_OFFSET);
  networkLow = lane.wideField(LANE_NETWORK_OFFSET + 8);
  maskHigh = lane.wideField(LANE_MASK_OFFSET);
  maskLow = lane.wideField(LANE_MASK_OFFSET + 8);
}

/** The slot of the peer whose subnet holds the IPv6 address at `at`, or -1. */
function lookupPeer6(at: i32): i32 {
  return prefixTable.lookup(DESTINATIONS6_OFFSET, load64(at), load64(at + 8));
}

/** The slot of the peer whose subnet holds the packet's destination, or -1. */
export function ofDestination(packet: i32): i32 {
  if (lane.isV6) return lookupPeer6(packet + ipv6.DESTINATION);
  return lookupPeer(ipv4.destination(packet));
}

/** The slot of a peer that has the outer address in a name (`messages.name`), or -1. */
export function ofName(name: i32): i32 {
  if (!lane.isV6) return lookupSource(load32(name + SIN_ADDR));
  const at = name + SIN6_ADDR;
  return prefixTable.lookup(SOURCES6_OFFSET, load64(at), load64(at + 8));
}

/**
 * Whether the peer at the outer address in `name` may send this packet: as any source outside of
 * the overlay, and inside of it as its own subnet alone. Several peers may share an outer address.
 */
export function maySend(packet: i32, name: i32): bool {
  if (!lane.isV6) {
    const source = ipv4.source(packet);
    if ((source & <u32> maskLow) !== <u32> networkLow) return true;
    const slot = lookupPeer(source);
    return slot >= 0 && isAt(slot, name);
  }
  const at = packet + ipv6.SOURCE;
  const isInside = (load64(at) & maskHigh) === networkHigh &&
    (load64(at + 8) & maskLow) === networkLow;
  if (!isInside) return true;
  const slot = lookupPeer6(at);
  return slot >= 0 && isAt(slot, name);
}
