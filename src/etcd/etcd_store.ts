/**
 * The lease store over etcd, in flannel's own layout, so that nodes of both share one network.
 * Every call is one of few to etcd, none of them for each peer.
 */
import { MACHINE_CLOCK, timeOfDay_ms } from "../clock.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import type { SelvageError } from "../errors.ts";
import type { Lease, LeaseAttributes, LeaseChange, LeaseRequest } from "../lease/lease.ts";
import { UnreadableKeys } from "../lease/unreadable_keys.ts";
import type { IpPrefix } from "../net/ip.ts";
import { closedError } from "../store/closed_error.ts";
import {
  type ForcedReservation,
  LEASE_TTL_MS,
  type LeaseHolder,
  type LeaseStore,
  type StoreState,
} from "../store/store.ts";
import { acquire } from "./acquire.ts";
import { reserve, revoke } from "./administer.ts";
import type { Etcd } from "./client/kv.ts";
import {
  type ConfigText,
  orThrow,
  readConfigEntry,
  readConfigText,
  writeConfig,
} from "./config.ts";
import { type Contents, listContents } from "./contents.ts";
import type { StoreContext } from "./context.ts";
import { Health } from "./health.ts";
import { KeySpace } from "./lease_key.ts";
import { PrefixWatch, WATCH_TIMES, type WatchTimes } from "./prefix_watch.ts";
import { release, renew } from "./renew.ts";
import { probeWrites, WRITE_PROBE_TIMES, type WriteProbeTimes } from "./write_probe.ts";
import { runUntilClosed } from "../net/run_until_closed.ts";

/** A list this old is not gone on with: listing anew costs less than the events since. */
const START_AGE_MAX_MS = 60_000;

/** Of all but etcd and the prefix, the defaults are those of a real node. */
export interface EtcdStoreOptions {
  /** Closed with the store. */
  readonly etcd: Etcd;
  /** flannel's `--etcd-prefix`. */
  readonly prefix: string;
  /** Told each time that etcd is lost, found again, or lost for another reason. */
  readonly onStateChange?: (state: StoreState) => void;
  /** The time of day; the end of our lease is reckoned by it. */
  readonly clock?: { now_ms(): number };
  /** How long a lease is good for; etcd counts whole seconds. */
  readonly ttl_ms?: number;
  /** Gives numbers in [0, 1); chooses free subnets, and waits after lost races. */
  readonly random?: () => number;
  /** For how long a lost race is run again. */
  readonly raceLimit_ms?: number;
  readonly times?: Partial<WatchTimes>;
  readonly probeTimes?: WriteProbeTimes;
}

export class EtcdStore implements LeaseStore {
  readonly #context: StoreContext;
  readonly #health: Health;
  readonly #isMachineClock: boolean;
  readonly #times: WatchTimes;
  readonly #probeTimes: WriteProbeTimes;
  #isProbing = false;
  readonly #closing = new AbortController();
  #watch: PrefixWatch | null = null;
  #readerCount = 0;
  /** What was seen when a lease was taken: a watch that begins soon goes on from there. */
  #seen: { readonly contents: Contents; readonly at_ms: number } | null = null;

