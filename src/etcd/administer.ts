/** What an administrator does to the leases of others. */
import { SelvageError } from "../errors.ts";
import { type Lease, type LeaseAttributes, leaseKey, parseLeaseKey } from "../lease/lease.ts";
import { checkReservation, overlapError } from "../lease/lease_rules.ts";
import type { IpPrefix } from "../net/ip.ts";
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

/** Reserves as `LeaseStore.reserve` does: a key that hangs on no lease of etcd. */
export async function reserve(
  context: StoreContext,
  subnets: readonly IpPrefix[],
  attributes: LeaseAttributes,
  signal?: AbortSignal,
): Promise<Lease> {
  const key = context.keys.ofLease(subnets);
  const tries = new Tries(context, `reserving ${key}`, signal);
  while (true) {
    const contents = await listContents(context, signal);
    const config = orThrow(contents.config);
    const held = checkReservation(config, contents.taken, subnets, attributes);
    const lease: Lease = { ...(held ?? attributes), subnets, expiry_ms: null };
    if (held?.expiry_ms === null) return lease;
    if (await putReservation(context, key, contents, lease, signal)) {
      if (held === null) await verify(context, lease, signal);
      return lease;
    }
    await tries.again();
  }
}

async function putReservation(
  { etcd, keys }: StoreContext,
  key: string,
  contents: ListedContents,
  lease: Lease,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const entry = contents.entryOf(lease);
  const compares: Compare[] = [
    { key, target: "modRevision", is: entry?.modRevision ?? 0n },
    { key: keys.config, target: "modRevision", is: contents.configEntry!.modRevision },
  ];
  // What the node says of itself stays as it is written, to the byte.
  const put = { put: key, value: entry?.value ?? formatEntryValue(lease), leaseId: 0n };
  try {
    return (await etcd.transact(compares, [put], [], signal)).succeeded;
  } catch (error) {
    // The next look shows the reservation, if it was done.
    if (error instanceof AmbiguousError) return false;
    throw error;
  }
}

/** Takes a new reservation back if a lease that overlaps it was taken at the same moment. */
async function verify(
  context: StoreContext,
  lease: Lease,
  signal: AbortSignal | undefined,
): Promise<void> {
  const contents = await listContents(context, signal);
  const rival = olderRival(contents, lease);
  const entry = contents.entryOf(lease);
  if (rival === undefined || entry === undefined) return;
  await deleteEntry(context, entry, signal);
  throw overlapError(lease.subnets, rival);
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
