/**
 * What the registry and its clients say to each other: JSON over HTTPS under `/registry/v1/`.
 * Leases travel as flannel's keys and values.
 */
import { z } from "zod";
import {
  knownExpiry_ms,
  type Lease,
  type LeaseChange,
  leaseKey,
  parseLeaseKey,
} from "../lease/lease.ts";
import { SelvageError } from "../errors.ts";
import { isObject } from "../net/checked.ts";
import {
  isLeaseValue,
  leaseValueSchema,
  readLeaseValue,
  toLeaseValue,
} from "../lease/lease_value.ts";

/** Where the registry's endpoints begin. */
export const REGISTRY_PATH = "/registry/v1";

/** A heartbeat goes through every watch stream this often. */
export const HEARTBEAT_MS = 15_000;

/** Two subnets' texts; the longest key is some 70 characters. */
const KEY_LENGTH_MAX = 128;
const key = z.string().min(1).max(KEY_LENGTH_MAX);
/**
 * Each change of a lease takes one, and so does a new configuration, which is sent as no change:
 * whoever finds that more revisions have passed than changes asks for the configuration.
 */
const revision = z.number().int().min(0);

const leaseSchema = z.object({
  key,
  value: leaseValueSchema,
  expiry_ms: z.number().int().nullable(),
});

type WireLease = z.infer<typeof leaseSchema>;

/** Of acquire: what the node publishes, and the subnets it had. */
export const acquireBody = z.object({
  value: leaseValueSchema,
  previousSubnets: z.array(z.string().max(64)).max(16),
});

/** Of renew: `holder` are the addresses that the store has of the node, if they are others. */
export const renewBody = z.object({
  key,
  value: leaseValueSchema,
  holder: z.array(z.string().max(64)).max(2).optional(),
});

/** Body of release: the lease as its node has it. */
export const leaseBody = z.object({ key, value: leaseValueSchema });

/**
 * Body of reserve: which subnets, for which addresses, and whether leases in the way are replaced.
 */
export const reserveBody = z.object({ ...leaseBody.shape, force: z.boolean().optional() });

/** Of revoke. */
export const revokeBody = z.object({ key });

/** To acquire, renew and reserve; `replaced` are the leases that a forced one deleted. */
export const leaseReply = z.object({
  lease: leaseSchema,
  replaced: z.array(leaseSchema).optional(),
});

/** To a list: all leases at one revision. */
export const listReply = z.object({
  /** The registry's incarnation: a revision means something in this one only. */
  id: z.string(),
  revision,
  /** Each is checked by `readWireLease`: one that is none must not keep the others away. */
  leases: z.array(z.unknown()),
});

/** A line of the watch stream; without changes it is a heartbeat. */
export const watchLine = z.object({
  /** What stands after these changes: where to resume. */
  revision,
  changes: z.array(z.union([
    z.object({ type: z.literal("put"), ...leaseSchema.shape }),
    z.object({ type: z.literal("delete"), key }),
  ])),
});

/** One line of the watch stream, read. */
export type WatchLine = z.infer<typeof watchLine>;

/** The lease as it travels. */
export function toWireLease(lease: Lease): WireLease {
  return {
    key: leaseKey(lease.subnets),
    value: toLeaseValue(lease),
    expiry_ms: knownExpiry_ms(lease),
  };
}

/** Throws `invalid_argument` if a key or an address in it is none. */
export function fromWireLease(wire: WireLease): Lease {
  return {
    ...readLeaseValue(wire.value, `lease ${wire.key}`),
    subnets: parseLeaseKey(wire.key),
    expiry_ms: wire.expiry_ms,
  };
}

/**
 * A lease of a list. Throws `invalid_argument` if it is none. Checked by hand: the schema would
 * make each of thousands once more.
 */
export function readWireLease(wire: unknown): Lease {
  if (isWireLease(wire)) return fromWireLease(wire);
  throw new SelvageError("invalid_argument", "not a lease");
}

/** The key of what should be a lease of a list; null: it has none. */
export function wireKey(wire: unknown): string | null {
  return isObject(wire) && typeof wire.key === "string" ? wire.key : null;
}

/** As `leaseSchema`, without a copy. */
function isWireLease(wire: unknown): wire is WireLease {
  if (!isObject(wire)) return false;
  const { key, value, expiry_ms } = wire;
  return typeof key === "string" && key.length <= KEY_LENGTH_MAX && isLeaseValue(value) &&
    (expiry_ms === null || Number.isSafeInteger(expiry_ms));
}

/** The change as it travels. */
export function toWireChange(change: LeaseChange): WatchLine["changes"][number] {
  if (change.type === "delete") return { type: "delete", key: change.key };
  return { type: "put", ...toWireLease(change.lease) };
}

/** Throws `invalid_argument` if a key or an address in it is none. */
export function fromWireChange(wire: WatchLine["changes"][number]): LeaseChange {
  if (wire.type === "delete") {
    return { type: "delete", key: leaseKey(parseLeaseKey(wire.key)) };
  }
  const lease = fromWireLease(wire);
  return { type: "put", key: leaseKey(lease.subnets), lease };
}
