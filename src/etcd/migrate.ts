/**
 * From a registry to etcd, while hosts of both run: every lease with the time it has left, every
 * reservation, and the configuration. It may be run again and again; what etcd says otherwise is
 * overwritten only if that is asked for.
 */
import { errorText, hasCode, SelvageError } from "../errors.ts";
import { Backoff, pause } from "../retry.ts";
import { AmbiguousError } from "./client/error.ts";
import type { Compare, Etcd } from "./client/kv.ts";
import { KeySpace } from "./lease_key.ts";
import {
  type MigrationConflict,
  type MigrationKind,
  type MigrationSkip,
  type MigrationSource,
  type MigrationStep,
  planMigration,
} from "./migrate_plan.ts";

/** Calls at once; each lease takes two. */
const CALLS_AT_ONCE = 16;
/** A lease with so much less time left in etcd than in the registry is given the registry's. */
const EXTEND_FROM_S = 60;
const TRIES_MAX = 5;
const RETRY_FIRST_MS = 200;
const RETRY_MAX_MS = 3_000;

export interface MigrationOptions {
  readonly etcd: Etcd;
  readonly prefix: string;
  readonly source: MigrationSource;
  /** Whether what etcd says otherwise may be overwritten. */
  readonly isForced: boolean;
  /** Whether nothing is written. */
  readonly isDryRun: boolean;
  /** Told how many of the keys are done. */
  readonly onProgress?: (done: number, total: number) => void;
  /** The time of day in ms since 1970. */
  readonly now_ms?: () => number;
  readonly signal?: AbortSignal;
}

/** What became of a key. `extended`: it had less time left than in the registry. */
export type MigrationOutcome = "created" | "same" | "extended" | "overwritten";

export type MigrationCounts = Readonly<Record<MigrationOutcome, number>>;

export interface MigrationReport {
  /** Whether etcd now holds all of it; with `isDryRun`, whether it could. */
  readonly done: boolean;
  readonly dryRun: boolean;
  /** By kind and outcome: how many. Of a dry run or one that was refused: how many it would be. */
  readonly counts: Readonly<Record<MigrationKind, MigrationCounts>>;
  /** If any is in the way, nothing was written at all. */
  readonly conflicts: readonly MigrationConflict[];
  readonly skipped: readonly MigrationSkip[];
  /** See `MigrationPlan`. */
  readonly unreadableInEtcdCount: number;
}

/** Runs `work` for each item, a few at a time. The first failure ends it, when all running end. */
async function forEachOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const rest = items[Symbol.iterator]();
  const failures: unknown[] = [];
  const worker = async () => {
    for (const item of rest) {
      if (failures.length > 0) return;
      await work(item).catch((error) => failures.push(error));
    }
  };
  // An array's iterator stays open when one of several loops over it ends.
  await Promise.all(Array.from({ length: CALLS_AT_ONCE }, worker));
  if (failures.length > 0) throw failures[0];
}

function changedMeanwhile(name: string): SelvageError {
  return new SelvageError("conflict", `${name}: another wrote it to etcd meanwhile`, {
    hint: "Run the migration again: it goes on where it stopped.",
  });
}

class Migration {
  readonly #options: MigrationOptions;
  readonly #etcd: Etcd;

  constructor(options: MigrationOptions) {
    this.#options = options;
    this.#etcd = options.etcd;
  }

  /** What is to become of a key, or has. */
  async outcome({ action, present, ttl_s }: MigrationStep): Promise<MigrationOutcome> {
    if (action === "create") return "created";
    if (action === "overwrite") return "overwritten";
    // What is reserved in etcd stays so.
    if (ttl_s === null || present === null || present.leaseId === 0n) return "same";
    const found = await this.#etcd.findLease(present.leaseId, this.#options.signal);
    return ttl_s - (found?.ttl_s ?? 0) > EXTEND_FROM_S ? "extended" : "same";
  }

  /** Writes one key if it is still as it was seen. Tries again what failed or may have. */
  async write(step: MigrationStep): Promise<void> {
    const backoff = new Backoff(RETRY_FIRST_MS, RETRY_MAX_MS);
    const signal = this.#options.signal ?? new AbortController().signal;
    for (let i = 1;; i++) {
      try {
        return await this.#tryToWrite(step);
      } catch (error) {
        signal.throwIfAborted();
        if (!hasCode(error, "unavailable") || i === TRIES_MAX) throw error;
        await pause(backoff.next_ms(), signal);
      }
    }
  }

  async #tryToWrite({ key, name, value, ttl_s, present }: MigrationStep): Promise<void> {
    const { signal } = this.#options;
    const is = present?.modRevision ?? 0n;
    const compare: Compare = { key, target: "modRevision", is };
    const leaseId = ttl_s === null ? 0n : (await this.#etcd.grantLease(ttl_s, signal)).id;
    try {
      const put = { put: key, value, leaseId };
      if ((await this.#etcd.transact([compare], [put], [], signal)).succeeded) return;
    } catch (error) {
      if (!(error instanceof AmbiguousError)) throw error;
    }
    const { entry } = await this.#etcd.get(key, signal);
    if (entry !== null && entry.value === value && entry.leaseId === leaseId) return;
    if (leaseId !== 0n) await this.#etcd.revokeLease(leaseId, signal);
    if ((entry?.modRevision ?? 0n) !== is) throw changedMeanwhile(name);
    throw new SelvageError("unavailable", `${name}: etcd did not take it`);
  }
}

function noCounts(): Record<MigrationKind, Record<MigrationOutcome, number>> {
  const none = () => ({ created: 0, same: 0, extended: 0, overwritten: 0 });
  return { lease: none(), reservation: none(), configuration: none() };
}

/**
 * Brings etcd to hold what the source says; see `MigrationReport`. Throws `conflict` if another
 * changes what it is about to write, and what etcd throws; it may then be run again. What was
 * written stays. The configuration is written last, so that nobody takes a subnet before its
 * holder is known.
 */
export async function migrate(options: MigrationOptions): Promise<MigrationReport> {
  const { etcd, source, isForced, isDryRun, signal } = options;
  const keys = new KeySpace(options.prefix);
  const { entries } = await etcd.list(keys.root, signal);
  const now_ms = (options.now_ms ?? Date.now)();
  const plan = planMigration(source, entries, keys, now_ms);
  const { steps, conflicts, skipped, unreadableInEtcdCount } = plan;
  const isRefused = conflicts.some(({ isForceable }) => !isForceable || !isForced);
  const migration = new Migration(options);
  const counts = noCounts();
  let doneCount = 0;
  const carryOut = async (step: MigrationStep) => {
    const outcome = await migration.outcome(step);
    if (outcome !== "same" && !isRefused && !isDryRun) await migration.write(step);
    counts[step.kind][outcome]++;
    doneCount++;
    options.onProgress?.(doneCount, steps.length);
  };
  try {
    await forEachOf(steps.filter(({ kind }) => kind !== "configuration"), carryOut);
    await forEachOf(steps.filter(({ kind }) => kind === "configuration"), carryOut);
  } catch (error) {
    signal?.throwIfAborted();
    if (doneCount === 0 || !(error instanceof SelvageError)) throw error;
    const text = `after ${doneCount} of ${steps.length} keys: ${errorText(error)}`;
    throw new SelvageError(error.code, text, {
      hint: "What was written stays: run the migration again, and it goes on from there.",
      cause: error,
    });
  }
  return { done: !isRefused, dryRun: isDryRun, counts, conflicts, skipped, unreadableInEtcdCount };
}
