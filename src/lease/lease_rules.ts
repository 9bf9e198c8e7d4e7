/** What every store refuses, before anything is changed. */
import type { NetworkConfig } from "../config/network_config.ts";
import { checkOuterAddresses } from "../config/overlay_prefixes.ts";
import { SelvageError } from "../errors.ts";
import { type IpPrefix, ofFamily } from "../net/ip.ts";
import { isReservable } from "./allocator.ts";
import { type Lease, type LeaseAttributes, leaseKey, sameNode } from "./lease.ts";
import { formatLeaseValue } from "./lease_value.ts";

/** Throws if no store may take these attributes. */
export function checkAttributes(attributes: LeaseAttributes, config: NetworkConfig): void {
  if (attributes.publicAddresses.length === 0) {
    throw new SelvageError("invalid_argument", "a node needs a public address to hold a lease");
  }
  const wrong = attributes.publicAddresses.find((address) => !address.isHost());
  if (wrong !== undefined) {
    throw new SelvageError("invalid_argument", `public address ${wrong}: not a host's`);
  }
  formatLeaseValue(attributes);
  // Packets to such a host would be routed into the overlay that they are to leave. Whether other
  // backends than udp route the whole network is each host's own affair.
  checkOuterAddresses(config, attributes.publicAddresses, config.backend.type === "udp");
}

/** A node of a network with IPv4 is known by its IPv4 address; a reservation must name it. */
function checkIdentity({ publicAddresses }: LeaseAttributes, config: NetworkConfig): void {
  const needsIpv4 = ofFamily(config.ranges, 4) !== undefined;
  if (!needsIpv4 || ofFamily(publicAddresses, 4) !== undefined) return;
  throw new SelvageError("invalid_argument", "a reservation needs the host's public IPv4 address", {
    hint: "Give it with --public-ip; by it the host is known.",
  });
}

/** Whether any of the subnets overlaps any of the others. */
export function overlap(a: readonly IpPrefix[], b: readonly IpPrefix[]): boolean {
  return a.some((one) => b.some((other) => one.overlaps(other)));
}

/** The error that says whose lease is in the way of these subnets. */
export function overlapError(subnets: readonly IpPrefix[], other: Lease): SelvageError {
  const [key, otherKey] = [leaseKey(subnets), leaseKey(other.subnets)];
  const holder = other.publicAddresses.join(", ") || "an unknown host";
  const isReserved = other.expiry_ms === null;
  const text = key === otherKey
    ? `${key} is taken: it is ${isReserved ? "reserved for" : "leased to"} ${holder}`
    : `${key} overlaps ${otherKey} of ${holder}`;
  return new SelvageError("conflict", text, {
    hint:
      `Choose a subnet that is free ("selvage leases" shows the others), or revoke ${otherKey}. ` +
      "A running host takes its subnet again at once: use --force instead.",
  });
}

/** The error that says that the node has another reservation already. */
export function secondReservationError(other: Lease): SelvageError {
  const holder = other.publicAddresses.join(", ");
  const otherKey = leaseKey(other.subnets);
  return new SelvageError("conflict", `${holder} has a reservation already: ${otherKey}`, {
    hint: `A host has one subnet: revoke ${otherKey} first, or replace it with --force.`,
  });
}

/** The leases that concern a reservation. */
export interface ReservationPlan {
  /**
   * The lease of exactly these subnets that the node holds already; null: there is none. What the
   * node says of itself in it stays.
   */
  readonly held: Lease | null;
  /** What is to be deleted in the same step; empty unless it is forced. */
  readonly replaced: readonly Lease[];
}

/**
 * Throws if these subnets cannot be reserved for this node: `conflict` if another lease is in the
 * way or the node has a reservation of other subnets, else `invalid_argument`. `isForced`: what is
 * in the way is replaced.
 */
export function planReservation(
  config: NetworkConfig,
  leases: readonly Lease[],
  subnets: readonly IpPrefix[],
  attributes: LeaseAttributes,
  isForced: boolean,
): ReservationPlan {
  checkAttributes(attributes, config);
  checkIdentity(attributes, config);
  const key = leaseKey(subnets);
  if (!isReservable(config, subnets)) {
    const parts = config.ranges.map(({ network }) => `one subnet of ${network}`).join(" and ");
    throw new SelvageError("invalid_argument", `${key} cannot be reserved: it is not ${parts}`, {
      hint: `Give ${parts}: smaller than that, and with room for four addresses.`,
    });
  }
  let held: Lease | null = null;
  const replaced: Lease[] = [];
  for (const other of leases) {
    const isSameNode = sameNode(other, attributes);
    const isSecond = isSameNode && other.expiry_ms === null;
    if (leaseKey(other.subnets) === key && isSameNode) held = other;
    else if (!overlap(other.subnets, subnets) && !isSecond) continue;
    else if (isForced) replaced.push(other);
    else throw isSecond ? secondReservationError(other) : overlapError(subnets, other);
  }
  return { held, replaced };
}

/** The error of a renewal by a node that holds the lease no more; `holder`: who does. */
export function lostError(subnets: readonly IpPrefix[], holder: string): SelvageError {
  const text = `the lease ${leaseKey(subnets)} is lost: ${holder} holds it now`;
  return new SelvageError("lease_lost", text);
}
