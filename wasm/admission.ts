/**
 * Decides by their addresses which inner packets may pass. A peer sends from its own subnet into
 * ours, and we send from our own. A source outside of the overlay is the sending host's outer
 * address (such a host answers what containers sent to it there), or it must be allowed: where
 * hosts masquerade, as flannel's rules do, every other outside source becomes the address of the
 * sender's tunnel.
 */
import { load32, load64 } from "./bytes.ts";
import {
  DROP_DESTINATION_NOT_OURS,
  DROP_SOURCE_OUTSIDE,
  DROP_SOURCE_SPOOFED,
  DROP_SPECIAL_ADDRESS,
  LANE_FLAG_ANY_OUTER_SOURCE,
  LANE_FLAG_OUTSIDE_SOURCES,
  LANE_FLAGS_OFFSET,
  LANE_MASK_OFFSET,
  LANE_NETWORK_OFFSET,
  LANE_SUBNET_MASK_OFFSET,
} from "./layout.ts";
import * as lane from "./lane.ts";
import * as lookup from "./lookup.ts";
import { isAt } from "./peer.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as ipv6 from "./wire/ipv6.ts";

/** Offsets of the address in `sockaddr_in` and `sockaddr_in6`. */
const SIN_ADDR = 4;
const SIN6_ADDR = 8;

/** Datagrams may come from any outer address. */
export let isAnyOuterSource: bool = false;
/** The slot of the peer whose subnet holds the source of the packet last admitted; -1: none. */
export let sender: i32 = -1;

let allowsOutsideSources: bool = false;
/** The overlay's network, our own subnet, and their masks: upper half and lower half. */
let networkHigh: u64 = 0;
let networkLow: u64 = 0;
let networkMaskHigh: u64 = 0;
let networkMaskLow: u64 = 0;
let subnetHigh: u64 = 0;
let subnetLow: u64 = 0;
let subnetMaskHigh: u64 = 0;
let subnetMaskLow: u64 = 0;
/** The last address of our IPv4 subnet, which a container bridge takes for all hosts; 0: none. */
let broadcast: u32 = 0;

/** Before a loop's first batch. */
export function setUp(): void {
  const flags = lane.field(LANE_FLAGS_OFFSET);
  isAnyOuterSource = (flags & LANE_FLAG_ANY_OUTER_SOURCE) !== 0;
  allowsOutsideSources = (flags & LANE_FLAG_OUTSIDE_SOURCES) !== 0;
  networkHigh = lane.wideField(LANE_NETWORK_OFFSET);
  networkLow = lane.wideField(LANE_NETWORK_OFFSET + 8);
  networkMaskHigh = lane.wideField(LANE_MASK_OFFSET);
  networkMaskLow = lane.wideField(LANE_MASK_OFFSET + 8);
  subnetMaskHigh = lane.wideField(LANE_SUBNET_MASK_OFFSET);
  subnetMaskLow = lane.wideField(LANE_SUBNET_MASK_OFFSET + 8);
  const own = lane.address();
  subnetHigh = lane.isV6 ? load64(own) & subnetMaskHigh : 0;
  subnetLow = (lane.isV6 ? load64(own + 8) : <u64> load32(own)) & subnetMaskLow;
  const hostBits = ~(<u32> subnetMaskLow);
  // RFC 3021: a subnet of two addresses has no address for all of its hosts.
  broadcast = !lane.isV6 && hostBits > 1 ? <u32> subnetLow | hostBits : 0;
}

/** Whether an IPv4 address is one host's in our own subnet. */
function isOurs4(address: u32): bool {
  return (address & <u32> subnetMaskLow) === <u32> subnetLow && address !== broadcast;
}

/** The same of the IPv6 address at `at`. */
function isOurs6(at: i32): bool {
  return (load64(at) & subnetMaskHigh) === subnetHigh &&
    (load64(at + 8) & subnetMaskLow) === subnetLow;
}

function isSpecial4(address: u32): bool {
  return ipv4.isSpecial(address) || (broadcast !== 0 && address === broadcast);
}

/** Whether a packet's destination is no single host's, or one on its own link alone. */
export function isToSpecial(packet: i32): bool {
  if (lane.isV6) return ipv6.isSpecial(packet + ipv6.DESTINATION);
  return isSpecial4(ipv4.destination(packet));
}

function isFromSpecial(packet: i32): bool {
  if (lane.isV6) return ipv6.isSpecial(packet + ipv6.SOURCE);
  return isSpecial4(ipv4.source(packet));
}

function isFromOverlay(packet: i32): bool {
  if (!lane.isV6) {
    return (ipv4.source(packet) & <u32> networkMaskLow) === <u32> networkLow;
  }
  const at = packet + ipv6.SOURCE;
  return (load64(at) & networkMaskHigh) === networkHigh &&
    (load64(at + 8) & networkMaskLow) === networkLow;
}

/** Whether a packet's source is the address whose bytes lie at `at`. */
function isFrom(packet: i32, at: i32): bool {
  if (!lane.isV6) return ipv4.source(packet) === load32(at);
  const source = packet + ipv6.SOURCE;
  return load64(source) === load64(at) && load64(source + 8) === load64(at + 8);
}

/** Why a packet may not come from a source that is not in the sending host's subnet; 0: it may. */
function checkForeignSource(packet: i32, outer: i32, isKnownHost: bool): i32 {
  if (isFromSpecial(packet)) return DROP_SPECIAL_ADDRESS;
  if (isFromOverlay(packet)) return DROP_SOURCE_SPOOFED;
  const isAllowed = allowsOutsideSources || isFrom(packet, outer);
  return isKnownHost && isAllowed ? 0 : DROP_SOURCE_OUTSIDE;
}

/**
 * Whether a checked packet that came in a datagram from the outer address in `name` may be
 * delivered: 0, and `sender` is set; or the reason to drop it.
 */
export function checkReceived(packet: i32, name: i32): i32 {
  const isOurs = lane.isV6 ? isOurs6(packet + ipv6.DESTINATION) : isOurs4(ipv4.destination(packet));
  if (!isOurs) return isToSpecial(packet) ? DROP_SPECIAL_ADDRESS : DROP_DESTINATION_NOT_OURS;
  sender = lookup.ofSource(packet);
  if (sender >= 0 && (isAnyOuterSource || isAt(sender, name))) return 0;
  sender = -1;
  const outer = name + (lane.isV6 ? SIN6_ADDR : SIN_ADDR);
  return checkForeignSource(packet, outer, lookup.ofName(name) >= 0);
}

/** Whether a checked packet from the TUN comes from where it may: 0, or the reason to drop it. */
export function checkSource(packet: i32): i32 {
  const isOurs = lane.isV6 ? isOurs6(packet + ipv6.SOURCE) : isOurs4(ipv4.source(packet));
  return isOurs ? 0 : checkForeignSource(packet, lane.outerAddress(), true);
}
