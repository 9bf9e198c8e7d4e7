/**
 * The one watch behind all readers: a list of what lies under the prefix at a revision, then every
 * event after it, the configuration's among them.
 */
import { ConfigNews } from "../config/config_news.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { hasCode, SelvageError } from "../errors.ts";
import type { LeaseChange } from "../lease/lease.ts";
import { diffTables, LeaseTable, putChange } from "../lease/lease_table.ts";
import { logger } from "../log.ts";
import { LinkedSignal } from "../net/linked_signal.ts";
import { Backoff, pause } from "../retry.ts";
import { Bell } from "../bell.ts";
import { CompactedError } from "./client/error.ts";
import type { KeyEvent, KeyValue } from "./client/kv.ts";
import { readConfigEntry } from "./config.ts";
import {
  type Contents,
  listContents,
  untypedBackend,
  withoutEntries,
  type Witness,
  witnessOf,
} from "./contents.ts";
import type { StoreContext } from "./context.ts";
import type { Health } from "./health.ts";
import { readEntry } from "./lease_entry.ts";
import { seekConfig } from "./seek_config.ts";
import { Subscriber } from "./subscriber.ts";

/** Times of a watch; tests give others. */
export interface WatchTimes {
  readonly backoffFirst_ms: number;
  readonly backoffMax_ms: number;
  /** How often all is listed anew, at least: a safeguard against events that never came. */
  readonly relist_ms: number;
  /** Larger networks are listed less often, so that all nodes together ask for a bounded share. */
  readonly relistPerLease_ms: number;
}

/** A second at most: a node must know its peers soon after etcd is back. */
export const WATCH_TIMES: WatchTimes = {
  backoffFirst_ms: 100,
  backoffMax_ms: 1_000,
  relist_ms: 10 * 60 * 1000,
  relistPerLease_ms: 600,
};

/** Why a stream was ended by us. */
const RELIST_DUE = new Error("it is time to list anew");

/** Whether the key is as it was at the position, or was only written since. */
function isContinued(known: Witness, now: KeyValue | null, position: bigint): boolean {
  return now !== null && now.createRevision === known.createRevision &&
    (now.modRevision === known.modRevision || now.modRevision > position);
}

function isMissing(config: NetworkConfig | SelvageError | null): boolean {
  return hasCode(config, "config_missing");
}

function emptiedError({ keys }: StoreContext): SelvageError {
  const text = `etcd has lost everything under ${keys.root}; going on with the last known leases`;
  return new SelvageError("unavailable", text, {
    hint: "Restore it, or write the configuration anew: selvage config set FILE. " +
      "All of --etcd-endpoints must be members of one cluster.",
  });
}

export class PrefixWatch {
  readonly #context: StoreContext;
  readonly #health: Health;
  readonly #times: WatchTimes;
  readonly #stopping = new AbortController();
  readonly #subscribers = new Set<Subscriber>();
  readonly #configBell = new Bell();
  readonly #log = logger("etcd");
  #table = LeaseTable.EMPTY;
  /** A key by which this etcd is known again. */
  #witness: Witness | null = null;
  #config: NetworkConfig | SelvageError | null = null;
  /** All up to this revision is in the table; null: it is not known. */
  #position: bigint | null = null;
  #isRead = false;
  /** Since etcd answered again no watch has lived: answers alone say little. */
  #isDeceptive = false;
  /**
   * Why the table is kept though etcd has nothing of it: it has no configuration either, so it was
   * set up anew and waits to be filled, or is another one. Null: the table is what etcd has.
   */
  #emptied: SelvageError | null = null;
  /** A fresh list that someone has made. */
  #start: Contents | null;

  constructor(
    context: StoreContext,
    health: Health,
    times: WatchTimes,
    start: Contents | null,
  ) {
    this.#context = context;
    this.#health = health;
    this.#times = times;
    this.#start = start;
  }

