/** What every backend asks of a peer before it sends to it. */
import type { OuterLink } from "../kernel/outer_link.ts";
import { type Lease, leaseKey } from "../lease/lease.ts";
import { isTakenBy, type Surrounding } from "../kernel/surroundings.ts";
import { bitsOf, type Family, type IpAddress, type IpPrefix, ofFamily } from "../net/ip.ts";
import type { PeerEntry, PlanInput } from "./backend.ts";

/** A prefix of fewer host bits has no broadcast address (RFC 3021). */
const BROADCAST_HOST_BITS_MIN = 2;

/** Whether the address is the broadcast address of a prefix on the outer link. */
function isDirectedBroadcast(address: IpAddress, { ways }: OuterLink): boolean {
  const lengthMax = bitsOf(4) - BROADCAST_HOST_BITS_MIN;
  return address.family === 4 &&
    ways.some(({ destination, isDirect }) =>
      isDirect && destination.family === 4 && destination.length <= lengthMax &&
      destination.last.equals(address)
    );
}

/** Why a peer with this public address cannot be served; null: it can be. */
function addressFault(address: IpAddress, link: OuterLink): string | null {
  const { family } = address;
  if (ofFamily(link.publicAddresses, family)?.equals(address)) {
    return `it has our public address ${address}`;
  }
  const isNone = (kind: string) => `its public address ${address} is not a host's: it is ${kind}`;
  if (ofFamily(link.addresses, family)?.equals(address)) {
    return `its public address ${address} is ours, on ${link.name}`;
  }
  if (address.isUnspecified()) return isNone("unspecified");
  if (address.isLoopback()) return isNone("a loopback address");
  if (address.isMulticast()) return isNone("a multicast address");
  // A link-local IPv6 address says nothing without its link.
  if (family === 6 && address.isLinkLocal()) return isNone("a link-local address");
  if (isDirectedBroadcast(address, link)) return isNone(`the broadcast address of ${link.name}`);
  if (!address.isHost()) return isNone("a broadcast or reserved address");
  const isLocal = link.localAddresses?.some((one) => one.equals(address)) === true;
  return isLocal ? `its public address ${address} is this host's own` : null;
}

/** What a route for the subnet would cut this host off from; null: nothing that counts. */
export function findTaken(
  subnet: IpPrefix,
  { surroundings, config, lease }: Pick<PlanInput, "surroundings" | "config"> & {
    readonly lease: Pick<Lease, "subnets">;
  },
): Surrounding | null {
  const lengthMin = ofFamily(config.ranges, subnet.family)!.subnetLength;
  // Containers of this host may be at the interface, also those of an earlier run.
  const isOfContainers = ({ mayBeContainers, prefix, ownAddress }: Surrounding) =>
    mayBeContainers &&
    (prefix.length >= lengthMin ||
      (ownAddress !== null && lease.subnets.some((own) => own.contains(ownAddress))));
  const taken = surroundings?.find((one) => isTakenBy(one, subnet) && !isOfContainers(one));
  return taken ?? null;
}

/**
 * Subnet and public address of a peer in one family, or why it cannot be served: another backend,
 * no such family, an address that is ours, not a unicast address or inside the network, or a
 * subnet that lies outside the network, is ours, or would cut this host off from what it needs.
 * `routesWholeNetwork`: as of `Backend`.
 */
export function reachPeer(
  peer: Lease,
  family: Family,
  backendType: string,
  input: PlanInput,
  routesWholeNetwork = false,
): PeerEntry | string {
  const { config, link, lease } = input;
  // A reservation keeps the backend of when it was made, until its host comes.
  if (peer.backendType !== backendType && peer.awaitsHost !== true) {
    return `its backend is ${peer.backendType}, ours is ${backendType}`;
  }
  const subnet = ofFamily(peer.subnets, family);
  const address = ofFamily(peer.publicAddresses, family);
  if (subnet === undefined || address === undefined) {
    return `it has no IPv${family} subnet or address`;
  }
  const fault = addressFault(address, link);
  if (fault !== null) return fault;
  const network = ofFamily(config.ranges, family)?.network;
  // Its datagrams would be routed into the tunnel, and each into another, without end.
  if (routesWholeNetwork && network?.contains(address)) {
    return `its public address ${address} lies in the network`;
  }
  if (!network?.containsPrefix(subnet)) return "it lies outside the network";
  if (!routesWholeNetwork) {
    const takes = findTaken(subnet, input);
    if (takes !== null) return `its subnet would cut off ${takes.what} from this host`;
  }
  if (ofFamily(lease.subnets, family)?.overlaps(subnet)) return "its subnet overlaps ours";
  return { key: leaseKey(peer.subnets), subnet, address };
}
