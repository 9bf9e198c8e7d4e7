/** Keeping a lease, and giving it back: only what is still ours is touched. */
import { errorText, hasCode, SelvageError } from "../errors.ts";
import { type Lease, sameNode } from "../lease/lease.ts";
import { checkAttributes, lostError } from "../lease/lease_rules.ts";
import type { LeaseHolder } from "../store/store.ts";
import { AmbiguousError } from "./client/error.ts";
import type { KeyValue } from "./client/kv.ts";
import { readConfigEntry } from "./config.ts";
import type { StoreContext } from "./context.ts";
import { endUnusedGrant, Grant } from "./grant.ts";
import { formatEntryValue, readEntry } from "./lease_entry.ts";
import { Tries } from "./tries.ts";

/** A key and the configuration, at one revision. */
async function readKey(context: StoreContext, key: string, signal: AbortSignal | undefined) {
  const { etcd, keys } = context;
  const gets = [{ get: keys.config }, { get: key }];
  const { found } = await etcd.transact([], gets, [], signal);
  const config = readConfigEntry(keys, found[0]?.[0] ?? null);
  return { config, entry: found[1]?.[0] ?? null };
}

/** The lease that the entry is, if one of these holds it; throws `lease_lost` otherwise. */
function requireHeld(
  context: StoreContext,
  entry: KeyValue | null,
  lease: Lease,
  holder: LeaseHolder,
): KeyValue {
  if (entry === null) throw lostError(lease.subnets, "nobody");
  let held: LeaseHolder;
  try {
    // Of which backend it is does not matter here.
    held = readEntry(entry, context.keys, "udp");
  } catch (error) {
    throw lostError(lease.subnets, `what cannot be read (${errorText(error)})`);
  }
  if (sameNode(held, lease) || sameNode(held, holder)) return entry;
  throw lostError(lease.subnets, held.publicAddresses.join(", "));
}

/** A renewal under way. */
class Renewal {
  readonly #context: StoreContext;
  readonly #lease: Lease;
  readonly #key: string;
  readonly #value: string;
  readonly #signal: AbortSignal | undefined;
  readonly #grant: Grant;
  /** The answer to a put is missing: the key may hang on the grant, or come to. */
  #isDoubtful = false;
  /** What the key hung on before. */
  #replaced: bigint | null = null;

  constructor(context: StoreContext, lease: Lease, signal: AbortSignal | undefined) {
    this.#context = context;
    this.#lease = lease;
    this.#key = context.keys.ofLease(lease.subnets);
    this.#value = formatEntryValue(lease);
    this.#signal = signal;
    this.#grant = new Grant(context);
  }

  async run(holder: LeaseHolder): Promise<Lease> {
    const tries = new Tries(this.#context, `renewing ${this.#key}`, this.#signal);
    try {
      while (true) {
        const held = await this.#requireHeld(holder);
        // After an answer that is missing it is put again, on the same grant.
        if (await this.#put(held)) return await this.#finish(held);
        await tries.again();
      }
    } finally {
      // A grant that the key may hang on is left to run out.
      if (!this.#isDoubtful) await this.#grant.dropUnlessKept(this.#signal);
    }
  }

  /** The entry, if this node holds it still. */
  async #requireHeld(holder: LeaseHolder): Promise<KeyValue> {
    const { config, entry } = await readKey(this.#context, this.#key, this.#signal);
    // A broken configuration is no reason to let a lease run out.
    if (!(config instanceof SelvageError)) checkAttributes(this.#lease, config);
    try {
      return requireHeld(this.#context, entry, this.#lease, holder);
    } catch (error) {
      // It rested on a revision of the key that is over, so it cannot be done any more.
      this.#isDoubtful = false;
      throw error;
    }
  }

  async #put({ key, modRevision, leaseId: before }: KeyValue): Promise<boolean> {
    const leaseId = before === 0n ? 0n : await this.#grant.take(this.#signal);
    if (before !== leaseId) this.#replaced = before;
    const compare = { key, target: "modRevision", is: modRevision } as const;
    const put = { put: key, value: this.#value, leaseId };
    const { etcd } = this.#context;
    const wasDoubtful = this.#isDoubtful;
    // Until there is an answer, also where the caller does not wait for it.
    this.#isDoubtful = true;
    try {
      const { succeeded } = await etcd.transact([compare], [put], [], this.#signal);
      this.#isDoubtful = !succeeded && wasDoubtful;
      return succeeded;
    } catch (error) {
      if (error instanceof AmbiguousError) return false;
      if (error instanceof SelvageError) this.#isDoubtful = wasDoubtful;
      if (!hasCode(error, "not_found")) throw error;
      // The grant ran out while we stood still.
      this.#grant.forget();
      return false;
    }
  }

  async #finish(held: KeyValue): Promise<Lease> {
    if (held.leaseId === 0n) return { ...this.#lease, expiry_ms: null };
    this.#grant.keep();
    if (this.#replaced !== null) await endUnusedGrant(this.#context, this.#replaced);
    return { ...this.#lease, expiry_ms: this.#grant.expiry_ms };
  }
}

/**
 * Renews as `LeaseStore.renew` does. A lease is put again on a new grant, as flannel's nodes do; a
 * reservation without one.
 */
export function renew(
  context: StoreContext,
  lease: Lease,
  holder: LeaseHolder,
  signal?: AbortSignal,
): Promise<Lease> {
  return new Renewal(context, lease, signal).run(holder);
}

/** Whose the entry is; null if it cannot be read. */
function holderOf(context: StoreContext, entry: KeyValue): LeaseHolder | null {
  try {
    return readEntry(entry, context.keys, "udp");
  } catch {
    return null;
  }
}

/** Gives a lease back as `LeaseStore.release` does. */
export async function release(
  context: StoreContext,
  lease: Lease,
  signal?: AbortSignal,
): Promise<void> {
  const { etcd, keys } = context;
  const key = keys.ofLease(lease.subnets);
  const tries = new Tries(context, `giving ${key} back`, signal);
  while (true) {
    const { entry } = await etcd.get(key, signal);
    if (entry === null || entry.leaseId === 0n) return;
    const holder = holderOf(context, entry);
    if (holder === null || !sameNode(holder, lease)) return;
    if (await deleteEntry(context, entry, signal)) {
      return await endUnusedGrant(context, entry.leaseId);
    }
    await tries.again();
  }
}

/** Deletes a key that is still as it was read. False: it is not, or the answer is missing. */
export async function deleteEntry(
  { etcd }: StoreContext,
  { key, modRevision }: KeyValue,
  signal?: AbortSignal,
): Promise<boolean> {
  const compare = { key, target: "modRevision", is: modRevision } as const;
  try {
    return (await etcd.transact([compare], [{ delete: key }], [], signal)).succeeded;
  } catch (error) {
    if (error instanceof AmbiguousError) return false;
    throw error;
  }
}
