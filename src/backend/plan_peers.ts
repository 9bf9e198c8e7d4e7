/** What is common to all backends that forward in user space: the plan of every peer. */
import { type Lease, leaseKey } from "../lease/lease.ts";
import type { Family } from "../net/ip.ts";
import type { ForwardingEntry, Plan, PlanInput, SkippedPeer } from "./backend.ts";

/**
 * The entry of one peer in one family, or why it cannot be served. A pure function of the module:
 * what it returned for a lease is used again for as long as the rest of the input is the same.
 */
export type PlanPeer = (peer: Lease, family: Family, input: PlanInput) => ForwardingEntry | string;

type PlannedPeers = WeakMap<Lease, ForwardingEntry | string>;

/** What has been planned for one node, and what that depends on besides the peer. */
interface Memory {
  readonly input: Pick<PlanInput, "config" | "link" | "vtepMacs">;
  readonly planPeer: PlanPeer;
  readonly planned: Readonly<Record<Family, PlannedPeers>>;
}

/** By our own lease: whoever drops it, drops what was planned with it. */
const memories = new WeakMap<Lease, Memory>();

function memoryFor(input: PlanInput, planPeer: PlanPeer): Memory {
  const known = memories.get(input.lease);
  if (
    known?.planPeer === planPeer && known.input.config === input.config &&
    known.input.link === input.link && known.input.vtepMacs === input.vtepMacs
  ) return known;
  const memory: Memory = {
    input: { config: input.config, link: input.link, vtepMacs: input.vtepMacs },
    planPeer,
    planned: { 4: new WeakMap(), 6: new WeakMap() },
  };
  memories.set(input.lease, memory);
  return memory;
}

/** Orders by the subnet, IPv4 first; the leases of a table mostly are in this order already. */
function sort(entries: ForwardingEntry[]): void {
  const isSorted = entries.every((entry, i) =>
    i === 0 || entries[i - 1]!.subnet.compare(entry.subnet) <= 0
  );
  if (!isSorted) entries.sort((a, b) => a.subnet.compare(b.subnet));
}

/**
 * Plans each peer in each of the families: its entry, or why it is left out. The entries are in the
 * order of the subnets, IPv4 first, and no two overlap: of two that do the first is kept. While the
 * config, link, VTEPs and own lease are the same objects, a lease that is the same object has the
 * identical entry.
 */
export function planPeers(
  input: PlanInput,
  families: readonly Family[],
  planPeer: PlanPeer,
): Pick<Plan, "forwarding" | "skipped"> {
  const { planned } = memoryFor(input, planPeer);
  const skipped: SkippedPeer[] = [];
  const entries: ForwardingEntry[] = [];
  for (const family of families) {
    for (const peer of input.peers) {
      let one = planned[family].get(peer);
      if (one === undefined) {
        one = planPeer(peer, family, input);
        planned[family].set(peer, one);
      }
      if (typeof one !== "string") entries.push(one);
      else skipped.push({ key: leaseKey(peer.subnets), reason: one });
    }
  }
  sort(entries);
  // Sorted, so that an entry can only overlap the last one that was kept.
  const forwarding: ForwardingEntry[] = [];
  for (const entry of entries) {
    const last = forwarding.at(-1);
    if (last?.subnet.overlaps(entry.subnet)) {
      skipped.push({ key: entry.key, reason: `its subnet overlaps ${last.subnet}` });
    } else {
      forwarding.push(entry);
    }
  }
  return { forwarding, skipped };
}
