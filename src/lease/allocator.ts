/**
 * Which subnets a node gets: flannel's order of choice as a pure function, for every store that
 * decides itself.
 */
import type { NetworkConfig, SubnetRange } from "../config/network_config.ts";
import { SelvageError } from "../errors.ts";
import { bitsOf, IpAddress, IpPrefix, ofFamily } from "../net/ip.ts";
import { type Lease, leaseKey, type LeaseRequest, sameNode } from "./lease.ts";

/** What to do to give a node its lease. */
export interface Allocation {
  /** One of each family that is switched on, IPv4 first. */
  readonly subnets: readonly IpPrefix[];
  /** The lease or reservation that the node holds already and keeps; null: it takes a new one. */
  readonly held: Lease | null;
  /** Keys of leases of this node to delete in the same step; never a reservation's. */
  readonly deletedKeys: readonly string[];
}

const WIDE_NAMED_MAX = 3;

/** A run of slots (numbers of subnets in a range), both ends included. */
interface Span {
  readonly first: bigint;
  readonly last: bigint;
}

/** Whether a subnet is one that the range gives out: exact length, within min and max. */
export function isInRange(range: SubnetRange, subnet: IpPrefix): boolean {
  return subnet.family === range.family && subnet.length === range.subnetLength &&
    subnet.address.compare(range.subnetMin) >= 0 && subnet.address.compare(range.subnetMax) <= 0;
}

/** Whether these are the subnets of a lease under this configuration: one of each family. */
export function isCompatible(config: NetworkConfig, subnets: readonly IpPrefix[]): boolean {
  return subnets.length === config.ranges.length && config.ranges.every((range) => {
    const subnet = ofFamily(subnets, range.family);
    return subnet !== undefined && isInRange(range, subnet);
  });
}

/**
 * Whether a node can use a reservation of these subnets. Unlike other leases it may lie outside
 * of min and max and have another length: setting such subnets aside is what it is for.
 */
export function isReservable(config: NetworkConfig, subnets: readonly IpPrefix[]): boolean {
  return subnets.length === config.ranges.length && config.ranges.every((range) => {
    const subnet = ofFamily(subnets, range.family);
    // Four addresses at least, as the configuration's SubnetLen.
    return subnet !== undefined && range.network.containsPrefix(subnet) &&
      subnet.length > range.network.length && subnet.length <= bitsOf(range.family) - 2;
  });
}

/** The slots of the range that leases cover, wholly or in part: sorted, merged, clipped. */
function coveredSpans(range: SubnetRange, leases: readonly Lease[]): Span[] {
  const shift = BigInt(bitsOf(range.family) - range.subnetLength);
  const base = range.subnetMin.value >> shift;
  const slotLast = (range.subnetMax.value >> shift) - base;
  const spans: Span[] = [];
  for (const lease of leases) {
    const subnet = ofFamily(lease.subnets, range.family);
    if (subnet === undefined) continue;
    const first = (subnet.address.value >> shift) - base;
    const last = ((subnet.address.value + subnet.size - 1n) >> shift) - base;
    if (last < 0n || first > slotLast) continue;
    spans.push({ first: first < 0n ? 0n : first, last: last > slotLast ? slotLast : last });
  }
  spans.sort((a, b) => a.first < b.first ? -1 : a.first > b.first ? 1 : 0);
  const merged: Span[] = [];
  for (const span of spans) {
    const previous = merged.at(-1);
    if (previous === undefined || span.first > previous.last) merged.push(span);
    else if (span.last > previous.last) {
      merged[merged.length - 1] = { first: previous.first, last: span.last };
    }
  }
  return merged;
}

/** An even choice among 0 .. count - 1, of any size, from numbers in [0, 1). */
function randomBelow(count: bigint, random: () => number): bigint {
  // 32 bits more than needed keep the choice even to one part in 2^32.
  let bits = 0n;
  let value = 0n;
  do {
    value = (value << 32n) | BigInt(Math.floor(random() * 0x1_0000_0000));
    bits += 32n;
  } while (count >> bits !== 0n || bits < 64n);
  return (value * count) >> bits;
}

