/** Whose a packet is, by its inner and its outer addresses, which are of the lane's family. */
import { load32, load64 } from "./bytes.ts";
import { lookupPeer } from "./fib.ts";
import { DESTINATIONS6_OFFSET, SOURCES6_OFFSET } from "./layout.ts";
import * as lane from "./lane.ts";
import * as prefixTable from "./prefix_table.ts";
import { lookupSource } from "./source_table.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as ipv6 from "./wire/ipv6.ts";

/** Offsets of the address in `sockaddr_in` and `sockaddr_in6`. */
const SIN_ADDR = 4;
const SIN6_ADDR = 8;

/** The slot of the peer whose subnet holds the IPv6 address at `at`, or -1. */
function lookupPeer6(at: i32): i32 {
  return prefixTable.lookup(DESTINATIONS6_OFFSET, load64(at), load64(at + 8));
}

/** The slot of the peer whose subnet holds the packet's destination, or -1. */
export function ofDestination(packet: i32): i32 {
  if (lane.isV6) return lookupPeer6(packet + ipv6.DESTINATION);
  return lookupPeer(ipv4.destination(packet));
}

/** The slot of the peer whose subnet holds the packet's source, or -1. */
export function ofSource(packet: i32): i32 {
  if (lane.isV6) return lookupPeer6(packet + ipv6.SOURCE);
  return lookupPeer(ipv4.source(packet));
}

/** The slot of a peer that has the outer address in a name (`messages.name`), or -1. */
export function ofName(name: i32): i32 {
  if (!lane.isV6) return lookupSource(load32(name + SIN_ADDR));
  const at = name + SIN6_ADDR;
  return prefixTable.lookup(SOURCES6_OFFSET, load64(at), load64(at + 8));
}
