/**
 * A lease: one node's hold on a subnet of each family, and what its peers need to reach it.
 * Shaped after flannel's, but with one family-tagged list in place of parallel v4 and v6 fields.
 */
import { type Family, IpAddress, IpPrefix, ofFamily } from "../net/ip.ts";
import { SelvageError } from "../errors.ts";

/** What a node publishes about itself. */
export interface LeaseAttributes {
  /** At most one of each family; the IPv4 address, where there is one, identifies the node. */
  readonly publicAddresses: readonly IpAddress[];
  /** Lower case. flannel leaves it out for udp and alloc; here it is always filled in. */
  readonly backendType: string;
  /** The backend's own data by family (flannel: BackendData, BackendV6Data), as parsed JSON. */
  readonly backendData: Readonly<Partial<Record<Family, unknown>>>;
  /**
   * Which daemon wrote the lease; not given: a flannel node, or a reservation whose host has not
   * joined.
   */
  readonly node?: NodeMark;
  /**
   * Given: an administrator wrote this for a reservation, and the host has not written it since.
   * Every host, also one with flannel, removes it when it writes its own attributes.
   */
  readonly awaitsHost?: true;
}

/** Distinguishes two daemons that publish the same address. */
export interface NodeMark {
  /** Random, kept in the node's state directory. */
  readonly id: string;
  /** Random, of one run of the daemon: a copied state directory has the same id. Empty: unknown. */
  readonly run: string;
}

export interface Lease extends LeaseAttributes {
  /** At most one of each family, IPv4 first. */
  readonly subnets: readonly IpPrefix[];
  /**
   * When it ends unless renewed, in ms since 1970; null for a reservation, which never ends;
   * undefined where the store does not say it, as etcd: it would take a call for each lease.
   */
  readonly expiry_ms: number | null | undefined;
}

/** What a node asks for. */
export interface LeaseRequest {
  readonly attributes: LeaseAttributes;
  /** The subnets this node held before (subnet file); wanted again where they are free. */
  readonly previousSubnets: readonly IpPrefix[];
}

/** One change of the set of leases. `key` is `leaseKey` of the subnets. */
export type LeaseChange =
  | { readonly type: "put"; readonly key: string; readonly lease: Lease }
  | { readonly type: "delete"; readonly key: string };

/**
 * The name of a lease in every store, as flannel writes it in etcd: `10.5.52.0-24`, dual-stack
 * `10.5.52.0-24&fc00::-64`.
 */
export function leaseKey(subnets: readonly IpPrefix[]): string {
  const [first] = subnets;
  // Nearly always one, and there may be thousands of leases.
  if (subnets.length === 1) return `${first!.address}-${first!.length}`;
  return subnets.map((subnet) => `${subnet.address}-${subnet.length}`).join("&");
}

/**
 * Reads a lease key, or the more usual `10.5.52.0/24`. Throws `invalid_argument` if it is none or
 * names a family twice; the order of the families does not matter.
 */
export function parseLeaseKey(text: string, what = "lease"): IpPrefix[] {
  const parse = (part: string) => IpPrefix.parse(part.replace(/-(\d+)$/, "/$1"), what);
  // Nearly always one, and there may be thousands of keys.
  if (!text.includes("&")) return [parse(text)];
  const subnets = text.split("&").map(parse);
  const families = new Set(subnets.map((subnet) => subnet.family));
  if (subnets.length > 2 || families.size !== subnets.length) {
    throw new SelvageError("invalid_argument", `${what} "${text}": one subnet a family at most`);
  }
  return subnets.sort((a, b) => a.family - b.family);
}

/**
 * When the lease ends, null for a reservation. Throws `internal` where that is not known: a store
 * that ends leases itself knows it of all.
 */
export function knownExpiry_ms({ subnets, expiry_ms }: Lease): number | null {
  if (expiry_ms !== undefined) return expiry_ms;
  throw new SelvageError("internal", `lease ${leaseKey(subnets)}: its end is not known`);
}

/**
 * Whether this is a reservation whose host has not come yet. One of an older Selvage, or one that
 * was put into etcd by hand, has no such mark: only with vxlan can it be recognized, because a host
 * always writes its VTEP. Any other counts as come.
 */
export function isAwaitingHost(
  { expiry_ms, node, awaitsHost, backendType, backendData }: Lease,
): boolean {
  if (expiry_ms !== null || node !== undefined) return false;
  if (awaitsHost === true) return true;
  return backendType === "vxlan" && backendData[4] === undefined && backendData[6] === undefined;
}

/**
 * Whether two leases or requests come from the same node: flannel knows a node by its public IPv4
 * address; a node that has none is known by its IPv6 address.
 */
export function sameNode(
  a: Pick<LeaseAttributes, "publicAddresses">,
  b: Pick<LeaseAttributes, "publicAddresses">,
): boolean {
  const family = ofFamily(a.publicAddresses, 4) || ofFamily(b.publicAddresses, 4) ? 4 : 6;
  const ours = ofFamily(a.publicAddresses, family);
  const theirs = ofFamily(b.publicAddresses, family);
  return ours !== undefined && theirs !== undefined && ours.equals(theirs);
}
