/** What an administrator does to the leases of others. */
import { SelvageError } from "../errors.ts";
import {
  type Lease,
  type LeaseAttributes,
  leaseKey,
  parseLeaseKey,
  sameNode,
} from "../lease/lease.ts";
import { overlapError, planReservation, secondReservationError } from "../lease/lease_rules.ts";
import type { IpPrefix } from "../net/ip.ts";
import type { ForcedReservation } from "../store/store.ts";
import { olderRival } from "./acquire.ts";
import { AmbiguousError } from "./client/error.ts";
import type { Compare } from "./client/kv.ts";
import { orThrow } from "./config.ts";
import { listContents, type ListedContents } from "./contents.ts";
import type { StoreContext } from "./context.ts";
import { endUnusedGrant } from "./grant.ts";
import { formatEntryValue } from "./lease_entry.ts";
import { deleteEntry } from "./renew.ts";
import { Tries } from "./tries.ts";

/** How many leases are deleted in one transaction; etcd's own bound is 128 steps by default. */
const DELETE_COUNT_MAX = 32;

/**
 * Reserves as `LeaseStore.reserve` does, or as `reserveByForce`: a key that hangs on no lease of
 * etcd. Replaced leases are deleted in the transaction that puts the key.
 */
export async function reserve(
  context: StoreContext,
  subnets: readonly IpPrefix[],
  attributes: LeaseAttributes,
  isForced: boolean,
  signal?: AbortSignal,
): Promise<ForcedReservation> {
  const key = context.keys.ofLease(subnets);
  const tries = new Tries(context, `reserving ${key}`, signal);
  const replaced = new Map<string, Lease>();
  const done = (lease: Lease) => ({ lease, replaced: [...replaced.values()] });
  while (true) {
    const contents = await listContents(context, signal);
    const config = orThrow(contents.config);
    const plan = planReservation(config, contents.taken, subnets, attributes, isForced);
    const { held } = plan;
    const away = plan.replaced.slice(0, DELETE_COUNT_MAX);
    const lease: Lease = { ...(held ?? attributes), subnets, expiry_ms: null };
    if (held?.expiry_ms === null && away.length === 0) return done(lease);
    if (await putReservation(context, key, contents, { lease, away }, signal)) {
      for (const one of away) {
        replaced.set(leaseKey(one.subnets), one);
        await endUnusedGrant(context, contents.entryOf(one)?.leaseId ?? 0n);
      }
      if (!isForced && held === null) await verify(context, lease, signal);
      // A lease that was made at the same moment is in the way, too.
      if (!isForced) return done(lease);
    }
    await tries.again();
  }
}

async function putReservation(
  { etcd, keys }: StoreContext,
  key: string,
  contents: ListedContents,
  { lease, away }: { readonly lease: Lease; readonly away: readonly Lease[] },
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const entry = contents.entryOf(lease);
  const asListed = (one: Pick<Lease, "subnets">): Compare => ({
    key: keys.ofLease(one.subnets),
    target: "modRevision",
    is: contents.entryOf(one)?.modRevision ?? 0n,
  });
  const others = away.filter((one) => keys.ofLease(one.subnets) !== key);
  const compares: Compare[] = [
    asListed(lease),
    { key: keys.config, target: "modRevision", is: contents.configEntry!.modRevision },
    ...others.map(asListed),
  ];
  // What the node says of itself stays as it is written, to the byte.
  const isOwn = others.length === away.length;
  const value = isOwn && entry !== undefined ? entry.value : formatEntryValue(lease);
  const put = { put: key, value, leaseId: 0n };
  const deletes = others.map((one) => ({ delete: keys.ofLease(one.subnets) }));
  try {
    return (await etcd.transact(compares, [put, ...deletes], [], signal)).succeeded;
  } catch (error) {
    // The next look shows the reservation, if it was done.
    if (error instanceof AmbiguousError) return false;
    throw error;
  }
}

/**
 * Takes a new reservation back if a lease that overlaps it, or another reservation for the same
 * node, was made at the same moment and came first.
 */
async function verify(
  context: StoreContext,
  lease: Lease,
  signal: AbortSignal | undefined,
): Promise<void> {
  const contents = await listContents(context, signal);
  const entry = contents.entryOf(lease);
  if (entry === undefined) return;
  const rival = olderRival(contents, lease);
  const twin = contents.taken.find((other) => {
    const isReserved = other.expiry_ms === null && sameNode(other, lease);
    const created = contents.entryOf(other)?.createRevision;
    return isReserved && created !== undefined && created < entry.createRevision;
  });
  if (rival === undefined && twin === undefined) return;
  await deleteEntry(context, entry, signal);
  throw rival === undefined ? secondReservationError(twin!) : overlapError(lease.subnets, rival);
}

/** Deletes a lease or a reservation as `LeaseStore.revoke` does. */
export async function revoke(
  context: StoreContext,
  name: string,
  signal?: AbortSignal,
): Promise<void> {
  const { etcd, keys } = context;
  const subnets = parseLeaseKey(name);
  const key = keys.ofLease(subnets);
  const tries = new Tries(context, `revoking ${key}`, signal);
  let isSent = false;
  while (true) {
    const { entry } = await etcd.get(key, signal);
    if (entry === null) {
      if (isSent) return;
      throw new SelvageError("not_found", `there is no lease ${leaseKey(subnets)}`);
    }
    isSent = true;
    if (await deleteEntry(context, entry, signal)) {
      return await endUnusedGrant(context, entry.leaseId);
    }
    await tries.again();
  }
}