  /** Connects at the first call. Throws `invalid_argument` for an empty prefix. */
  constructor(options: EtcdStoreOptions) {
    const { clock, onStateChange } = options;
    this.#isMachineClock = clock === undefined;
    const now_ms = clock === undefined ? Date.now : () => clock.now_ms();
    this.#context = {
      etcd: options.etcd,
      keys: new KeySpace(options.prefix),
      unreadable: new UnreadableKeys("etcd"),
      ttl_s: Math.ceil((options.ttl_ms ?? LEASE_TTL_MS) / 1000),
      raceLimit_ms: options.raceLimit_ms ?? 30_000,
      random: options.random ?? Math.random,
      now_ms,
      ownGrantId: 0n,
    };
    this.#times = { ...WATCH_TIMES, ...options.times };
    this.#probeTimes = options.probeTimes ?? WRITE_PROBE_TIMES;
    this.#health = new Health(clock === undefined ? MACHINE_CLOCK.steady_ms : now_ms, () => {
      if (!this.#closing.signal.aborted) onStateChange?.(this.state());
    });
  }

  /**
   * Runs a call with the caller's signal and the store's, and keeps `state` true. `isOwn`: it is
   * for this node's lease.
   */
  #run<T>(
    signal: AbortSignal | undefined,
    work: (signal: AbortSignal) => Promise<T>,
    isOwn = false,
  ): Promise<T> {
    const tell = (error: unknown) => this.#health.callEnded(isOwn, error);
    return runUntilClosed(signal, this.#closing.signal, work, tell);
  }

  readConfig(signal?: AbortSignal): Promise<NetworkConfig> {
    const { etcd, keys } = this.#context;
    return this.#run(signal, async (both) => {
      const { entry } = await etcd.get(keys.config, both);
      // Whoever waits for one asks again; another endpoint may be of the cluster that has it.
      if (entry === null) etcd.tryElsewhere();
      return orThrow(readConfigEntry(keys, entry));
    });
  }

  /** The configuration as it is written; null: there is none. */
  readConfigText(signal?: AbortSignal): Promise<ConfigText | null> {
    return this.#run(signal, (both) => readConfigText(this.#context, both));
  }

  /**
   * Throws what would keep a lease from being written, such as missing rights. Writes nothing.
   * `isOwn`: it is asked for the lease of this node, whose state tells it.
   */
  async probeWrite(signal?: AbortSignal, isOwn = false): Promise<void> {
    const { etcd, keys } = this.#context;
    // etcd judges rights and room by what a transaction may do, and no key has such a revision.
    const never = { key: keys.subnets, target: "createRevision", is: -1n } as const;
    const put = { put: keys.subnets, value: "", leaseId: 0n };
    await this.#run(signal, (both) => etcd.transact([never], [put], [], both), isOwn);
  }

  /** From when this node has a lease on: whether it could renew it. */
  #beginProbing(): void {
    if (this.#isProbing || this.#closing.signal.aborted) return;
    this.#isProbing = true;
    const probe = (signal: AbortSignal) => this.probeWrite(signal, true);
    void probeWrites(probe, this.#probeTimes, this.#context.random, this.#closing.signal);
  }

  /**
   * Checks the text and makes it the network's configuration, as it is. False: what is there says
   * the same, and nothing was done. Throws `conflict` if it was changed by someone else: after
   * `basedOn`, the revision of `readConfigText` (0n where there was none), or during the call.
   * Throws `invalid_argument`, which names `where`.
   */
  setConfig(
    text: string,
    where: string,
    basedOn?: bigint,
    signal?: AbortSignal,
  ): Promise<boolean> {
    return this.#run(
      signal,
      (both) => writeConfig(this.#context, text, where, basedOn, both),
    );
  }

  acquire(request: LeaseRequest, signal?: AbortSignal): Promise<Lease> {
    return this.#run(signal, async (both) => {
      const { lease, contents } = await acquire(this.#context, request, both);
      const isWanted = this.#watch === null && contents !== null;
      this.#seen = isWanted ? { contents, at_ms: performance.now() } : null;
      this.#beginProbing();
      return lease;
    }, true);
  }

  renew(lease: Lease, signal?: AbortSignal, holder: LeaseHolder = lease): Promise<Lease> {
    return this.#run(signal, (both) => renew(this.#context, lease, holder, both), true);
  }

  release(lease: Lease, signal?: AbortSignal): Promise<void> {
    return this.#run(signal, (both) => release(this.#context, lease, both));
  }

  /** All leases now; only of reservations it is known when they end. */
  list(signal?: AbortSignal): Promise<Lease[]> {
    return this.#run(signal, async (both) => {
      return [...(await listContents(this.#context, both)).table.leases];
    });
  }

  reserve(
    subnets: readonly IpPrefix[],
    attributes: LeaseAttributes,
    signal?: AbortSignal,
  ): Promise<Lease> {
    return this.#run(signal, async (both) => {
      return (await reserve(this.#context, subnets, attributes, false, both)).lease;
    });
  }

  reserveByForce(
    subnets: readonly IpPrefix[],
    attributes: LeaseAttributes,
    signal?: AbortSignal,
  ): Promise<ForcedReservation> {
    return this.#run(signal, (both) => reserve(this.#context, subnets, attributes, true, both));
  }

  revoke(key: string, signal?: AbortSignal): Promise<void> {
    return this.#run(signal, (both) => revoke(this.#context, key, both));
  }

  /** The watch that all readers share, while there are some. */
  #openWatch(): PrefixWatch {
    this.#readerCount++;
    if (this.#watch !== null) return this.#watch;
    const seen = this.#seen;
    this.#seen = null;
    const isFresh = seen !== null && performance.now() - seen.at_ms < START_AGE_MAX_MS;
    const start = isFresh ? seen.contents : null;
    this.#watch = new PrefixWatch(this.#context, this.#health, this.#times, start);
    this.#watch.run();
    return this.#watch;
  }

  #leaveWatch(): void {
    if (--this.#readerCount > 0) return;
    this.#watch?.stop();
    this.#watch = null;
    if (!this.#closing.signal.aborted) this.#health.watchEnded();
  }

  async *#read<T>(
    signal: AbortSignal,
    open: (watch: PrefixWatch) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    if (signal.aborted) return;
    if (this.#closing.signal.aborted) throw closedError();
    const watch = this.#openWatch();
    try {
      yield* open(watch);
    } finally {
      this.#leaveWatch();
    }
    if (!signal.aborted) throw closedError();
  }

  watch(signal: AbortSignal): AsyncGenerator<readonly LeaseChange[]> {
    return this.#read(signal, (watch) => watch.leases(signal));
  }

  watchConfig(
    signal: AbortSignal,
    known?: NetworkConfig,
  ): AsyncGenerator<NetworkConfig | SelvageError> {
    return this.#read(signal, (watch) => watch.configs(signal, known));
  }

  reconnect(): void {
    this.#context.etcd.reconnect();
  }

  /** With times of day. A test's clock is one already. */
  #shown<T extends Pick<StoreState, "since_ms" | "errorSince_ms">>(state: T): T {
    if (!this.#isMachineClock) return state;
    const { since_ms, errorSince_ms } = state;
    return {
      ...state,
      since_ms: timeOfDay_ms(since_ms),
      errorSince_ms: errorSince_ms && timeOfDay_ms(errorSince_ms),
    };
  }

  state(): StoreState {
    const { etcd, keys, unreadable } = this.#context;
    return {
      kind: "etcd",
      location: `${etcd.location}${keys.root.startsWith("/") ? "" : "/"}${keys.root.slice(0, -1)}`,
      ...this.#shown(this.#health.state),
      unreadableCount: unreadable.count,
      unreadable: unreadable.shown,
    };
  }

  // deno-lint-ignore require-await
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(closedError());
    this.#health.close(closedError());
    this.#watch?.stop();
    this.#context.etcd.close();
  }
}
