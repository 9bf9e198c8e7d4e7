/**
 * The forwarding table of one address family: brings what the packet loops read to what is wanted,
 * while they run.
 */
import type { ForwardingEntry, SkippedPeer } from "../backend/backend.ts";
import { PEER_COUNT_MAX } from "../../wasm/layout.ts";
import type { Family } from "../net/ip.ts";
import { Epochs, WaitBudget } from "./epochs.ts";
import { createLookUp, type LookUp, type LookUpLimits } from "./look_up.ts";
import type { SharedMemory } from "./memory.ts";
import { type PeerCounters, PeerTable } from "./peer_table.ts";
import { SlotPool } from "./slot_pool.ts";

/** How long one `apply` may block until the loops have let go of what it wants to use again. */
const WAIT_MAX_MS = 200;

/** Bounds smaller than the layout's, for tests. */
export interface TableLimits extends LookUpLimits {
  readonly peerCountMax?: number;
}

interface Peer {
  readonly slot: number;
  /** What is in the tables. */
  served: ForwardingEntry;
}

/**
 * One writer, any number of readers that never block. A packet goes to the peer that had its
 * destination before or after a change, or is dropped; never to a third.
 */
export class ForwardingTable {
  readonly peerCountMax: number;
  readonly #slots: SlotPool;
  readonly #lookUp: LookUp;
  readonly #entries: PeerTable;
  readonly #peers = new Map<string, Peer>();

  constructor(shared: SharedMemory, family: Family, limits: TableLimits = {}) {
    const epochs = new Epochs(shared);
    this.peerCountMax = limits.peerCountMax ?? PEER_COUNT_MAX;
    this.#slots = new SlotPool(this.peerCountMax, epochs);
    this.#lookUp = createLookUp(family, shared, epochs, limits);
    this.#entries = new PeerTable(shared, family);
  }

  get peerCount(): number {
    return this.#peers.size;
  }

  /**
   * Makes `entries`, which are as a plan has them, the whole table. One that is the same object as
   * before costs nothing. A peer that stays keeps its counters, also with another endpoint or
   * subnet. Returns the peers for which there is no room; they are tried again with the next call.
   * It blocks only if every slot is in use or still held by a loop, and then 200 ms at most.
   */
  apply(entries: readonly ForwardingEntry[]): readonly SkippedPeer[] {
    const wanted = new Set<string>();
    for (const { key } of entries) wanted.add(key);
    for (const [key, peer] of this.#peers) {
      if (!wanted.has(key)) this.#remove(key, peer);
    }
    const changed = entries.filter((entry) => this.#peers.get(entry.key)?.served !== entry);
    // Subnets that move are taken out before any is put in: they may have changed places.
    const moved: ForwardingEntry[] = [];
    for (const entry of changed) {
      const known = this.#peers.get(entry.key);
      if (known === undefined || known.served.subnet.equals(entry.subnet)) continue;
      this.#lookUp.removeSubnet(known.served.subnet, known.slot);
      moved.push(entry);
    }
    const budget = new WaitBudget(WAIT_MAX_MS);
    const failed: SkippedPeer[] = [];
    for (const entry of changed) {
      const known = this.#peers.get(entry.key);
      const reason = known === undefined
        ? this.#add(entry, budget)
        : this.#changeEndpoint(known, entry, budget);
      if (reason !== null) failed.push({ key: entry.key, reason });
    }
    for (const entry of moved) {
      const reason = this.#changeSubnet(entry, budget);
      if (reason !== null) failed.push({ key: entry.key, reason });
    }
    return failed;
  }

  /** The counters of a peer, by its lease key; null if it is not in the table. */
  counters(key: string): PeerCounters | null {
    const peer = this.#peers.get(key);
    return peer === undefined ? null : this.#entries.counters(peer.slot);
  }

  /** See `PeerTable.setPathMtu`; it is nothing for a peer that is not in the table. */
  setPathMtu(key: string, mtu_bytes: number, until_ms: number): void {
    const peer = this.#peers.get(key);
    if (peer !== undefined) this.#entries.setPathMtu(peer.slot, mtu_bytes, until_ms);
  }

  /** The lease key of the peer in a slot; null if none is in it. Linear in the peers. */
  keyOf(slot: number): string | null {
    for (const [key, peer] of this.#peers) {
      if (peer.slot === slot) return key;
    }
    return null;
  }

  /** The endpoint first, then the ways that lead to it. Returns why it failed, or null. */
  #add(entry: ForwardingEntry, budget: WaitBudget): string | null {
    const slot = this.#slots.take(budget);
    if (slot === null) return `the forwarding table is full (${this.peerCountMax} peers)`;
    this.#entries.reset(slot);
    this.#entries.setEndpoint(slot, entry);
    if (!this.#lookUp.addSource(entry.address, slot, budget)) {
      this.#release(slot);
      return "the table of the peers' addresses is full";
    }
    if (!this.#lookUp.addSubnet(entry.subnet, slot, budget)) {
      this.#lookUp.removeSource(entry.address, slot);
      this.#release(slot);
      return "the table of subnets is full";
    }
    this.#peers.set(entry.key, { slot, served: entry });
    return null;
  }

  /** The ways first, then what they led to. */
  #remove(key: string, peer: Peer): void {
    this.#lookUp.removeSubnet(peer.served.subnet, peer.slot);
    this.#forget(key, peer);
  }

  /** Removes a peer to whose slot no subnet leads. */
  #forget(key: string, peer: Peer): void {
    this.#lookUp.removeSource(peer.served.address, peer.slot);
    this.#release(peer.slot);
    this.#peers.delete(key);
  }

  #release(slot: number): void {
    this.#entries.clearEndpoint(slot);
    this.#slots.release(slot);
  }

  /** What the peer sends from its new address is let in before the first packet goes there. */
  #changeEndpoint(known: Peer, entry: ForwardingEntry, budget: WaitBudget): string | null {
    const before = known.served;
    const hasMoved = !before.address.equals(entry.address);
    if (hasMoved) {
      if (!this.#lookUp.addSource(entry.address, known.slot, budget)) {
        return "the table of the peers' addresses is full; its old address stays";
      }
      this.#lookUp.removeSource(before.address, known.slot);
    }
    if (hasMoved || before.port !== entry.port || !isSameVtep(before, entry)) {
      this.#entries.setEndpoint(known.slot, entry);
    }
    known.served = { ...entry, subnet: before.subnet };
    if (before.subnet.equals(entry.subnet)) known.served = entry;
    return null;
  }

  /** Leads the new subnet to a peer whose old one was taken out already. */
  #changeSubnet(entry: ForwardingEntry, budget: WaitBudget): string | null {
    const known = this.#peers.get(entry.key)!;
    if (!this.#lookUp.addSubnet(entry.subnet, known.slot, budget)) {
      this.#forget(entry.key, known);
      return "the table of subnets is full";
    }
    known.served = { ...known.served, subnet: entry.subnet };
    return null;
  }
}

function isSameVtep(a: ForwardingEntry, b: ForwardingEntry): boolean {
  return a.vtepMac === b.vtepMac || (b.vtepMac !== null && a.vtepMac?.equals(b.vtepMac) === true);
}
