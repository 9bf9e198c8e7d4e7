/**
 * What must be written so that etcd holds what a registry holds. Pure. What etcd holds already and
 * the registry does not stays as it is; nothing is ever deleted.
 */
import { formatNetworkConfig, parseNetworkConfig } from "../config/parse_network_config.ts";
import { type Lease, leaseKey, sameNode } from "../lease/lease.ts";
import { EXPIRY_GRACE_MS } from "../store/expiry.ts";
import { LEASE_TTL_MS } from "../store/store.ts";
import type { KeyValue } from "./client/kv.ts";
import { untypedBackend } from "./contents.ts";
import { formatEntryValue, readEntry, type UntypedBackend } from "./lease_entry.ts";
import type { KeySpace } from "./lease_key.ts";

/** A registry's content at one moment. */
export interface MigrationSource {
  /** null: it has no configuration. */
  readonly configText: string | null;
  readonly leases: readonly Lease[];
}

export type MigrationKind = "lease" | "reservation" | "configuration";

/** One key that is to say something. */
export interface MigrationStep {
  readonly kind: MigrationKind;
  /** The lease's key; for the configuration `config`. */
  readonly name: string;
  /** etcd's key and value. */
  readonly key: string;
  readonly value: string;
  /** How long the lease has left; null: for ever. */
  readonly ttl_s: number | null;
  /** What stands there; null: nothing. */
  readonly present: KeyValue | null;
  /** `same`: there is nothing to do, but that a lease may have less time left there. */
  readonly action: "create" | "same" | "overwrite";
}

/** What etcd says otherwise. */
export interface MigrationConflict {
  readonly name: string;
  readonly reason: string;
  /** Whether it may be overwritten, if that is asked for; else it must be revoked first. */
  readonly isForceable: boolean;
}

/** A lease that is left out, and why. */
export interface MigrationSkip {
  readonly name: string;
  readonly reason: string;
}

export interface MigrationPlan {
  /** Leases and reservations in the order of their subnets; the configuration last of all. */
  readonly steps: readonly MigrationStep[];
  /** With `overwrite` among the steps for those that are forceable. */
  readonly conflicts: readonly MigrationConflict[];
  readonly skipped: readonly MigrationSkip[];
  /** Of the entries of etcd that stay as they are: those which cannot be read. */
  readonly unreadableInEtcdCount: number;
}

/** The leases in etcd by their keys there; null: it cannot be read. */
function readLeases(
  entries: readonly KeyValue[],
  keys: KeySpace,
  untyped: UntypedBackend,
): Map<string, Lease | null> {
  const leases = new Map<string, Lease | null>();
  for (const entry of entries) {
    if (!entry.key.startsWith(keys.subnets)) continue;
    try {
      leases.set(entry.key, readEntry(entry, keys, untyped));
    } catch {
      // Whoever it is for, it is no lease that anyone could hold.
      leases.set(entry.key, null);
    }
  }
  return leases;
}

/** Whether two configurations mean the same, however they are written. */
function isSameConfig(a: string, b: string): boolean {
  const normal = (text: string) => formatNetworkConfig(parseNetworkConfig(text, "config"));
  try {
    return a === b || normal(a) === normal(b);
  } catch {
    return false;
  }
}

/** Why what stands at a lease's key is not what the registry says; null: it is. */
function difference(lease: Lease, held: Lease | null): string | null {
  if (held === null) return "what etcd has there cannot be read";
  if (!sameNode(held, lease)) return `etcd has it for ${held.publicAddresses.join(", ")}`;
  // Another run of the same daemon has another mark.
  const unmarked = (one: Lease) => formatEntryValue({ ...one, node: undefined });
  if (unmarked(held) !== unmarked(lease)) {
    return "etcd says something else of the same host";
  }
  const isReservedHere = lease.expiry_ms === null && held.expiry_ms !== null;
  return isReservedHere ? "it is a lease in etcd, and reserved in the registry" : null;
}