  /** Follows etcd until it is stopped; never throws. */
  async run(): Promise<void> {
    const { signal } = this.#stopping;
    const backoff = new Backoff(this.#times.backoffFirst_ms, this.#times.backoffMax_ms);
    let wasBroken = false;
    while (!signal.aborted) {
      try {
        if (this.#position === null) await this.#list(signal);
        else if (wasBroken) await this.#resume(this.#position, signal);
        wasBroken = false;
        if (this.#position !== null) await this.#follow(this.#position, signal, backoff);
      } catch (error) {
        if (signal.aborted) return;
        wasBroken = true;
        // What cannot be gone on with is listed; so is everything after a fault of our own.
        if (error instanceof CompactedError || !(error instanceof SelvageError)) {
          this.#position = null;
        }
        if (error instanceof CompactedError) this.#log.info`listing anew: ${error.message}`;
        else this.#health.watchTold(error);
        await pause(backoff.next_ms(), signal);
      }
    }
  }

  /** All as it is now; readers get the difference. */
  async #list(signal: AbortSignal): Promise<void> {
    const contents = this.#start ?? withoutEntries(await listContents(this.#context, signal));
    this.#start = null;
    this.#position = contents.revision;
    this.#witness = contents.newest;
    this.#setConfig(contents.config);
    const isEmpty = contents.configEntry === null && contents.table.size === 0;
    this.#emptied = isEmpty && this.#table.size > 0 ? emptiedError(this.#context) : null;
    this.#health.watchTold(this.#emptied);
    if (this.#emptied !== null) return;
    const wasRead = this.#isRead;
    this.#isRead = true;
    // A reader that has got nothing yet gets all leases. The other readers keep their own objects
    // for leases that did not change, and get no equal copies.
    if (wasRead) return this.#publish(diffTables(this.#table, contents.table));
    this.#table = contents.table;
    this.#publish([]);
  }

  /**
   * Before going on from an old revision: that it is this etcd's. One that lost its data counts
   * from the start again: it would send nothing until it has come so far, and then not all.
   */
  async #resume(position: bigint, signal: AbortSignal): Promise<void> {
    const { etcd, keys } = this.#context;
    const known = this.#witness;
    const { revision, entry } = await etcd.get(known?.key ?? keys.config, signal);
    // The watch may be silent for long; that etcd answers will do, unless it has deceived already.
    if (!this.#isDeceptive) this.#health.watchTold(this.#emptied);
    this.#isDeceptive = true;
    if (revision >= position && (known === null || isContinued(known, entry, position))) return;
    // It may also have been deleted meanwhile: then listing is a little more work, and no harm.
    this.#log.info`listing anew: ${known?.key ?? keys.config} is not as this host saw it last`;
    this.#position = null;
  }

  /** One stream, until it breaks (then it throws), until all is to be listed, or stopped. */
  async #follow(from: bigint, signal: AbortSignal, backoff: Backoff): Promise<void> {
    const { etcd, keys } = this.#context;
    const link = new LinkedSignal([signal]);
    const seeking = new AbortController();
    const { relist_ms: least_ms, relistPerLease_ms, backoffMax_ms } = this.#times;
    const relist_ms = Math.max(least_ms, this.#table.size * relistPerLease_ms);
    const opened_ms = performance.now();
    // Nodes that started together do not ask together.
    link.setDeadline(relist_ms * (0.75 + this.#context.random() / 2), RELIST_DUE);
    if (isMissing(this.#config)) {
      void seekConfig(this.#context, backoffMax_ms, seeking.signal).then((isFound) => {
        if (isFound) link.setDeadline(0, RELIST_DUE);
      });
    }
    const untyped = untypedBackend(this.#config!);
    try {
      for await (const events of etcd.watch(keys.root, from + 1n, link.signal)) {
        if (link.signal.aborted) break;
        // Not for a stream that breaks as soon as it has begun.
        if (performance.now() - opened_ms > backoffMax_ms) backoff.reset();
        this.#isDeceptive = false;
        this.#health.watchTold(this.#emptied);
        this.#apply(events);
        // What the values mean has changed with the configuration; or there is one again.
        const isFilled = this.#emptied !== null && !isMissing(this.#config);
        if (isFilled || untypedBackend(this.#config!) !== untyped) {
          this.#position = null;
          return;
        }
      }
    } catch (error) {
      if (performance.now() - opened_ms > backoffMax_ms) this.#isDeceptive = false;
      if (!link.signal.aborted) throw error;
    } finally {
      seeking.abort();
      link.dispose();
    }
    if (!link.signal.aborted) throw new SelvageError("unavailable", "etcd ended the watch");
    this.#position = null;
  }

  #apply(events: readonly KeyEvent[]): void {
    const { keys, unreadable } = this.#context;
    const changes: LeaseChange[] = [];
    /** Whether there is a lease by that key after the changes so far. */
    const isThere = new Map<string, boolean>();
    const remove = (name: string) => {
      if (isThere.get(name) ?? this.#hasLease(name)) changes.push({ type: "delete", key: name });
      isThere.set(name, false);
    };
    for (const { type, entry } of events) {
      if (type === "put") this.#witness = witnessOf(entry);
      else if (this.#witness?.key === entry.key) this.#witness = null;
      if (entry.key === keys.config) {
        this.#setConfig(readConfigEntry(keys, type === "put" ? entry : null));
      }
      if (!entry.key.startsWith(keys.subnets)) continue;
      const name = entry.key.slice(keys.subnets.length);
      if (type === "delete") {
        unreadable.delete(entry.key);
        remove(name);
        continue;
      }
      try {
        const lease = readEntry(entry, keys, untypedBackend(this.#config!));
        unreadable.delete(entry.key);
        changes.push(putChange(lease));
        isThere.set(name, true);
      } catch (error) {
        unreadable.add(entry.key, error);
        remove(name);
      }
    }
    const last = events.at(-1);
    if (last !== undefined) this.#position = last.entry.modRevision;
    this.#publish(changes);
  }

  #hasLease(name: string): boolean {
    try {
      const subnets = this.#context.keys.parse(this.#context.keys.subnets + name);
      return this.#table.getBySubnets(subnets) !== undefined;
    } catch {
      return false;
    }
  }

  #setConfig(config: NetworkConfig | SelvageError): void {
    this.#config = config;
    this.#configBell.ring();
  }

  #publish(changes: readonly LeaseChange[]): void {
    this.#table = this.#table.apply(changes);
    for (const subscriber of this.#subscribers) {
      if (changes.length > 0) subscriber.push(changes);
      else subscriber.beat();
    }
  }

  /** The leases' changes, as `LeaseStore.watch` gives them, until one of the two signals. */
  async *leases(signal: AbortSignal): AsyncGenerator<readonly LeaseChange[]> {
    const subscriber = new Subscriber();
    const ended = new LinkedSignal([signal, this.#stopping.signal]);
    const ring = () => subscriber.bell.ring();
    ended.signal.addEventListener("abort", ring);
    this.#subscribers.add(subscriber);
    try {
      while (!ended.signal.aborted) {
        const { rung } = subscriber.bell;
        const changes = this.#isRead ? subscriber.next(this.#table) : null;
        if (changes !== null) yield changes;
        else await rung;
      }
    } finally {
      this.#subscribers.delete(subscriber);
      ended.dispose();
    }
  }

  /** The configurations, as `LeaseStore.watchConfig` gives them. */
  async *configs(
    signal: AbortSignal,
    known?: NetworkConfig,
  ): AsyncGenerator<NetworkConfig | SelvageError> {
    // That there is none yet is no news to who knows of none.
    const news = new ConfigNews(known);
    let isFirst = known === undefined;
    const ended = new LinkedSignal([signal, this.#stopping.signal]);
    const ring = () => this.#configBell.ring();
    ended.signal.addEventListener("abort", ring);
    try {
      while (!ended.signal.aborted) {
        const { rung } = this.#configBell;
        const now = this.#config;
        if (now !== null && !(isFirst && isMissing(now)) && news.take(now)) {
          isFirst = false;
          yield now;
        } else await rung;
      }
    } finally {
      ended.dispose();
    }
  }

  stop(): void {
    this.#stopping.abort();
  }
}