/** Names leases that take more than one subnet each, of which there should be few; or nothing. */
function wideText(range: SubnetRange, leases: readonly Lease[]): string {
  const wide = leases.filter(({ subnets }) => {
    const subnet = ofFamily(subnets, range.family);
    return subnet !== undefined && subnet.length < range.subnetLength;
  });
  if (wide.length === 0) return "";
  const names = wide.slice(0, WIDE_NAMED_MAX).map(({ subnets }) => leaseKey(subnets)).join(", ");
  const rest = wide.length > WIDE_NAMED_MAX ? ` and ${wide.length - WIDE_NAMED_MAX} more` : "";
  return `, many of them by ${names}${rest}`;
}

/** A random free subnet of the range: by the gaps between leases, not by trial. */
function randomFree(range: SubnetRange, leases: readonly Lease[], random: () => number): IpPrefix {
  const shift = BigInt(bitsOf(range.family) - range.subnetLength);
  const total = ((range.subnetMax.value - range.subnetMin.value) >> shift) + 1n;
  const spans = coveredSpans(range, leases);
  const covered = spans.reduce((sum, span) => sum + (span.last - span.first + 1n), 0n);
  if (covered >= total) {
    const within = `${range.subnetMin} to ${range.subnetMax} in ${range.network}`;
    const text = `all ${total} subnets of length /${range.subnetLength} from ${within} are taken`;
    throw new SelvageError("out_of_subnets", `${text}${wideText(range, leases)}`, {
      hint: "Revoke leases of hosts that are gone, or widen the network.",
    });
  }
  let slot = randomBelow(total - covered, random);
  for (const span of spans) {
    if (slot < span.first) break;
    slot += span.last - span.first + 1n;
  }
  const address = range.subnetMin.value + (slot << shift);
  return IpPrefix.of(IpAddress.of(range.family, address), range.subnetLength);
}

/** The first of the wanted subnets that the range gives out and no lease overlaps. */
function firstFree(
  range: SubnetRange,
  leases: readonly Lease[],
  wanted: readonly IpPrefix[],
): IpPrefix | undefined {
  return wanted.find((subnet) =>
    isInRange(range, subnet) &&
    !leases.some((lease) => lease.subnets.some((taken) => taken.overlaps(subnet)))
  );
}

/**
 * Chooses a node's subnets, in flannel's order: what it holds, what it held, a random free one.
 *
 * A reservation for the node goes before a lease of it. A lease that the configuration no longer
 * allows is deleted, but of two families the one that still fits is wanted again. Nothing chosen
 * overlaps any lease that stays, of whatever length. `leases` must hold none that has run out.
 * `random` gives numbers in [0, 1). Throws `out_of_subnets`.
 */
export function allocate(
  config: NetworkConfig,
  leases: readonly Lease[],
  request: LeaseRequest,
  random: () => number,
): Allocation {
  const own = leases.filter((lease) => sameNode(lease, request.attributes));
  const reserved = own.find((lease) =>
    lease.expiry_ms === null && isReservable(config, lease.subnets)
  );
  const held = reserved ??
    own.find((lease) => lease.expiry_ms !== null && isCompatible(config, lease.subnets)) ?? null;
  // One lease a node: a second one would draw its peers' packets to where it is not.
  const deleted = own.filter((lease) => lease !== held && lease.expiry_ms !== null);
  const deletedKeys = deleted.map((lease) => leaseKey(lease.subnets));
  if (held !== null) return { subnets: held.subnets, held, deletedKeys };

  const staying = leases.filter((lease) => !deleted.includes(lease));
  const wanted = [...request.previousSubnets, ...deleted.flatMap((lease) => lease.subnets)];
  const subnets = config.ranges.map((range) =>
    firstFree(range, staying, wanted) ?? randomFree(range, staying, random)
  );
  return { subnets, held: null, deletedKeys };
}
