/**
 * Decides what the path to each peer carries. Anybody can forge the ICMP messages by which routers
 * say so, so each is only a reason to ask: probes of the full size and of the smaller ones go to
 * the peer through the tunnel, and its kernel answers them.
 *
 * - An answer to the full size refutes the message: nothing changes.
 * - If only smaller ones are answered, the path carries the largest of these. It is probed again
 *   every 20 seconds, until the full size is answered.
 * - If nothing is answered (a peer that answers no echo requests), the message is believed for ten
 *   seconds, and only down to `PATH_MTU_FLOOR`.
 */
import { PATH_MTU_BELIEVED_MAX_MS, PATH_MTU_FLOOR } from "../../wasm/layout.ts";
import type { ForwardingEntry } from "../backend/backend.ts";
import type { Dataplane } from "../dataplane/dataplane.ts";
import { overheadBytes, type TooBig } from "../dataplane/path_probe.ts";
import { logger } from "../log.ts";

const ATTEMPT_COUNT = 3;
/** How long after an answer to the full size a peer is not probed again. */
const WIDE_PAUSE_MS = 3_000;
const NARROW_PERIOD_MS = 20_000;
const UNCONFIRMED_MS = 10_000;
/** How many peers are probed at the same time; messages about others are ignored. */
const ASKED_COUNT_MAX = 16;
/** How many messages are read in a second, from all senders together. */
const MESSAGES_PER_SECOND = 50;
const SECOND_MS = 1_000;
/** Of how many peers one look asks what the kernel assumes, such as from a route's own MTU. */
const LOOK_PEER_COUNT = 64;
/** Below it no probe has room for its token. */
const PROBE_BYTES_MIN = 68;

/** The part of the data plane that is used here. */
export type ProbedPlane = Pick<Dataplane, "overlay" | "setPathMtu">;

export interface PathProberOptions {
  /** null: it is not running. */
  readonly dataplane: () => ProbedPlane | null;
  readonly peers: () => readonly ForwardingEntry[];
  /** Sends one probe of each size (bytes of inner packets), the longest first; which came back. */
  readonly exchange: (
    peer: ForwardingEntry,
    sizes_bytes: readonly number[],
  ) => Promise<ReadonlySet<number>>;
  /** Bytes of an outer packet that the kernel assumes for the path to a peer; or -errno. */
  readonly assumedByKernel: (peer: ForwardingEntry) => number;
  /** The monotonic clock; in tests another. */
  readonly now_ms?: () => number;
}

/** What is known of one peer's path. */
interface Path {
  readonly peer: ForwardingEntry;
  /** Bytes of inner packets; 0: the full size. */
  readonly mtu_bytes: number;
  readonly isConfirmed: boolean;
  /** When it is asked again, or, at full size, may be. */
  readonly next_ms: number;
}

function keyOf({ key, subnet }: ForwardingEntry): string {
  return `${subnet.family} ${key}`;
}

export class PathProber {
  readonly #options: PathProberOptions;
  readonly #now_ms: () => number;
  readonly #log = logger("data-path");
  readonly #paths = new Map<string, Path>();
  readonly #asked = new Set<string>();
  /** Runs while something is known of a path. */
  #pathTimer: ReturnType<typeof setInterval> | undefined;
  #plane: ProbedPlane | null = null;
  /** The second whose messages are counted. */
  #second = 0;
  #messageCount = 0;
  #narrowCount = 0;
  #isStopped = false;
  /** The peer that the kernel is asked about next. */
  #nextLook = 0;

  constructor(options: PathProberOptions) {
    this.#options = options;
    this.#now_ms = options.now_ms ?? (() => performance.now());
  }

  /** How often a path was found to carry less than assumed. */
  get narrowCount(): number {
    return this.#narrowCount;
  }

