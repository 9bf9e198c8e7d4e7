/**
 * Taking a lease, in flannel's order. All that the choice rests on is compared in the transaction
 * that takes it, so whoever loses a race looks again.
 */
import type { NetworkConfig } from "../config/network_config.ts";
import { hasCode, SelvageError } from "../errors.ts";
import { allocate } from "../lease/allocator.ts";
import {
  type Lease,
  leaseKey,
  type LeaseRequest,
  parseLeaseKey,
  sameNode,
} from "../lease/lease.ts";
import { checkAttributes, overlap } from "../lease/lease_rules.ts";
import { logger } from "../log.ts";
import { AmbiguousError } from "./client/error.ts";
import type { Compare, KeyValue, Operation } from "./client/kv.ts";
import { orThrow } from "./config.ts";
import { type Contents, listContents, type ListedContents, withoutEntries } from "./contents.ts";
import type { StoreContext } from "./context.ts";
import { endUnusedGrant, Grant } from "./grant.ts";
import { formatEntryValue } from "./lease_entry.ts";
import { Tries } from "./tries.ts";

/** How many leases are deleted in one transaction; etcd's own bound is 128 steps by default. */
const DELETE_COUNT_MAX = 32;

/** A lease that was taken, and what was seen of the others when it was. */
export interface Acquired {
  readonly lease: Lease;
  /** Null: that could not be seen. */
  readonly contents: Contents | null;
}

/** That the key is as it was listed; undefined: that it is not there. */
function unchanged(key: string, entry: KeyValue | undefined): Compare {
  return entry === undefined
    ? { key, target: "version", is: 0n }
    : { key, target: "modRevision", is: entry.modRevision };
}

/**
 * The lease of another node that overlaps this one and was there before it. A different size is
 * the only way to get there: equal subnets are equal keys.
 */
export function olderRival(contents: ListedContents, lease: Lease): Lease | undefined {
  const created = contents.entryOf(lease)?.createRevision;
  if (created === undefined) return undefined;
  return contents.taken.find((other) => {
    if (!overlap(other.subnets, lease.subnets) || sameNode(other, lease)) return false;
    const entry = contents.entryOf(other);
    return entry !== undefined && entry.createRevision < created;
  });
}

/** One node's attempt to get a lease. */
class Acquisition {
  readonly #context: StoreContext;
  readonly #request: LeaseRequest;
  readonly #signal: AbortSignal | undefined;
  readonly #value: string;
  readonly #tries: Tries;
  readonly #grant: Grant;
  /** A lease that we held before may come to hang on the grant yet. */
  #mustGrantLive = false;

  constructor(context: StoreContext, request: LeaseRequest, signal: AbortSignal | undefined) {
    this.#context = context;
    this.#request = request;
    this.#signal = signal;
    this.#value = formatEntryValue(request.attributes);
    this.#tries = new Tries(context, "taking a subnet", signal);
    this.#grant = new Grant(context);
  }

