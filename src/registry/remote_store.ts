/** The lease store of a host that joined: the registry of another host, over TLS. */
import { MACHINE_CLOCK, timeOfDay_ms } from "../clock.ts";
import { Backoff, pause } from "../retry.ts";
import { Bell } from "../bell.ts";
import { ConfigNews } from "../config/config_news.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { parseNetworkConfig } from "../config/parse_network_config.ts";
import { adviceText, errorText, hasCode, SelvageError } from "../errors.ts";
import {
  type Lease,
  type LeaseAttributes,
  type LeaseChange,
  leaseKey,
  type LeaseRequest,
} from "../lease/lease.ts";
import { diffTables, LeaseTable } from "../lease/lease_table.ts";
import { UnreadableKeys } from "../lease/unreadable_keys.ts";
import { toLeaseValue } from "../lease/lease_value.ts";
import { checkedJson } from "../net/checked.ts";
import type { IpPrefix } from "../net/ip.ts";
import { LinkedSignal } from "../net/linked_signal.ts";
import { runUntilClosed } from "../net/run_until_closed.ts";
import type { ForcedReservation, LeaseHolder, LeaseStore, StoreState } from "../store/store.ts";
import { closedError } from "../store/closed_error.ts";
import { GoneError, RefusalError, RegistryClient } from "./client.ts";
import type { JoinString } from "./join_string.ts";
import { readLines } from "../net/line_reader.ts";
import {
  fromWireChange,
  fromWireLease,
  HEARTBEAT_MS,
  leaseReply,
  listReply,
  readWireLease,
  watchLine,
  wireKey,
} from "./wire.ts";

/** Times of a remote store; tests give shorter ones. */
export interface RemoteStoreOptions {
  /** For one call, connecting included. */
  readonly deadline_ms?: number;
  /** A watch stream that is silent for so long counts as lost. */
  readonly silence_ms?: number;
  readonly backoffFirst_ms?: number;
  readonly backoffMax_ms?: number;
  /** Told each time that the registry is lost, found again, or lost for another reason. */
  readonly onStateChange?: (state: StoreState) => void;
}

/** Where a watch stands in the registry's changes. */
interface Position {
  readonly id: string;
  readonly revision: number;
}

/** What a watch has yielded so far; null before it has read anything. */
interface Told {
  table: LeaseTable | null;
  /** Null: the leases must be listed. */
  position: Position | null;
}

/** A line of a watch stream, as far as it could be read. */
interface WatchStep {
  readonly revision: number;
  readonly changes: readonly LeaseChange[];
  /** With those that could not be read. */
  readonly changeCount: number;
}

function asError(error: unknown): SelvageError {
  return error instanceof SelvageError
    ? error
    : new SelvageError("internal", errorText(error), { cause: error });
}

/** A lease store whose every call is one to the registry. */
export class RemoteStore implements LeaseStore {
  readonly #client: RegistryClient;
  readonly #options: Required<Omit<RemoteStoreOptions, "onStateChange">> & RemoteStoreOptions;
  readonly #closing = new AbortController();
  #connected = false;
  /** By the steady clock. */
  #since_ms = MACHINE_CLOCK.steady_ms();
  #lastError: string | null = null;
  /** Why the registry, which answers, takes no changes, such as for a full disk; null: it does. */
  #changeFault: { readonly text: string; readonly since_ms: number } | null = null;
  readonly #unreadable = new UnreadableKeys("registry");
  /** Rings when a watch finds that the configuration may be another. */
  readonly #configBell = new Bell();
  #watchCount = 0;

