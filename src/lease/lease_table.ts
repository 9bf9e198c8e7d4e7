/** The set of all leases at one moment, as an immutable value in the order of the subnets. */
import type { IpPrefix } from "../net/ip.ts";
import { type Lease, type LeaseChange, leaseKey, parseLeaseKey } from "./lease.ts";
import { formatLeaseValue } from "./lease_value.ts";

/** Orders by the first subnet, then by the second; one that has no second goes first. */
export function compareSubnets(a: readonly IpPrefix[], b: readonly IpPrefix[]): number {
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const order = a[i]!.compare(b[i]!);
    if (order !== 0) return order;
  }
  return a.length - b.length;
}

/** Whether two leases say the same in every part, the expiry among them. */
export function equalLeases(a: Lease, b: Lease): boolean {
  return a === b || a.expiry_ms === b.expiry_ms && compareSubnets(a.subnets, b.subnets) === 0 &&
      formatLeaseValue(a) === formatLeaseValue(b);
}

/** What a change does, with its key parsed. */
interface Step {
  readonly subnets: readonly IpPrefix[];
  readonly lease: Lease | null;
}

function toStep(change: LeaseChange): Step {
  if (change.type === "put") return { subnets: change.lease.subnets, lease: change.lease };
  return { subnets: parseLeaseKey(change.key), lease: null };
}

/** Leases by their subnets. A change makes a new table, which shares the leases. */
export class LeaseTable {
  static readonly EMPTY: LeaseTable = new LeaseTable([]);

  private constructor(
    /** In the order of their subnets; never changed. */
    readonly leases: readonly Lease[],
  ) {}

  /** A table of these leases, in any order; of several with one key the last counts. */
  static of(leases: readonly Lease[]): LeaseTable {
    return LeaseTable.EMPTY.apply(leases.map((lease) => putChange(lease)));
  }

  get size(): number {
    return this.leases.length;
  }

  /** Where the subnets stand, or would stand: at `from` or after it. */
  #position(subnets: readonly IpPrefix[], from = 0): number {
    let low = from;
    let high = this.leases.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (compareSubnets(this.leases[middle]!.subnets, subnets) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #at(position: number, subnets: readonly IpPrefix[]): Lease | undefined {
    const lease = this.leases[position];
    return lease !== undefined && compareSubnets(lease.subnets, subnets) === 0 ? lease : undefined;
  }

  /** The lease of exactly these subnets. */
  getBySubnets(subnets: readonly IpPrefix[]): Lease | undefined {
    return this.#at(this.#position(subnets), subnets);
  }

  /** The lease with this key; throws `invalid_argument` if it is no key. */
  get(key: string): Lease | undefined {
    return this.getBySubnets(parseLeaseKey(key));
  }

  /**
   * The table after the changes, in their order. One pass over the table however many they are;
   * the leases themselves are shared. A delete of what is not there does nothing.
   */
  apply(changes: readonly LeaseChange[]): LeaseTable {
    if (changes.length === 0) return this;
    // The sort is stable: of several steps with the same subnets the last one counts.
    const steps = changes.map(toStep).sort((a, b) => compareSubnets(a.subnets, b.subnets));
    const next: Lease[] = [];
    let from = 0;
    for (const [i, step] of steps.entries()) {
      const after = steps[i + 1];
      if (after !== undefined && compareSubnets(step.subnets, after.subnets) === 0) continue;
      const position = this.#position(step.subnets, from);
      while (from < position) next.push(this.leases[from++]!);
      if (this.#at(position, step.subnets) !== undefined) from = position + 1;
      if (step.lease !== null) next.push(step.lease);
    }
    while (from < this.leases.length) next.push(this.leases[from++]!);
    return new LeaseTable(next);
  }
}

/** The change that puts a lease. */
export function putChange(lease: Lease): LeaseChange {
  return { type: "put", key: leaseKey(lease.subnets), lease };
}

/** The changes that make `before` into `after`, in the order of the subnets. */
export function diffTables(before: LeaseTable, after: LeaseTable): LeaseChange[] {
  const changes: LeaseChange[] = [];
  let i = 0;
  let j = 0;
  while (i < before.size || j < after.size) {
    const old = before.leases[i];
    const now = after.leases[j];
    const order = old === undefined
      ? 1
      : now === undefined
      ? -1
      : compareSubnets(old.subnets, now.subnets);
    if (order < 0) changes.push({ type: "delete", key: leaseKey(old!.subnets) });
    else if (order > 0 || !equalLeases(old!, now!)) changes.push(putChange(now!));
    if (order <= 0) i++;
    if (order >= 0) j++;
  }
  return changes;
}
