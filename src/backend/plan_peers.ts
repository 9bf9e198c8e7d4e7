/** What is common to all backends: the plan of every peer. */
import { isAwaitingHost, type Lease, leaseKey } from "../lease/lease.ts";
import { bitsOf, type Family, IpPrefix, ofFamily } from "../net/ip.ts";
import type { PeerEntry, PlanInput, SkippedPeer } from "./backend.ts";

/**
 * The entry of one peer in one family, or why it cannot be served. A pure function of the module:
 * what it returned for a lease is used again for as long as the rest of the input is the same.
 */
export type PlanPeer<E extends PeerEntry> = (
  peer: Lease,
  family: Family,
  input: PlanInput,
) => E | string;

/** Why packets are not carried to a reservation whose host has not come yet. */
export const NOT_COME_YET = "it is reserved, and its host has not come yet";

export interface PlannedPeers<E extends PeerEntry> {
  /** In the order of the subnets, IPv4 first; no two overlap. */
  readonly entries: readonly E[];
  readonly skipped: readonly SkippedPeer[];
}

/** What has been planned for one node, and what that depends on besides the peer. */
interface Memory<E extends PeerEntry> {
  readonly input: Pick<PlanInput, "config" | "link" | "vtepMacs" | "surroundings">;
  readonly planPeer: PlanPeer<E>;
  readonly planned: Readonly<Record<Family, WeakMap<Lease, E | string>>>;
}

/** By our own lease: whoever drops it, drops what was planned with it. */
const memories = new WeakMap<Lease, Memory<PeerEntry>>();

function memoryFor<E extends PeerEntry>(input: PlanInput, planPeer: PlanPeer<E>): Memory<E> {
  const known = memories.get(input.lease) as Memory<E> | undefined;
  if (
    known?.planPeer === planPeer && known.input.config === input.config &&
    known.input.link === input.link && known.input.vtepMacs === input.vtepMacs &&
    known.input.surroundings === input.surroundings
  ) return known;
  const { config, link, vtepMacs, surroundings } = input;
  const memory: Memory<E> = {
    input: { config, link, vtepMacs, surroundings },
    planPeer,
    planned: { 4: new WeakMap(), 6: new WeakMap() },
  };
  memories.set(input.lease, memory as Memory<PeerEntry>);
  return memory;
}

/** Orders by the subnet, IPv4 first; the leases of a table mostly are in this order already. */
function sort(entries: PeerEntry[]): void {
  const isSorted = entries.every((entry, i) =>
    i === 0 || entries[i - 1]!.subnet.compare(entry.subnet) <= 0
  );
  if (!isSorted) entries.sort((a, b) => a.subnet.compare(b.subnet));
}

/** The one of these, sorted and apart from each other, that overlaps the subnet. */
function findOverlap<E extends PeerEntry>(entries: readonly E[], subnet: IpPrefix): E | undefined {
  let [low, high] = [0, entries.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (entries[middle]!.subnet.compare(subnet) < 0) low = middle + 1;
    else high = middle;
  }
  return [entries[low - 1], entries[low]].find((one) => one?.subnet.overlaps(subnet));
}

/**
 * The entries without those that overlap others, sorted. What has the length of the network's
 * subnets goes before what has another, which is a reservation, or a foreign hand's: one key too
 * wide must not cut off all hosts within it. Of equals the first is kept.
 */
function withoutOverlaps<E extends PeerEntry>(
  sorted: readonly E[],
  { ranges }: PlanInput["config"],
  skipped: SkippedPeer[],
): E[] {
  const lengths = new Map(ranges.map(({ family, subnetLength }) => [family, subnetLength]));
  const isUsual = ({ subnet }: E) => subnet.length === lengths.get(subnet.family);
  const usual = sorted.every(isUsual) ? sorted : sorted.filter(isUsual);
  const entries: E[] = [];
  for (const entry of sorted) {
    // Sorted, so that an entry can only overlap the last one that was kept.
    const last = entries.at(-1);
    const other = last?.subnet.overlaps(entry.subnet)
      ? last
      : usual === sorted || isUsual(entry)
      ? undefined
      : findOverlap(usual, entry.subnet);
    if (other === undefined) entries.push(entry);
    else skipped.push({ key: entry.key, reason: `its subnet overlaps ${other.subnet}` });
  }
  return entries;
}

/**
 * The entries without those whose public address lies in a subnet that is routed into the overlay,
 * our own included: datagrams to it would be routed there as well. In most networks there are none
 * in the whole network.
 */
function withoutEnclosed<E extends PeerEntry>(
  entries: readonly E[],
  { config, lease }: PlanInput,
  skipped: SkippedPeer[],
): readonly E[] {
  const isInNetwork = ({ address }: E) =>
    ofFamily(config.ranges, address.family)?.network
      .contains(address) === true;
  if (!entries.some(isInNetwork)) return entries;
  return entries.filter((entry) => {
    if (!isInNetwork(entry)) return true;
    const { address, key } = entry;
    const host = IpPrefix.of(address, bitsOf(address.family));
    const own = lease.subnets.find((subnet) => subnet.contains(address));
    const subnet = own ?? findOverlap(entries, host)?.subnet;
    if (subnet === undefined) return true;
    const reason = `its public address ${address} lies in the subnet ${subnet}, which is routed ` +
      "into the overlay";
    skipped.push({ key, reason });
    return false;
  });
}

/** The same, with a word on those that are left out in one family and served in the other. */
function withOtherFamily(
  skipped: SkippedPeer[],
  served: readonly PeerEntry[],
): SkippedPeer[] {
  if (skipped.length === 0) return skipped;
  const keys = new Set(served.map(({ key }) => key));
  return skipped.map(({ key, reason }) => ({
    key,
    reason: keys.has(key) ? `${reason}; its other family is served` : reason,
  }));
}

/**
 * Plans each peer in each of the families: its entry, or why it is left out. No two entries
 * overlap. While the config, link, VTEPs and own lease are the same objects, a
 * lease that is the same object has the identical entry.
 */
export function planPeers<E extends PeerEntry>(
  input: PlanInput,
  families: readonly Family[],
  planPeer: PlanPeer<E>,
): PlannedPeers<E> {
  const { planned } = memoryFor(input, planPeer);
  const skipped: SkippedPeer[] = [];
  const reasons = new Map<Lease, string>();
  const all: E[] = [];
  for (const family of families) {
    for (const peer of input.peers) {
      let one = planned[family].get(peer);
      if (one === undefined) {
        one = planPeer(peer, family, input);
        // Last, because a fault of the reservation itself does not go when the host comes.
        if (typeof one !== "string" && isAwaitingHost(peer)) one = NOT_COME_YET;
        planned[family].set(peer, one);
      }
      if (typeof one !== "string") {
        all.push(one);
      } else if (reasons.get(peer) !== one) {
        // What holds in both families is said once.
        reasons.set(peer, one);
        skipped.push({ key: leaseKey(peer.subnets), reason: one });
      }
    }
  }
  sort(all);
  const told = families.length > 1 ? withOtherFamily(skipped, all) : skipped;
  const apart = withoutOverlaps(all, input.config, told);
  return { entries: withoutEnclosed(apart, input, told), skipped: told };
}
