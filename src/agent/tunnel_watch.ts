/** Watches the tunnels in user space: what paths carry, and peers with faults. */
import type { ForwardingEntry, Tunnel } from "../backend/backend.ts";
import type { Dataplane } from "../dataplane/dataplane.ts";
import { logger } from "../log.ts";
import { NarrowPaths } from "./narrow_paths.ts";
import { assumedByKernel, exchangeProbes, followTooBig } from "./path_exchange.ts";
import { PathProber } from "./path_prober.ts";
import { SilentPeers } from "./silent_peers.ts";
import { type TunnelNotice, tunnelNotices } from "./tunnel_notices.ts";

const LOOK_MS = 10_000;

export interface TunnelWatchOptions {
  readonly tunnels: readonly Tunnel[];
  /** null: it is not running. */
  readonly dataplane: () => Dataplane | null;
  readonly peers: () => readonly ForwardingEntry[];
}

export class TunnelWatch {
  readonly #options: TunnelWatchOptions;
  readonly #log = logger("data-path");
  readonly #closing = new AbortController();
  readonly #prober: PathProber;
  readonly #narrowPaths: NarrowPaths;
  readonly #silentPeers: SilentPeers;
  /** Their ids. */
  #logged: ReadonlySet<string> = new Set();
  /** To all peers together, as of the last look. */
  #sentPackets = 0;
  readonly #timer = setInterval(() => this.#look(), LOOK_MS);

  /** Begins to watch, until `stop`. */
  constructor(options: TunnelWatchOptions) {
    this.#options = options;
    const { dataplane, peers, tunnels } = options;
    const prober = new PathProber({
      dataplane,
      peers,
      exchange: (peer, sizes) => exchangeProbes(dataplane(), peer, sizes),
      assumedByKernel,
    });
    for (const { family, port } of tunnels) {
      const onTooBig = prober.onTooBig.bind(prober);
      void followTooBig(family, port, onTooBig, this.#closing.signal);
    }
    this.#prober = prober;
    this.#narrowPaths = new NarrowPaths({
      dataplane,
      probedCount: () => prober.narrowCount,
      peers,
    });
    this.#silentPeers = new SilentPeers({
      peers,
      counters: (key) => dataplane()?.peer(key) ?? null,
    });
  }

  #look(): void {
    const sentPackets = this.#options.dataplane()?.status().sentPackets ?? 0;
    // Nothing new can be found out about the peers of an idle node.
    if (sentPackets !== this.#sentPackets) {
      this.#prober.lookAtKernel();
      this.#silentPeers.look();
    }
    this.#sentPackets = sentPackets;
    this.#narrowPaths.report();
    this.#logNotices();
  }

  /** What an operator should know of the peers, one sentence or two each; `now_ms` since 1970. */
  notices(now_ms: number): readonly string[] {
    return this.#notices(now_ms).map(({ text }) => text);
  }

  #notices(now_ms: number): readonly TunnelNotice[] {
    const { tunnels } = this.#options;
    const status = this.#options.dataplane()?.status();
    if (status === undefined) return [];
    const silent = this.#silentPeers.silent;
    return tunnelNotices({ status, peers: this.#options.peers(), silent, tunnels }, now_ms);
  }

  /** Logs each notice once, and again after it has been gone. */
  #logNotices(): void {
    const notices = this.#notices(Date.now());
    for (const { id, text } of notices) {
      if (!this.#logged.has(id)) this.#log.warning`${text}`;
    }
    this.#logged = new Set(notices.map(({ id }) => id));
  }

  stop(): void {
    this.#closing.abort();
    clearInterval(this.#timer);
    this.#prober.stop();
  }
}
