/**
 * Has a command run for each peer that comes and goes. What one subnet needs is done one after
 * another and never at the same time; what many need, a few at a time.
 */
import type { CommandPeer, SkippedPeer } from "../backend/backend.ts";
import { errorText } from "../errors.ts";
import { logger } from "../log.ts";
import { Backoff } from "../retry.ts";

const AT_ONCE_MAX = 8;
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** How often it is tried to remove a peer that has gone; then it is left. */
const REMOVE_COUNT_MAX = 5;
/** How long the end waits for what runs. */
const CLOSE_MS = 2_000;
/** The same, where all peers are to be removed. */
const CLEAR_MS = 10_000;

export type PeerAct = "add" | "remove";

export interface PeerCommandsOptions {
  /** Rejects if the command fails; ended early by the signal. */
  readonly run: (act: PeerAct, peer: CommandPeer, signal: AbortSignal) => Promise<void>;
  readonly retryFirst_ms?: number;
  readonly close_ms?: number;
}

/** One subnet: what is to be there, and what our commands have made of it. */
interface Place {
  readonly subnet: string;
  readonly backoff: Backoff;
  wanted: CommandPeer | null;
  present: CommandPeer | null;
  /** Whether adding or removing it failed: nobody knows how much of it is there. */
  isHalfDone: boolean;
  isRunning: boolean;
  failure: string | null;
  removeFailureCount: number;
  retry: ReturnType<typeof setTimeout> | undefined;
}

function isSame(a: CommandPeer | null, b: CommandPeer | null): boolean {
  if (a === b || a === null || b === null) return a === b;
  if (a.key !== b.key || a.data !== b.data || !a.address.equals(b.address)) return false;
  if (a.ipv6 === null || b.ipv6 === null) return a.ipv6 === b.ipv6;
  return a.ipv6.address.equals(b.ipv6.address);
}

/** What is to be done next at this place; null: nothing. */
function nextAct({ wanted, present, isHalfDone }: Place): PeerAct | null {
  if (present !== null && (isHalfDone || !isSame(present, wanted))) return "remove";
  return present === null && wanted !== null ? "add" : null;
}

export class PeerCommands {
  readonly #options: PeerCommandsOptions;
  readonly #log = logger("extension");
  readonly #places = new Map<string, Place>();
  /** Those that something is to be done at, and where nothing runs. */
  readonly #ready = new Set<Place>();
  readonly #running = new Set<Promise<void>>();
  readonly #ending = new AbortController();
  #isBegun = false;
  #isClosing = false;

  constructor(options: PeerCommandsOptions) {
    this.#options = options;
  }

  /** Until then nothing is run. */
  begin(): void {
    this.#isBegun = true;
    this.#pump();
  }

  /** Says which peers are to be there, no two in one subnet. */
  update(peers: readonly CommandPeer[]): void {
    if (this.#isClosing) return;
    const wanted = new Map(peers.map((peer) => [`${peer.subnet}`, peer]));
    for (const place of this.#places.values()) {
      if (!wanted.has(place.subnet)) this.#want(place, null);
    }
    for (const [subnet, peer] of wanted) this.#want(this.#place(subnet), peer);
    this.#pump();
  }

  #place(subnet: string): Place {
    const known = this.#places.get(subnet);
    if (known !== undefined) return known;
    const place: Place = {
      subnet,
      backoff: new Backoff(this.#options.retryFirst_ms ?? RETRY_FIRST_MS, RETRY_MAX_MS),
      wanted: null,
      present: null,
      isHalfDone: false,
      isRunning: false,
      failure: null,
      removeFailureCount: 0,
      retry: undefined,
    };
    this.#places.set(subnet, place);
    return place;
  }

  #want(place: Place, peer: CommandPeer | null): void {
    if (isSame(place.wanted, peer)) return;
    place.wanted = peer;
    place.failure = null;
    place.removeFailureCount = 0;
    place.backoff.reset();
    this.#makeReady(place);
  }

