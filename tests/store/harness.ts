/** What the contract suite runs against: a store under test, and the registry behind it. */
import assert from "node:assert/strict";
import { EmbeddedStore } from "../../src/store/embedded_store.ts";
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
  /** Where its leases are kept; it may be the same. */
  readonly registry: EmbeddedStore;
  readonly clock: FakeClock;
  /** Frees everything, the store too. */
  close(): Promise<void>;
}

export interface HarnessOptions {
  readonly random: () => number;
  readonly eventCountMax?: number;
}

export type OpenHarness = (options: HarnessOptions) => Promise<StoreHarness>;

/** Follows a store's watch and waits for what it says. */
export class Follower {
  readonly #abort = new AbortController();
  readonly #done: Promise<void>;
  #waiting: (() => void)[] = [];
  #error: unknown = null;
  table = LeaseTable.EMPTY;
  batches: (readonly LeaseChange[])[] = [];

  constructor(store: LeaseStore) {
    this.#done = this.#run(store);
  }

  async #run(store: LeaseStore): Promise<void> {
    try {
      for await (const batch of store.watch(this.#abort.signal)) {
        this.batches.push(batch);
        this.table = this.table.apply(batch);
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

  keys(): string[] {
    return this.table.leases.map((lease) => lease.subnets.join("&"));
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
