/** Finds peers that packets are sent to and from which nothing comes. */
import type { PeerEntry } from "../backend/backend.ts";
import type { PeerCounters } from "../dataplane/peer_table.ts";

/** How long nothing came from a peer, and how many packets went to it meanwhile. */
const SILENT_AFTER_MS = 60_000;
const SENT_PACKETS_MIN = 20;

export interface SilentPeer {
  readonly key: string;
  /** Its outer address; of a peer of two families both, since its counters are those of both. */
  readonly address: string;
  /** Packets sent to it since something last came. */
  readonly sentPackets: number;
  readonly silentFor_ms: number;
}

interface Seen {
  receivedPackets: number;
  /** As of when something last came. */
  sentBefore: number;
  heard_ms: number;
  sentPackets: number;
  sent_ms: number;
}

export interface SilentPeersOptions {
  readonly peers: () => readonly PeerEntry[];
  /** null: the peer is not served. */
  readonly counters: (key: string) => PeerCounters | null;
  /** The monotonic clock; in tests another. */
  readonly now_ms?: () => number;
}

export class SilentPeers {
  readonly #options: SilentPeersOptions;
  readonly #now_ms: () => number;
  readonly #seen = new Map<string, Seen>();

  constructor(options: SilentPeersOptions) {
    this.#options = options;
    this.#now_ms = options.now_ms ?? (() => performance.now());
  }

  /**
   * Compares the counters of all peers with those of the last look. To be called every few seconds
   * in which something was sent.
   */
  look(): void {
    const now = this.#now_ms();
    const peers = this.#options.peers();
    const keys = new Set(peers.map(({ key }) => key));
    for (const key of this.#seen.keys()) {
      if (!keys.has(key)) this.#seen.delete(key);
    }
    for (const key of keys) {
      const counters = this.#options.counters(key);
      if (counters !== null) this.#note(key, counters, now);
    }
  }

  #note(key: string, { sentPackets, receivedPackets }: PeerCounters, now: number): void {
    const seen = this.#seen.get(key);
    // Counters that went down are those of another data plane.
    const isNew = seen === undefined || receivedPackets !== seen.receivedPackets ||
      sentPackets < seen.sentPackets;
    if (isNew) {
      const fresh = { receivedPackets, sentPackets, sentBefore: sentPackets };
      this.#seen.set(key, { ...fresh, heard_ms: now, sent_ms: now });
      return;
    }
    if (sentPackets !== seen.sentPackets) seen.sent_ms = now;
    seen.sentPackets = sentPackets;
  }

  /** The peers that are silent now although packets are still sent to them. */
  get silent(): readonly SilentPeer[] {
    const now = this.#now_ms();
    if (this.#seen.size === 0) return [];
    const addresses = new Map<string, string[]>();
    for (const { key, address } of this.#options.peers()) {
      addresses.set(key, [...addresses.get(key) ?? [], String(address)]);
    }
    return [...addresses].flatMap(([key, own]) => {
      const seen = this.#seen.get(key);
      if (seen === undefined || now - seen.sent_ms > SILENT_AFTER_MS) return [];
      const silentFor_ms = now - seen.heard_ms;
      const sentPackets = seen.sentPackets - seen.sentBefore;
      if (silentFor_ms < SILENT_AFTER_MS || sentPackets < SENT_PACKETS_MIN) return [];
      return [{ key, address: own.join(" and "), sentPackets, silentFor_ms }];
    });
  }
}