  #makeReady(place: Place): void {
    clearTimeout(place.retry);
    if (!place.isRunning) this.#ready.add(place);
  }

  #pump(): void {
    if (!this.#isBegun) return;
    for (const place of this.#ready) {
      if (this.#running.size >= AT_ONCE_MAX) return;
      this.#ready.delete(place);
      place.isRunning = true;
      const work = this.#work(place).finally(() => {
        this.#running.delete(work);
        this.#pump();
      });
      this.#running.add(work);
    }
  }

  /** Does at one place what is to be done, until nothing is, or something fails. */
  async #work(place: Place): Promise<void> {
    let isFailed = false;
    while (!isFailed && !this.#ending.signal.aborted) {
      const { wanted } = place;
      const act = nextAct(place);
      if (act === null) break;
      const isDone = act === "add" ? await this.#add(place) : await this.#remove(place);
      // What was wanted when it failed may be wanted no longer.
      isFailed = !isDone && wanted === place.wanted;
    }
    // Now, not when somebody hears of the end: what is wanted meanwhile would be nobody's to do.
    place.isRunning = false;
    if (isFailed && !this.#isClosing) {
      place.retry = setTimeout(() => {
        this.#makeReady(place);
        this.#pump();
      }, place.backoff.next_ms());
    }
    if (place.wanted === null && place.present === null) this.#places.delete(place.subnet);
  }

  async #add(place: Place): Promise<boolean> {
    const peer = place.wanted!;
    place.present = peer;
    place.isHalfDone = true;
    try {
      await this.#options.run("add", peer, this.#ending.signal);
      place.isHalfDone = false;
      place.failure = null;
      place.backoff.reset();
      return true;
    } catch (error) {
      this.#fail(place, errorText(error));
      return false;
    }
  }

  async #remove(place: Place): Promise<boolean> {
    try {
      await this.#options.run("remove", place.present!, this.#ending.signal);
    } catch (error) {
      // Where adding has failed there may be nothing to remove.
      if (!place.isHalfDone || place.removeFailureCount > 0) {
        this.#fail(place, errorText(error));
        place.isHalfDone = true;
        // A peer that comes in its place is not to wait for it.
        if (place.wanted === null && ++place.removeFailureCount < REMOVE_COUNT_MAX) return false;
        this.#log.warning`${place.subnet}: ${errorText(error)}; it is left as it is`;
      }
    }
    place.present = null;
    place.isHalfDone = false;
    return true;
  }

  #fail(place: Place, failure: string): void {
    if (failure !== place.failure) this.#log.warning`${place.subnet}: ${failure}`;
    place.failure = failure;
  }

  /** Peers that are not, or not yet, as their commands are to make them. */
  get failed(): SkippedPeer[] {
    return [...this.#places.values()].flatMap((place) => {
      const { wanted, present, isHalfDone, failure } = place;
      if (wanted === null || (isSame(present, wanted) && !isHalfDone)) return [];
      return [{ key: wanted.key, reason: failure ?? this.#delay(place) }];
    });
  }

  /** Why nothing has come of a peer yet, where nothing failed. */
  #delay({ isRunning }: Place): string {
    if (isRunning) return "its SubnetAddCommand has not ended yet";
    const what = this.#isBegun
      ? "those of other peers"
      : "PostStartupCommand, which has to end well";
    return `its SubnetAddCommand is still to be run, after ${what}`;
  }

  /**
   * A sentence if commands have failed and not one peer is set up; else null. A peer whose first
   * command has not ended yet counts as neither failed nor set up.
   */
  get totalFailure(): string | null {
    const wanted = [...this.#places.values()].filter((place) => place.wanted !== null);
    const failed = wanted.filter(({ failure }) => failure !== null);
    const isAnySetUp = wanted.some(({ wanted, present, isHalfDone }) =>
      isSame(present, wanted) && !isHalfDone
    );
    if (failed.length === 0 || isAnySetUp) return null;
    const { subnet, failure } = failed[0]!;
    const count = wanted.length === 1 ? "the only peer" : `all ${wanted.length} peers`;
    const whom = failed.length === wanted.length
      ? count
      : `${failed.length} of ${wanted.length} peers and has not yet succeeded for any`;
    return `SubnetAddCommand failed for ${whom}, so this host may reach no peer; for ${subnet}: ` +
      `${failure}. Selvage tries again. Correct the command in the network's configuration, or ` +
      "install on this host what the command needs";
  }

  /**
   * The reason why this host is not ready: no peer is set up, or a peer that has gone cannot be
   * removed.
   */
  get problems(): string[] {
    const { totalFailure } = this;
    const left = [...this.#places.values()].flatMap(({ subnet, wanted, failure }) =>
      wanted === null && failure !== null ? [`${subnet}, which has gone: ${failure}`] : []
    );
    return [...(totalFailure === null ? [] : [totalFailure]), ...left];
  }

  /** Ends; what was added stays, unless `isCleared`. What runs is waited for, but not for long. */
  async close(isCleared: boolean): Promise<void> {
    this.#isClosing = true;
    this.#ready.clear();
    for (const place of this.#places.values()) {
      clearTimeout(place.retry);
      if (isCleared) this.#want(place, null);
    }
    if (isCleared) { for (const place of this.#places.values()) this.#makeReady(place); }
    const wait_ms = this.#options.close_ms ?? (isCleared ? CLEAR_MS : CLOSE_MS);
    const deadline = setTimeout(() => this.#ending.abort(), wait_ms);
    this.#pump();
    while (this.#running.size > 0) await Promise.all(this.#running);
    clearTimeout(deadline);
    this.#ending.abort();
    const left = [...this.#places.values()].filter(({ present }) => present !== null);
    const leftCount = isCleared ? left.length : 0;
    if (leftCount > 0) this.#log.warning`${leftCount} peers are left as they are`;
  }
}
