/** What every backend asks of a peer before it sends to it. */
import { type Lease, leaseKey } from "../lease/lease.ts";
import { type Family, ofFamily } from "../net/ip.ts";
import type { PeerEntry, PlanInput } from "./backend.ts";

/**
 * Subnet and public address of a peer in one family, or why it cannot be served: another backend,
 * no such family, an address that is ours, no host's or inside the network, or a subnet that lies
 * outside the network or is ours.
 */
export function reachPeer(
  peer: Lease,
  family: Family,
  backendType: string,
  input: PlanInput,
): PeerEntry | string {
  const { config, link, lease } = input;
  if (peer.backendType !== backendType) {
    return `its backend is ${peer.backendType}, ours is ${backendType}`;
  }
  const subnet = ofFamily(peer.subnets, family);
  const address = ofFamily(peer.publicAddresses, family);
  if (subnet === undefined || address === undefined) {
    return `it has no IPv${family} subnet or address`;
  }
  if (ofFamily(link.publicAddresses, family)?.equals(address)) {
    return `it has our public address ${address}`;
  }
  // A link-local IPv6 address says nothing without its link.
  if (!address.isHost() || (family === 6 && address.isLinkLocal())) {
    return `its public address ${address} is not a host's`;
  }
  const network = ofFamily(config.ranges, family)?.network;
  // Its datagrams would be routed into the tunnel, and each into another, without end.
  if (network?.contains(address)) return `its public address ${address} lies in the network`;
  if (!network?.containsPrefix(subnet)) return "it lies outside the network";
  if (ofFamily(lease.subnets, family)?.overlaps(subnet)) return "its subnet overlaps ours";
  return { key: leaseKey(peer.subnets), subnet, address };
}
