/** Pieces of desired kernel state that several backends have. */
import type { NetworkConfig, SubnetRange } from "../config/network_config.ts";
import { SelvageError } from "../errors.ts";
import type { DesiredAddress, DesiredRoute } from "../kernel/state.ts";
import type { Lease } from "../lease/lease.ts";
import { bitsOf, type Family, type IpPrefix, ofFamily } from "../net/ip.ts";
import type { PeerEntry } from "./backend.ts";

/** The way of the whole network into a device. */
export function networkRoute(network: IpPrefix, linkName: string): DesiredRoute {
  return { destination: network, linkName, gateway: null, isOnLink: false, peerKey: null };
}

/** The way to a peer's subnet straight through the outer interface. */
export function directRoute({ subnet, address, key }: PeerEntry, linkName: string): DesiredRoute {
  return { destination: subnet, linkName, gateway: address, isOnLink: false, peerKey: key };
}

/** The first address of our own subnet, which flannel gives to its device. */
export function deviceAddress(lease: Lease, family: Family, linkName: string): DesiredAddress {
  const subnet = ofFamily(lease.subnets, family);
  if (subnet === undefined) throw new SelvageError("internal", `a lease without IPv${family}`);
  return { linkName, address: subnet.address, prefixLength: bitsOf(family) };
}

/** The families that the network has, IPv4 first. */
export function familiesOf({ ranges }: NetworkConfig): Family[] {
  return ranges.map(({ family }) => family);
}

export function networkOf(config: NetworkConfig, family: Family): IpPrefix {
  return ofFamily<SubnetRange>(config.ranges, family)!.network;
}