  /**
   * Handles a message about what the path to a peer carries, which a router sent or a host forged.
   */
  onTooBig({ destination, mtu_bytes }: Pick<TooBig, "destination" | "mtu_bytes">): void {
    if (!this.#mayRead()) return;
    const mtu = mtu_bytes === 0 ? PATH_MTU_FLOOR : mtu_bytes;
    for (const peer of this.#options.peers()) {
      if (peer.address.equals(destination)) this.#suspect(peer, mtu);
    }
  }

  #mayRead(): boolean {
    const second = Math.floor(this.#now_ms() / SECOND_MS);
    if (second !== this.#second) this.#messageCount = 0;
    this.#second = second;
    return ++this.#messageCount <= MESSAGES_PER_SECOND;
  }

  /** `outer_bytes` are those of a whole outer packet. */
  #suspect(peer: ForwardingEntry, outer_bytes: number): void {
    const overlay = this.#overlayOf(peer);
    if (overlay === null || this.#asked.size >= ASKED_COUNT_MAX) return;
    // No IPv6 router may say less (RFC 8201 section 4).
    const outer = peer.subnet.family === 6 ? Math.max(outer_bytes, PATH_MTU_FLOOR) : outer_bytes;
    const said = outer - overheadBytes(overlay.family, overlay.encapsulation);
    const mtu = Math.max(said, PROBE_BYTES_MIN);
    const known = this.#paths.get(keyOf(peer));
    const assumed = known === undefined || known.mtu_bytes === 0
      ? overlay.mtu_bytes
      : known.mtu_bytes;
    if (mtu >= assumed || this.#asked.has(keyOf(peer))) return;
    const isPaused = known?.mtu_bytes === 0 && this.#now_ms() < known.next_ms;
    if (!isPaused) void this.#ask(peer, mtu);
  }

  #overlayOf(peer: ForwardingEntry): ReturnType<ProbedPlane["overlay"]> {
    const plane = this.#options.dataplane();
    if (plane !== this.#plane) {
      // A new data plane knows nothing of any path.
      this.#paths.clear();
      this.#plane = plane;
    }
    return plane?.overlay(peer.subnet.family) ?? null;
  }

  async #ask(peer: ForwardingEntry, mtu_bytes: number): Promise<void> {
    const overlay = this.#overlayOf(peer);
    if (overlay === null) return;
    const key = keyOf(peer);
    this.#asked.add(key);
    try {
      const full = overlay.mtu_bytes;
      const floor = PATH_MTU_FLOOR - overheadBytes(overlay.family, overlay.encapsulation);
      const known = this.#paths.get(key)?.mtu_bytes ?? 0;
      const sizes = [...new Set([full, Math.max(mtu_bytes, floor), known, mtu_bytes])]
        .filter((size) => size >= PROBE_BYTES_MIN && size <= full)
        .sort((a, b) => b - a);
      let carried = 0;
      for (let i = 0; i < ATTEMPT_COUNT && carried < full; i++) {
        carried = Math.max(carried, ...await this.#options.exchange(peer, sizes));
        if (this.#isStopped || this.#overlayOf(peer) !== overlay) return;
      }
      this.#conclude(peer, { full, carried, unconfirmed: Math.max(mtu_bytes, floor) });
    } catch (error) {
      this.#log.debug`cannot probe the path to ${peer.key}: ${String(error)}`;
    } finally {
      this.#asked.delete(key);
    }
  }

  #conclude(
    peer: ForwardingEntry,
    { full, carried, unconfirmed }: { full: number; carried: number; unconfirmed: number },
  ): void {
    const now = this.#now_ms();
    if (carried >= full) {
      this.#log
        .debug`the path to ${peer.key} carries ${full} bytes: an ICMP message said less`;
      return this.#set({ peer, mtu_bytes: 0, isConfirmed: true, next_ms: now + WIDE_PAUSE_MS });
    }
    if (carried > 0) {
      const next_ms = now + NARROW_PERIOD_MS;
      return this.#set({ peer, mtu_bytes: carried, isConfirmed: true, next_ms });
    }
    // A second time without any answer: the path is tried at its full size.
    const isOver = this.#paths.get(keyOf(peer))?.isConfirmed === false;
    const mtu_bytes = isOver || unconfirmed >= full ? 0 : unconfirmed;
    this.#set({ peer, mtu_bytes, isConfirmed: isOver, next_ms: now + UNCONFIRMED_MS });
  }

  #set(path: Path): void {
    const { peer, mtu_bytes, isConfirmed } = path;
    const before = this.#paths.get(keyOf(peer))?.mtu_bytes ?? 0;
    this.#paths.set(keyOf(peer), path);
    this.#pathTimer ??= setInterval(() => this.askAgain(), SECOND_MS);
    if (mtu_bytes === 0 && before === 0) return;
    if (mtu_bytes !== 0 && mtu_bytes !== before) this.#narrowCount++;
    const believed_ms = isConfirmed ? PATH_MTU_BELIEVED_MAX_MS : UNCONFIRMED_MS + SECOND_MS;
    this.#plane?.setPathMtu(peer.subnet.family, peer.key, mtu_bytes, Date.now() + believed_ms);
  }

  /** Asks again about the narrow paths whose time has come, and forgets what is over. */
  askAgain(): void {
    const now = this.#now_ms();
    const peers = new Map(this.#options.peers().map((peer) => [keyOf(peer), peer]));
    for (const [key, { mtu_bytes, next_ms }] of this.#paths) {
      const peer = peers.get(key);
      if (peer === undefined || (mtu_bytes === 0 && now >= next_ms)) this.#paths.delete(key);
      else if (mtu_bytes > 0 && now >= next_ms && !this.#asked.has(key)) {
        if (this.#asked.size < ASKED_COUNT_MAX) void this.#ask(peer, mtu_bytes);
      }
    }
    if (this.#paths.size > 0) return;
    clearInterval(this.#pathTimer);
    this.#pathTimer = undefined;
  }

  /** Our sockets do not obey what the kernel assumes, for that may be forged: it is asked about. */
  lookAtKernel(): void {
    const peers = this.#options.peers();
    for (let i = 0; i < Math.min(peers.length, LOOK_PEER_COUNT); i++) {
      const peer = peers[this.#nextLook++ % peers.length]!;
      const mtu_bytes = this.#options.assumedByKernel(peer);
      if (mtu_bytes > 0) this.#suspect(peer, mtu_bytes);
    }
  }

  stop(): void {
    this.#isStopped = true;
    clearInterval(this.#pathTimer);
  }
}