  /** Connects at the first call. */
  constructor(join: JoinString, options: RemoteStoreOptions = {}) {
    this.#options = {
      deadline_ms: 10_000,
      silence_ms: 3 * HEARTBEAT_MS,
      backoffFirst_ms: 200,
      backoffMax_ms: 10_000,
      ...options,
    };
    this.#client = new RegistryClient(join, this.#options.deadline_ms);
  }

  #setState(connected: boolean, error: unknown): void {
    const lastError = connected ? this.#changeFault?.text ?? null : errorText(error);
    const isNews = connected !== this.#connected || lastError !== this.#lastError;
    if (connected !== this.#connected) this.#since_ms = MACHINE_CLOCK.steady_ms();
    this.#connected = connected;
    this.#lastError = lastError;
    if (isNews && !this.#closing.signal.aborted) this.#options.onStateChange?.(this.state());
  }

  /** Runs a call with the caller's signal and the store's, and keeps `state` true. */
  #run<T>(signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    return runUntilClosed(signal, this.#closing.signal, work, (error) => this.#callEnded(error));
  }

  /**
   * As `#run`, for a call that changes something. Only a call of the node's own (`isOwn`) is tried
   * again until it succeeds, which ends the fault; an administrator gets the call's error.
   */
  #runChange<T>(
    signal: AbortSignal | undefined,
    isOwn: boolean,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    return runUntilClosed(signal, this.#closing.signal, work, (error) => {
      const isRefused = error instanceof RefusalError &&
        (error.code === "unavailable" || error.code === "store_full");
      if (isRefused && isOwn) this.#noteChangeFault(adviceText(error));
      // A refusal for another reason says nothing about the registry.
      if (error === null) this.#changeFault = null;
      this.#callEnded(isRefused ? null : error);
    });
  }

  #noteChangeFault(text: string): void {
    const since_ms = this.#changeFault?.since_ms ?? MACHINE_CLOCK.steady_ms();
    this.#changeFault = { text, since_ms };
  }

  #callEnded(error: unknown): void {
    // Any other code is an answer of the registry, which is thus reached.
    const code = error instanceof SelvageError ? error.code : null;
    const isAnswer = code !== null && code !== "unavailable" && code !== "unauthorized";
    if (error === null || isAnswer || error instanceof GoneError) this.#setState(true, null);
    else this.#setState(false, error);
  }

  readConfig(signal?: AbortSignal): Promise<NetworkConfig> {
    return this.#run(signal, async (both) => {
      const text = await this.#client.callText("GET", "/config", both);
      return parseNetworkConfig(text, `registry ${this.#client.location}`);
    });
  }

  /** A call of the node's own. */
  #leaseCall(path: string, body: unknown, signal: AbortSignal | undefined): Promise<Lease> {
    return this.#runChange(signal, true, async (both) => {
      const reply = await this.#client.call("POST", path, leaseReply, both, body);
      return fromWireLease(reply.lease);
    });
  }

  #reserve(
    subnets: readonly IpPrefix[],
    attributes: LeaseAttributes,
    isForced: boolean,
    signal: AbortSignal | undefined,
  ): Promise<ForcedReservation> {
    const body = {
      key: leaseKey(subnets),
      value: toLeaseValue(attributes),
      ...(isForced ? { force: true } : {}),
    };
    return this.#runChange(signal, false, async (both) => {
      const reply = await this.#client.call("POST", "/reserve", leaseReply, both, body);
      const replaced = (reply.replaced ?? []).map(fromWireLease);
      return { lease: fromWireLease(reply.lease), replaced };
    });
  }

  acquire(request: LeaseRequest, signal?: AbortSignal): Promise<Lease> {
    const value = toLeaseValue(request.attributes);
    const previousSubnets = request.previousSubnets.map(String);
    return this.#leaseCall("/acquire", { value, previousSubnets }, signal);
  }

  renew(lease: Lease, signal?: AbortSignal, holder: LeaseHolder = lease): Promise<Lease> {
    const { publicAddresses } = holder;
    const body = {
      key: leaseKey(lease.subnets),
      value: toLeaseValue(lease),
      holder: publicAddresses.map(String),
    };
    return this.#leaseCall("/renew", body, signal);
  }

  async release(lease: Lease, signal?: AbortSignal): Promise<void> {
    const body = { key: leaseKey(lease.subnets), value: toLeaseValue(lease) };
    await this.#runChange(
      signal,
      false,
      (both) => this.#client.callText("POST", "/release", both, body),
    );
  }

  list(signal?: AbortSignal): Promise<Lease[]> {
    return this.#run(signal, async (both) => (await this.#list(both)).leases);
  }

  async reserve(
    subnets: readonly IpPrefix[],
    attributes: LeaseAttributes,
    signal?: AbortSignal,
  ): Promise<Lease> {
    return (await this.#reserve(subnets, attributes, false, signal)).lease;
  }

  reserveByForce(
    subnets: readonly IpPrefix[],
    attributes: LeaseAttributes,
    signal?: AbortSignal,
  ): Promise<ForcedReservation> {
    return this.#reserve(subnets, attributes, true, signal);
  }

  async revoke(key: string, signal?: AbortSignal): Promise<void> {
    await this.#runChange(
      signal,
      false,
      (both) => this.#client.callText("POST", "/revoke", both, { key }),
    );
  }

  /** The leases that can be read; the others are named in the log, and counted. */
  async #list(signal: AbortSignal): Promise<Position & { leases: Lease[] }> {
    const reply = await this.#client.call("GET", "/leases", listReply, signal);
    const leases: Lease[] = [];
    const unreadable = new Map<string, string>();
    for (const [i, wire] of reply.leases.entries()) {
      try {
        leases.push(readWireLease(wire));
      } catch (error) {
        // A newer registry may know forms that this host does not.
        unreadable.set(wireKey(wire) ?? `entry ${i}`, errorText(error));
      }
    }
    this.#unreadable.replace(unreadable);
    return { id: reply.id, revision: reply.revision, leases };
  }

  /**
   * Lists and yields the difference to what was told. Apart from the watch, which would hold on to
   * all these changes for as long as it waits for the next.
   */
  async *#relist(told: Told, signal: AbortSignal): AsyncGenerator<readonly LeaseChange[]> {
    const listed = await this.#run(signal, (both) => this.#list(both));
    const table = LeaseTable.of(listed.leases);
    const changes = diffTables(told.table ?? LeaseTable.EMPTY, table);
    const isNews = told.table === null || changes.length > 0;
    told.table = table;
    told.position = { id: listed.id, revision: listed.revision };
    this.#configBell.ring();
    if (isNews) yield changes;
  }

  async *watch(signal: AbortSignal): AsyncGenerator<readonly LeaseChange[]> {
    const closing = this.#closing.signal;
    const ended = new LinkedSignal([signal, closing]);
    const backoff = new Backoff(this.#options.backoffFirst_ms, this.#options.backoffMax_ms);
    const told: Told = { table: null, position: null };
    this.#watchCount++;
    try {
      while (!ended.signal.aborted) {
        try {
          if (told.position === null) yield* this.#relist(told, signal);
          for await (const line of this.#follow(told.position!, ended.signal, backoff)) {
            told.table = (told.table ?? LeaseTable.EMPTY).apply(line.changes);
            const { id, revision } = told.position!;
            if (line.revision - revision > line.changeCount) this.#configBell.ring();
            told.position = { id, revision: line.revision };
            yield line.changes;
          }
        } catch (error) {
          if (ended.signal.aborted) break;
          // What cannot be resumed is listed anew; the difference is what the watcher gets.
          if (!hasCode(error, "unavailable")) told.position = null;
          if (!(error instanceof GoneError)) this.#setState(false, error);
        }
        await pause(backoff.next_ms(), ended.signal);
      }
    } finally {
      this.#watchCount--;
      ended.dispose();
    }
    if (!signal.aborted) throw closedError();
  }

  async *watchConfig(
    signal: AbortSignal,
    known?: NetworkConfig,
  ): AsyncGenerator<NetworkConfig | SelvageError> {
    const news = new ConfigNews(known);
    const ended = new LinkedSignal([signal, this.#closing.signal]);
    const backoff = new Backoff(this.#options.backoffFirst_ms, this.#options.backoffMax_ms);
    const ring = () => this.#configBell.ring();
    ended.signal.addEventListener("abort", ring);
    try {
      while (!ended.signal.aborted) {
        const { rung } = this.#configBell;
        const now = await this.readConfig(ended.signal).catch(asError);
        if (ended.signal.aborted) break;
        if (hasCode(now, "unavailable") || hasCode(now, "unauthorized")) {
          await pause(backoff.next_ms(), ended.signal);
          continue;
        }
        backoff.reset();
        // A registry that has none yet is no news.
        if (!hasCode(now, "config_missing") && news.take(now)) yield now;
        this.#seeToWatch(ended.signal);
        await rung;
      }
    } finally {
      ended.dispose();
    }
    if (!signal.aborted) throw closedError();
  }

  /** A running watch tells of new configurations too; where there is none, one is begun. */
  #seeToWatch(signal: AbortSignal): void {
    if (this.#watchCount > 0 || signal.aborted) return;
    const drain = async () => {
      for await (const _ of this.watch(signal));
    };
    // It ends with the signal, or with the store: then the caller ends as well.
    drain().catch(() => {});
  }

  /** One stream, until it breaks; then it throws. `GoneError`: it cannot be resumed there. */
  async *#follow(
    { id, revision }: Position,
    signal: AbortSignal,
    backoff: Backoff,
  ): AsyncGenerator<WatchStep> {
    const path = `/watch?id=${encodeURIComponent(id)}&revision=${revision}`;
    const stream = await this.#client.stream(path, signal);
    const opened_ms = performance.now();
    const { silence_ms } = this.#options;
    try {
      for await (const text of readLines(stream.body, { silence_ms })) {
        // Not for a stream that the registry ends as soon as it has begun.
        if (performance.now() - opened_ms > this.#options.backoffMax_ms) backoff.reset();
        yield this.#readLine(text);
      }
    } finally {
      stream.dispose();
    }
    throw new SelvageError("unavailable", "the registry ended the watch");
  }

  #readLine(text: string): WatchStep {
    const line = checkedJson(watchLine, text, `registry ${this.#client.location}: watch`);
    const changes: LeaseChange[] = [];
    for (const wire of line.changes) {
      try {
        changes.push(fromWireChange(wire));
        this.#unreadable.delete(wire.key);
      } catch (error) {
        this.#unreadable.add(wire.key, error);
      }
    }
    this.#setState(true, null);
    return { revision: line.revision, changes, changeCount: line.changes.length };
  }

  reconnect(): void {
    this.#client.reconnect();
  }

  state(): StoreState {
    const since_ms = timeOfDay_ms(this.#since_ms);
    const fault = this.#changeFault;
    const failsSince_ms = this.#connected && fault ? timeOfDay_ms(fault.since_ms) : since_ms;
    return {
      kind: "remote",
      location: this.#client.location,
      connected: this.#connected,
      since_ms,
      lastError: this.#lastError,
      errorSince_ms: this.#lastError === null ? null : failsSince_ms,
      unreadableCount: this.#unreadable.count,
      unreadable: this.#unreadable.shown,
    };
  }

  // deno-lint-ignore require-await
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(closedError());
    this.#setState(false, closedError());
    this.#client.close();
  }
}
