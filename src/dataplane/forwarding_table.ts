/** The forwarding table: brings what the packet loops read to what is wanted, while they run. */
import type { ForwardingEntry, SkippedPeer } from "../backend/backend.ts";
import { FIB_BLOCK_COUNT_MAX, PEER_COUNT_MAX } from "../../wasm/layout.ts";
import { Epochs, WaitBudget } from "./epochs.ts";
import { Fib } from "./fib.ts";
import type { SharedMemory } from "./memory.ts";
import { type PeerCounters, PeerTable } from "./peer_table.ts";
import { SlotPool } from "./slot_pool.ts";
import { SourceTable } from "./source_table.ts";
import { type WantedPeer, wantedPeers } from "./wanted_peers.ts";

/** How long one `apply` may block until the loops have let go of what it wants to use again. */
const WAIT_MAX_MS = 200;

/** Bounds smaller than the layout's, for tests. */
export interface TableLimits {
  readonly peerCountMax?: number;
  readonly blockCountMax?: number;
  readonly sourceCountMax?: number;
}

interface Peer {
  readonly slot: number;
  served: WantedPeer;
}

/**
 * One writer, any number of readers that never block. A packet goes to the peer that had its
 * destination before or after a change, or is dropped; never to a third.
 */
export class ForwardingTable {
  readonly peerCountMax: number;
  readonly #epochs: Epochs;
  readonly #slots: SlotPool;
  readonly #fib: Fib;
  readonly #sources: SourceTable;
  readonly #entries: PeerTable;
  readonly #peers = new Map<string, Peer>();

  constructor(shared: SharedMemory, limits: TableLimits = {}) {
    this.peerCountMax = limits.peerCountMax ?? PEER_COUNT_MAX;
    this.#epochs = new Epochs(shared);
    this.#slots = new SlotPool(this.peerCountMax, this.#epochs);
    this.#fib = new Fib(shared, this.#epochs, limits.blockCountMax ?? FIB_BLOCK_COUNT_MAX);
    this.#sources = new SourceTable(shared, this.#epochs, limits.sourceCountMax);
    this.#entries = new PeerTable(shared);
  }

  get peerCount(): number {
    return this.#peers.size;
  }

  /**
   * Makes `entries` the whole table. A peer that stays keeps its counters, also with another
   * endpoint or subnet. Returns the peers that cannot be served, and why; they are tried again
   * with the next call. It blocks only if every slot is in use or still held by a loop, and then
   * 200 ms at most.
   */
  apply(entries: readonly ForwardingEntry[]): readonly SkippedPeer[] {
    const { wanted, skipped } = wantedPeers(entries);
    const budget = new WaitBudget(WAIT_MAX_MS);
    const failed: SkippedPeer[] = [];
    for (const [key, peer] of this.#peers) {
      if (!wanted.has(key)) this.#remove(key, peer);
    }
    // Subnets that move are taken out before any is put in: they may have changed places.
    const moved: WantedPeer[] = [];
    for (const peer of wanted.values()) {
      const known = this.#peers.get(peer.key);
      if (known !== undefined && hasMoved(known.served, peer)) {
        this.#fib.remove(known.served.subnet, known.served.subnetLength);
        moved.push(peer);
      }
    }
    for (const peer of wanted.values()) {
      const known = this.#peers.get(peer.key);
      const reason = known === undefined
        ? this.#add(peer, budget)
        : this.#changeEndpoint(known, peer, budget);
      if (reason !== null) failed.push({ key: peer.key, reason });
    }
    for (const peer of moved) {
      const reason = this.#changeSubnet(peer, budget);
      if (reason !== null) failed.push({ key: peer.key, reason });
    }
    return [...skipped, ...failed];
  }

  /** The counters of a peer, by its lease key; null if it is not in the table. */
  counters(key: string): PeerCounters | null {
    const peer = this.#peers.get(key);
    return peer === undefined ? null : this.#entries.counters(peer.slot);
  }

  /** The endpoint first, then the ways that lead to it. Returns why it failed, or null. */
  #add(peer: WantedPeer, budget: WaitBudget): string | null {
    const slot = this.#slots.take(budget);
    if (slot === null) return `the forwarding table is full (${this.peerCountMax} peers)`;
    this.#entries.reset(slot);
    this.#entries.setEndpoint(slot, peer.address, peer.port);
    if (!this.#sources.add(peer.address, slot, budget)) {
      this.#release(slot);
      return "the table of the peers' addresses is full";
    }
    if (!this.#fib.insert(peer.subnet, peer.subnetLength, slot, budget)) {
      this.#sources.remove(peer.address, slot);
      this.#release(slot);
      return "the table of subnets longer than /24 is full";
    }
    this.#peers.set(peer.key, { slot, served: peer });
    return null;
  }

  /** The ways first, then what they led to. */
  #remove(key: string, peer: Peer): void {
    this.#fib.remove(peer.served.subnet, peer.served.subnetLength);
    this.#forget(key, peer);
  }

  /** Removes a peer to whose slot no subnet leads. */
  #forget(key: string, peer: Peer): void {
    this.#sources.remove(peer.served.address, peer.slot);
    this.#release(peer.slot);
    this.#peers.delete(key);
  }

  #release(slot: number): void {
    this.#entries.clearEndpoint(slot);
    this.#slots.release(slot);
  }

  /** What the peer sends from its new address is let in before the first packet goes there. */
  #changeEndpoint(known: Peer, peer: WantedPeer, budget: WaitBudget): string | null {
    const before = known.served;
    if (before === peer) return null;
    if (before.address === peer.address && before.port === peer.port) return null;
    if (before.address !== peer.address) {
      if (!this.#sources.add(peer.address, known.slot, budget)) {
        return "the table of the peers' addresses is full; its old address stays";
      }
      this.#sources.remove(before.address, known.slot);
    }
    this.#entries.setEndpoint(known.slot, peer.address, peer.port);
    known.served = { ...before, address: peer.address, port: peer.port };
    return null;
  }

  /** Leads the new subnet to a peer whose old one was taken out already. */
  #changeSubnet(peer: WantedPeer, budget: WaitBudget): string | null {
    const known = this.#peers.get(peer.key)!;
    if (!this.#fib.insert(peer.subnet, peer.subnetLength, known.slot, budget)) {
      this.#forget(peer.key, known);
      return "the table of subnets longer than /24 is full";
    }
    known.served = { ...known.served, subnet: peer.subnet, subnetLength: peer.subnetLength };
    return null;
  }
}

function hasMoved(before: WantedPeer, after: WantedPeer): boolean {
  return before.subnet !== after.subnet || before.subnetLength !== after.subnetLength;
}
