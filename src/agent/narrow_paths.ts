/** Says of paths that have turned out to carry less than the tunnel's MTU promises. */
import type { PeerEntry } from "../backend/backend.ts";
import type { Dataplane } from "../dataplane/dataplane.ts";
import { logger } from "../log.ts";

export interface NarrowPathsOptions {
  /** null: it is not running. */
  readonly dataplane: () => Pick<Dataplane, "status" | "peer"> | null;
  /** How often probes have found a narrow path. */
  readonly probedCount: () => number;
  readonly peers: () => readonly Pick<PeerEntry, "key">[];
}

export class NarrowPaths {
  readonly #options: NarrowPathsOptions;
  readonly #log = logger("data-path");
  #count = 0;
  /** What was said already, by lease key. */
  readonly #told = new Map<string, number>();

  constructor(options: NarrowPathsOptions) {
    this.#options = options;
  }

  /**
   * Logs each narrow path once, and again when it carries another size. To be called every few
   * seconds.
   */
  report(): void {
    const plane = this.#options.dataplane();
    const count = (plane?.status().narrowPaths ?? 0) + this.#options.probedCount();
    if (plane === null || count === this.#count) return;
    this.#count = count;
    const peers = this.#options.peers();
    // Of peers that are gone nothing is kept for long.
    if (this.#told.size > peers.length) this.#told.clear();
    for (const { key } of peers) {
      const mtu_bytes = plane.peer(key)?.pathMtu_bytes ?? null;
      if (mtu_bytes === null || this.#told.get(key) === mtu_bytes) continue;
      this.#told.set(key, mtu_bytes);
      this.#log.warning`the path to ${key} carries packets of ${mtu_bytes} bytes at most`;
    }
  }
}
