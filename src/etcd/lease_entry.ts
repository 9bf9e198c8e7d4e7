/** Leases as flannel writes them into etcd, byte for byte, and reads them. */
import { SelvageError } from "../errors.ts";
import type { Lease, LeaseAttributes } from "../lease/lease.ts";
import {
  formatLeaseValue,
  isLeaseValue,
  LEASE_VALUE_SIZE_MAX_BYTES,
  leaseValueSchema,
  readLeaseValue,
  toLeaseValue,
} from "../lease/lease_value.ts";
import { checked, parseJson } from "../net/checked.ts";
import type { KeyValue } from "./client/kv.ts";
import type { KeySpace } from "./lease_key.ts";

/** Backends whose name flannel leaves out of the value. */
export type UntypedBackend = "udp" | "alloc";

/** So short a value cannot become too long by being written anew. */
const SAFE_LENGTH = 2048;

/** Go's JSON encoder writes these characters as escapes, in all texts. */
function escapeAsGo(json: string): string {
  return json.replace(
    /[<>&\u2028\u2029]/g,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** The value of a lease. Throws `too_large` if it is longer than a lease's may be. */
export function formatEntryValue(attributes: LeaseAttributes): string {
  // The order of the members is flannel's.
  const { PublicIP, BackendType, ...rest } = toLeaseValue(attributes);
  const value = {
    // Its type for this address has no null; "0.0.0.0" is what Go makes of one that is not there.
    PublicIP: PublicIP ?? "0.0.0.0",
    PublicIPv6: rest.PublicIPv6,
    ...(BackendType === undefined || BackendType === "alloc" ? {} : { BackendType }),
    ...rest,
  };
  const text = escapeAsGo(JSON.stringify(value));
  if (text.length <= LEASE_VALUE_SIZE_MAX_BYTES) return text;
  const limit = `more than ${LEASE_VALUE_SIZE_MAX_BYTES} bytes`;
  throw new SelvageError("too_large", `the lease's attributes take ${limit}`);
}

function readAttributes(text: string, untyped: UntypedBackend): LeaseAttributes {
  if (text.length > LEASE_VALUE_SIZE_MAX_BYTES) {
    const limit = `longer than ${LEASE_VALUE_SIZE_MAX_BYTES} bytes`;
    throw new SelvageError("invalid_argument", `value: ${limit}`);
  }
  const parsed = parseJson(text, "value");
  // The schema alone would make each of thousands once more.
  const value = isLeaseValue(parsed) ? parsed : checked(leaseValueSchema, parsed, "value");
  const attributes = readLeaseValue(value, "value");
  if (text.length > SAFE_LENGTH) formatLeaseValue(attributes);
  return value.BackendType ? attributes : { ...attributes, backendType: untyped };
}

/**
 * The lease that an entry under `keys.subnets` is. `untyped` is what a value without a backend's
 * name means in this network. Throws `invalid_argument` that says what is wrong with it.
 */
export function readEntry(
  { key, value, leaseId }: KeyValue,
  keys: KeySpace,
  untyped: UntypedBackend,
): Lease {
  const subnets = keys.parse(key);
  return {
    ...readAttributes(value, untyped),
    subnets,
    // A key without a lease of etcd stays for ever: that is what a reservation is.
    expiry_ms: leaseId === 0n ? null : undefined,
  };
}