  async run(): Promise<Acquired> {
    try {
      while (true) {
        const contents = await listContents(this.#context, this.#signal);
        const config = orThrow(contents.config);
        checkAttributes(this.#request.attributes, config);
        const acquired = await this.#try(contents, config);
        if (acquired !== null) return acquired;
        await this.#tries.again();
      }
    } finally {
      if (!this.#mustGrantLive) await this.#grant.dropUnlessKept(this.#signal);
    }
  }

  /** Null: something else has changed meanwhile, or there is more to do. */
  async #try(contents: ListedContents, config: NetworkConfig): Promise<Acquired | null> {
    const { random } = this.#context;
    const { subnets, held, deletedKeys } = allocate(config, contents.taken, this.#request, random);
    const deletes = deletedKeys.slice(0, DELETE_COUNT_MAX).map((key) => parseLeaseKey(key));
    if (deletedKeys.length > deletes.length) {
      await this.#transact(this.#guards(contents, deletes), this.#deletions(deletes));
      return null;
    }
    if (held !== null && held.expiry_ms !== null && olderRival(contents, held) !== undefined) {
      const away = [...deletes, held.subnets];
      await this.#transact(this.#guards(contents, away), this.#deletions(away));
      return null;
    }
    const isReservation = held?.expiry_ms === null;
    const leaseId = isReservation ? 0n : await this.#grant.take(this.#signal);
    const key = this.#context.keys.ofLease(subnets);
    const entry = held === null ? undefined : contents.entryOf(held);
    const isTaken = await this.#put(
      [unchanged(key, entry), ...this.#guards(contents, deletes)],
      { put: key, value: this.#value, leaseId },
      this.#deletions(deletes),
      held === null,
    );
    if (!isTaken) return null;
    const expiry_ms = isReservation ? null : this.#grant.expiry_ms;
    const lease: Lease = { ...this.#request.attributes, subnets, expiry_ms };
    const seen = held === null ? await this.#verify(lease, leaseId) : contents;
    if (seen === null) return null;
    // Whoever deleted our key left what it hung on; the others are an earlier run's, as a rule.
    const before = new Set([
      this.#context.ownGrantId,
      entry?.leaseId ?? 0n,
      ...deletes.map((gone) => contents.entryOf({ subnets: gone })?.leaseId ?? 0n),
    ]);
    if (!isReservation) this.#grant.keep();
    before.delete(leaseId);
    // It is nothing to wait for.
    for (const id of before) void endUnusedGrant(this.#context, id);
    return { lease, contents: seen === "unknown" ? null : withoutEntries(seen) };
  }

  /** That the configuration, and the leases of these subnets, are as they were listed. */
  #guards(contents: ListedContents, others: readonly Lease["subnets"][]): Compare[] {
    const { keys } = this.#context;
    return [
      unchanged(keys.config, contents.configEntry ?? undefined),
      ...others.map((subnets) => unchanged(keys.ofLease(subnets), contents.entryOf({ subnets }))),
    ];
  }

  #deletions(others: readonly Lease["subnets"][]): Operation[] {
    return others.map((subnets) => ({ delete: this.#context.keys.ofLease(subnets) }));
  }

  /** For what may be done twice, or not at all: whoever calls looks again. */
  async #transact(compares: readonly Compare[], operations: readonly Operation[]): Promise<void> {
    try {
      await this.#context.etcd.transact(compares, operations, [], this.#signal);
    } catch (error) {
      if (!(error instanceof AmbiguousError)) throw error;
    }
  }

  /** Whether the key is ours now. */
  async #put(
    compares: readonly Compare[],
    put: Operation & { readonly put: string; readonly leaseId: bigint },
    deletions: readonly Operation[],
    isNew: boolean,
  ): Promise<boolean> {
    const { etcd } = this.#context;
    const mustLive = this.#mustGrantLive;
    // Until there is an answer, also where the caller does not wait for it.
    this.#mustGrantLive ||= !isNew;
    try {
      const operations = [put, ...deletions];
      const { succeeded } = await etcd.transact(compares, operations, [], this.#signal);
      if (!succeeded) this.#mustGrantLive = mustLive;
      return succeeded;
    } catch (error) {
      if (!(error instanceof AmbiguousError)) {
        if (error instanceof SelvageError) this.#mustGrantLive = mustLive;
        if (!hasCode(error, "not_found")) throw error;
        // The grant ran out while we stood still.
        this.#grant.forget();
        return false;
      }
    }
    const { entry } = await etcd.get(put.put, this.#signal);
    // Nobody else has this grant. A reservation is put again: that does no harm.
    if (put.leaseId !== 0n && entry?.leaseId === put.leaseId) return true;
    // What was sent may yet arrive. Without its grant it is refused then, so that we do not hold
    // two subnets; an own lease is put again on the same grant, in whatever order that ends.
    if (isNew) await this.#grant.discard(this.#signal);
    return false;
  }

  /**
   * Looks again after a new lease was put. Gives it back where a rival of another size was faster,
   * as far as both did it at the same moment; null: it is not ours. "unknown": etcd is gone again,
   * and having a lease is worth more than this look.
   */
  async #verify(lease: Lease, leaseId: bigint): Promise<ListedContents | "unknown" | null> {
    let contents: ListedContents;
    try {
      contents = await listContents(this.#context, this.#signal);
    } catch (error) {
      if (!hasCode(error, "unavailable") || this.#signal?.aborted) throw error;
      return "unknown";
    }
    if (contents.entryOf(lease)?.leaseId !== leaseId) return null;
    const rival = olderRival(contents, lease);
    if (rival === undefined) return contents;
    const text = `${leaseKey(lease.subnets)} overlaps ${leaseKey(rival.subnets)}`;
    logger("etcd").warning`${text}, which was taken at the same moment; giving it back`;
    await this.#grant.discard(this.#signal);
    return null;
  }
}

/**
 * Takes a lease as `LeaseStore.acquire` does. With it comes what was seen of the network at a
 * revision from which a watch can go on.
 */
export function acquire(
  context: StoreContext,
  request: LeaseRequest,
  signal?: AbortSignal,
): Promise<Acquired> {
  return new Acquisition(context, request, signal).run();
}