function ttl_s(lease: Lease, now_ms: number): number | null {
  const { expiry_ms = now_ms + LEASE_TTL_MS } = lease;
  if (expiry_ms === null) return null;
  // As the registry itself does after a pause: its host has time to renew.
  const left_ms = Math.max(expiry_ms - now_ms, EXPIRY_GRACE_MS);
  return Math.ceil(Math.min(left_ms, LEASE_TTL_MS) / 1000);
}

function configStep(
  text: string,
  key: string,
  present: KeyValue | null,
): { step: MigrationStep; conflict: MigrationConflict | null } {
  const isSame = present !== null && isSameConfig(present.value, text);
  const action = present === null ? "create" : isSame ? "same" : "overwrite";
  const name = "config";
  return {
    step: { kind: "configuration", name, key, value: text, ttl_s: null, present, action },
    conflict: action === "overwrite"
      ? { name, reason: "etcd has another network configuration", isForceable: true }
      : null,
  };
}

/**
 * Why a lease cannot be put at its key for the sake of those that etcd holds and the registry does
 * not; null: nothing is in the way.
 */
function obstacle(
  lease: Lease,
  others: readonly Lease[],
): { reason: string; isSkipped: boolean } | null {
  const overlapping = others.find((other) =>
    !sameNode(other, lease) &&
    other.subnets.some((taken) => lease.subnets.some((subnet) => subnet.overlaps(taken)))
  );
  if (overlapping !== undefined) {
    const whose = overlapping.publicAddresses.join(", ");
    const name = leaseKey(overlapping.subnets);
    return { reason: `it overlaps ${name} of ${whose} in etcd`, isSkipped: false };
  }
  const moved = others.find((other) => sameNode(other, lease));
  if (moved === undefined || lease.expiry_ms === null) return null;
  const name = leaseKey(moved.subnets);
  return { reason: `its host holds ${name} in etcd already, and keeps that`, isSkipped: true };
}

function untypedOf(configText: string | null): UntypedBackend {
  return configText === null ? "udp" : untypedBackend(parseNetworkConfig(configText, "config"));
}

/** `entries` are all keys of etcd that begin with `keys.root`. */
export function planMigration(
  { configText, leases }: MigrationSource,
  entries: readonly KeyValue[],
  keys: KeySpace,
  now_ms: number,
): MigrationPlan {
  const present = new Map(entries.map((entry) => [entry.key, entry]));
  const held = readLeases(entries, keys, untypedOf(configText));
  const sourceKeys = new Set(leases.map(({ subnets }) => keys.ofLease(subnets)));
  const staying = [...held].filter(([key]) => !sourceKeys.has(key)).map(([, lease]) => lease);
  const others = staying.filter((lease) => lease !== null);
  const steps: MigrationStep[] = [];
  const conflicts: MigrationConflict[] = [];
  const skipped: MigrationSkip[] = [];
  for (const lease of leases) {
    const name = leaseKey(lease.subnets);
    const key = keys.ofLease(lease.subnets);
    const entry = present.get(key) ?? null;
    const way = entry === null ? obstacle(lease, others) : null;
    if (way !== null) {
      if (way.isSkipped) skipped.push({ name, reason: way.reason });
      else conflicts.push({ name, reason: way.reason, isForceable: false });
      continue;
    }
    const reason = entry === null ? null : difference(lease, held.get(key) ?? null);
    if (reason !== null) conflicts.push({ name, reason, isForceable: true });
    steps.push({
      kind: lease.expiry_ms === null ? "reservation" : "lease",
      name,
      key,
      // What means the same stays as its host wrote it.
      value: entry !== null && reason === null ? entry.value : formatEntryValue(lease),
      ttl_s: ttl_s(lease, now_ms),
      present: entry,
      action: entry === null ? "create" : reason === null ? "same" : "overwrite",
    });
  }
  if (configText !== null) {
    const { step, conflict } = configStep(
      configText,
      keys.config,
      present.get(keys.config) ?? null,
    );
    steps.push(step);
    if (conflict !== null) conflicts.push(conflict);
  }
  return { steps, conflicts, skipped, unreadableInEtcdCount: staying.length - others.length };
}
