/** Many cases over every loop and set of offloads; finds the one case that goes wrong. */
import { errorText } from "../../src/errors.ts";
import type { Role } from "../../src/dataplane/counters.ts";
import { OFFLOAD_SETS } from "./cases.ts";
import { type FuzzNetwork, NETWORKS } from "./network.ts";
import { BATCH_CASE_COUNT, LoopFuzzer } from "./fuzzer.ts";

/** Batches between two looks at the whole of the guarded memory. */
const GUARD_PERIOD = 64;

/** A case, or the cases of a batch together, after which something was wrong. */
export class FuzzFailure extends Error {
  constructor(readonly caseNumber: number, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}

/** The loops of a campaign, each started when its first batch comes. */
export class Campaign {
  readonly #targets: readonly { role: Role; network: FuzzNetwork; set: number }[];
  readonly #fuzzers = new Map<number, LoopFuzzer>();
  #packets = 0;

  constructor(readonly seed: number, roles: readonly Role[]) {
    this.#targets = OFFLOAD_SETS.flatMap((_, set) =>
      NETWORKS.flatMap((network) => roles.map((role) => ({ role, network, set })))
    );
  }

  /** Packets that left the loops. */
  get packets(): number {
    return this.#packets;
  }

  #targetOf(batch: number): number {
    return batch % this.#targets.length;
  }

  #start(target: number): Promise<LoopFuzzer> {
    const { role, network, set } = this.#targets[target]!;
    return LoopFuzzer.start(role, network, OFFLOAD_SETS[set]!, this.seed);
  }

  async #fuzzer(target: number): Promise<LoopFuzzer> {
    const fuzzer = this.#fuzzers.get(target) ?? await this.#start(target);
    this.#fuzzers.set(target, fuzzer);
    return fuzzer;
  }

  /** Runs batches one after the other; `onBatch` is told after each how many cases are done. */
  async run(count: number, onBatch: (done: number) => void): Promise<void> {
    const total = Math.ceil(count / BATCH_CASE_COUNT);
    for (let batch = 0; batch < total; batch++) {
      const fuzzer = await this.#fuzzer(this.#targetOf(batch));
      const isLast = batch >= total - this.#targets.length;
      const round = Math.floor(batch / this.#targets.length);
      try {
        this.#packets += fuzzer.run(casesOf(batch));
        if (isLast || round % GUARD_PERIOD === 0) fuzzer.assertUntouched();
      } catch (error) {
        await this.#narrow(batch, error);
      }
      onBatch(Math.min(count, (batch + 1) * BATCH_CASE_COUNT));
    }
  }

  /**
   * Throws the failure of one case if it has one by itself, where no system call fails, else that
   * of all of its batch, where some do.
   */
  async repeat(caseNumber: number): Promise<void> {
    const batch = Math.floor(caseNumber / BATCH_CASE_COUNT);
    await this.#once(batch, [caseNumber], "alone");
    await this.#once(batch, casesOf(batch), `with its batch of ${BATCH_CASE_COUNT}`);
  }

  async #once(batch: number, cases: readonly number[], how: string): Promise<void> {
    const fuzzer = await this.#start(this.#targetOf(batch));
    try {
      fuzzer.run(cases, cases.length === 1);
      fuzzer.assertUntouched();
    } catch (cause) {
      const { role, network, offloads } = fuzzer;
      const what = `${role}, ${network.name}, offloads ${offloads.join(",") || "none"}: ${
        errorText(cause)
      }`;
      const message = `seed ${this.seed}, case ${cases[0]}, ${how}: ${what}`;
      throw new FuzzFailure(cases[0]!, message, { cause });
    }
  }

  /** Finds what made a batch fail: a case alone, or it whole, or one since the last whole look. */
  async #narrow(batch: number, error: unknown): Promise<never> {
    const count = this.#targets.length;
    for (let i = GUARD_PERIOD; i >= 0; i--) {
      const earlier = batch - i * count;
      if (earlier >= 0) {
        await this.#once(earlier, casesOf(earlier), "with its batch").catch(
          async (failure) => {
            for (const one of casesOf(earlier)) await this.#once(earlier, [one], "alone");
            throw failure;
          },
        );
      }
    }
    const first = batch * BATCH_CASE_COUNT;
    const message = `seed ${this.seed}, cases up to ${first} in one go: ${errorText(error)}`;
    throw new FuzzFailure(first, message, { cause: error });
  }
}

function casesOf(batch: number): number[] {
  return Array.from({ length: BATCH_CASE_COUNT }, (_, i) => batch * BATCH_CASE_COUNT + i);
}
