/** Finds the peers to which no packets pass because their configuration differs from ours. Pure. */
import type { NetworkConfig } from "../config/network_config.ts";
import type { Lease } from "../lease/lease.ts";
import { isObject } from "../net/checked.ts";
import { ofFamily } from "../net/ip.ts";
import { readVxlanOptions } from "./vxlan_options.ts";

export interface PartedPeers {
  /** What they have, such as `backend vxlan`. */
  readonly what: string;
  readonly peers: readonly Lease[];
}

function vniOf({ backendData }: Lease): number | null {
  for (const data of [backendData[4], backendData[6]]) {
    if (isObject(data) && typeof data.VNI === "number") return data.VNI;
  }
  return null;
}

/** How the peer's configuration differs so that no packets pass; null: it does not. */
function differenceOf(peer: Lease, { ranges, backend }: NetworkConfig, vni: number | null) {
  if (peer.backendType !== backend.type) return `backend ${peer.backendType}`;
  const other = vni === null ? null : vniOf(peer);
  if (other !== null && other !== vni) return `VNI ${other}`;
  for (const { family, network } of ranges) {
    const subnet = ofFamily(peer.subnets, family);
    if (subnet === undefined) return `no IPv${family} subnet`;
    if (!network.containsPrefix(subnet)) return `a subnet outside ${network}`;
  }
  return null;
}

/**
 * Whether the host of this lease has ever written it. A host of an older Selvage, or with flanneld,
 * leaves no mark: with vxlan it is known by its data.
 */
function hasCome({ expiry_ms, node, backendData }: Lease): boolean {
  if (expiry_ms !== null || node !== undefined) return true;
  return backendData[4] !== undefined || backendData[6] !== undefined;
}

/** The address by which `sameNode` tells nodes apart. */
function nodeAddress({ publicAddresses }: Lease): string {
  return String(ofFamily(publicAddresses, 4) ?? ofFamily(publicAddresses, 6));
}

function countByNode(peers: readonly Lease[]): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const peer of peers) {
    const address = nodeAddress(peer);
    counts.set(address, (counts.get(address) ?? 0) + 1);
  }
  return counts;
}

/**
 * The peers that go by another configuration, by what they have. A reservation whose host has not
 * come keeps the backend of when it was made: it is left out, unless `isOutdated`, where this host
 * is the one that goes by an old configuration and every difference counts. `isOwn` leaves out
 * other leases of this host's own.
 */
export function findPartedPeers(
  config: NetworkConfig,
  peers: readonly Lease[],
  isOutdated: boolean,
  isOwn: (lease: Lease) => boolean = () => false,
): PartedPeers[] {
  const vni = config.backend.type === "vxlan" ? readVxlanOptions(config).vni : null;
  const groups = new Map<string, Lease[]>();
  // Counted only if it is asked for, and once for all of thousands of peers.
  let leaseCounts: ReadonlyMap<string, number> | null = null;
  for (const peer of peers) {
    const what = differenceOf(peer, config, vni);
    if (what === null || isOwn(peer)) continue;
    if (!isOutdated && !hasCome(peer)) continue;
    // A host that moved to another network leaves its reservation behind.
    if (peer.expiry_ms === null) {
      leaseCounts ??= countByNode(peers);
      if (leaseCounts.get(nodeAddress(peer))! > 1) continue;
    }
    const group = groups.get(what);
    if (group === undefined) groups.set(what, [peer]);
    else group.push(peer);
  }
  return [...groups].map(([what, group]) => ({ what, peers: group }));
}
