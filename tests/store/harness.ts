/** What the contract suite runs against: a store under test, and the registry behind it. */
import assert from "node:assert/strict";
import type { NetworkConfig } from "../../src/config/network_config.ts";
import type { SelvageError } from "../../src/errors.ts";
import type { Clock } from "../../src/store/expiry.ts";
import type { LeaseChange } from "../../src/lease/lease.ts";
import { LeaseTable } from "../../src/lease/lease_table.ts";
import type { LeaseStore } from "../../src/store/store.ts";

/** A clock that stands still until it is told to move. */
export class FakeClock implements Clock {
  #now_ms = 1_700_000_000_000;
  #monotonic_ms = 0;

  now_ms(): number {
    return this.#now_ms;
  }

  monotonic_ms(): number {
    return this.#monotonic_ms;
  }

  /** Time passes. */
  advance(by_ms: number): void {
    this.#now_ms += by_ms;
    this.#monotonic_ms += by_ms;
  }

  /** Someone sets the time of day. */
  jump(by_ms: number): void {
    this.#now_ms += by_ms;
  }
}

export const TTL_MS = 60 * 60 * 1000;

export interface StoreHarness {
  /** The store under test. */
  readonly store: LeaseStore;
  /** Who sets the network's configuration; false: it says what the old one says. */
  readonly registry: { setConfig(text: string, where: string): boolean | Promise<boolean> };
  readonly clock: FakeClock;
  /** Frees everything, the store too. */
  close(): Promise<void>;
}

export interface HarnessOptions {
  readonly random: () => number;
  readonly eventCountMax?: number;
}

export type OpenHarness = (options: HarnessOptions) => Promise<StoreHarness>;

/** Follows something that goes on until it is aborted, and waits for what it says. */
abstract class StreamFollower<T> {
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;
  #waiting: (() => void)[] = [];
  #error: unknown = null;

  constructor(open: (signal: AbortSignal) => AsyncIterable<T>) {
    this.#done = this.#run(open);
  }

  protected abstract take(one: T): void;

  async #run(open: (signal: AbortSignal) => AsyncIterable<T>): Promise<void> {
    // Not before the constructors are through.
    await Promise.resolve();
    try {
      for await (const one of open(this.#abort.signal)) {
        this.take(one);
        this.#tell();
      }
    } catch (error) {
      this.#error = error;
    }
    this.#tell();
  }

  #tell(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  /** Resolves once the condition holds; the runner's time limit ends the wait. */
  async until(condition: (self: this) => boolean): Promise<void> {
    while (!condition(this)) {
      if (this.#error !== null) throw this.#error;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Resolves when the watch has ended; throws what it threw. */
  async ended(): Promise<void> {
    await this.#done;
    if (this.#error !== null) throw this.#error;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.ended();
  }
}

/** Follows a store's watch. */
export class Follower extends StreamFollower<readonly LeaseChange[]> {
  table = LeaseTable.EMPTY;
  batches: (readonly LeaseChange[])[] = [];

  constructor(store: LeaseStore) {
    super((signal) => store.watch(signal));
  }

  protected override take(batch: readonly LeaseChange[]): void {
    // Signs of life, which come when they like.
    if (batch.length === 0 && this.batches.length > 0) return;
    this.batches.push(batch);
    this.table = this.table.apply(batch);
  }

  keys(): string[] {
    return this.table.leases.map((lease) => lease.subnets.join("&"));
  }
}

/** Follows a store's configuration. */
export class ConfigFollower extends StreamFollower<NetworkConfig | SelvageError> {
  readonly told: (NetworkConfig | SelvageError)[] = [];

  constructor(store: LeaseStore, known?: NetworkConfig) {
    super((signal) => store.watchConfig(signal, known));
  }

  protected override take(one: NetworkConfig | SelvageError): void {
    this.told.push(one);
  }

  /** The networks told so far, or why there is none. */
  networks(): string[] {
    return this.told.map((one) =>
      one instanceof Error ? one.message : one.ranges.map(({ network }) => network).join(" ")
    );
  }
}

/** Asserts that a promise is rejected with one of our errors of this code, and gives it. */
export async function rejectsWith(code: string, promise: Promise<unknown>): Promise<Error> {
  try {
    await promise;
  } catch (error) {
    assert.equal((error as { code?: unknown }).code, code, String(error));
    return error as Error;
  }
  assert.fail(`not rejected with ${code}`);
}
