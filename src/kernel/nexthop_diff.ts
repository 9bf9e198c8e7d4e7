/**
 * What is to be done about nexthop objects. Pure.
 *
 * The kernel finds an IPv4 route's way among all by a hash that leaves the gateway out: with a
 * gateway of its own for each of thousands of routes on one link, each new one is compared with all
 * before it (`fib_find_info`). By the number of an object it is found at once.
 *
 * But an object goes when its link loses its carrier, with its routes (`nexthop_flush_dev`), while
 * routes that name their gateways themselves stay, whoever runs or not. So objects are for many.
 */
import type { IpAddress } from "../net/ip.ts";
import type { Link } from "../netlink/link.ts";
import type { NexthopObject } from "../netlink/nexthop.ts";
import type { KernelOperation } from "./operation.ts";
import { type DesiredRoute, RTPROT_SELVAGE } from "./state.ts";

/** From so many gateways on, routes go by objects: 1,000 others take the kernel 15 ms. */
export const OBJECTS_FROM_COUNT = 1_000;

/** Whether there are so many gateways that routes that are made now go by objects. */
export function hasManyGateways(desired: readonly DesiredRoute[]): boolean {
  const ids = new Set(desired.map(({ gateway }) => numberOf(gateway)));
  ids.delete(null);
  return ids.size >= OBJECTS_FROM_COUNT;
}

export interface NexthopDiff {
  /** What comes before the routes. */
  readonly operations: readonly KernelOperation[];
  /** What comes after them. */
  readonly stale: readonly KernelOperation[];
  /** The number by which a route names its way; null: it has link and gateway itself. */
  readonly idOf: (desired: DesiredRoute) => number | null;
}

/** The gateway's address: others number theirs from 1 up. IPv6 has no need of it. */
function numberOf(gateway: IpAddress | null): number | null {
  return gateway?.family === 4 ? Number(gateway.value) : null;
}

/**
 * `actual` are all objects of the namespace; null: this kernel has none. `named` are the numbers
 * that routes of ours name: whatever has one of them was ours. Numbers that others have are left to
 * them. `isForNew`: routes may name others than these, too.
 * `isPartial`: what is not desired may yet be, and stays.
 */
export function diffNexthops(
  desired: readonly DesiredRoute[],
  actual: readonly NexthopObject[] | null,
  usable: ReadonlyMap<string, Link>,
  { named, isForNew, isPartial }: {
    readonly named: ReadonlySet<number>;
    readonly isForNew: boolean;
    readonly isPartial: boolean;
  },
): NexthopDiff {
  if (actual === null) return { operations: [], stale: [], idOf: () => null };
  const byId = new Map(actual.map((object) => [object.id, object]));
  const operations: KernelOperation[] = [];
  // One object a gateway: the rare way to it by another link does without.
  const wanted = new Map<number, DesiredRoute>();
  for (const route of desired) {
    const id = numberOf(route.gateway);
    const link = usable.get(route.linkName);
    if (id === null || link === undefined || wanted.has(id)) continue;
    const there = byId.get(id);
    const isOwn = there?.protocol === RTPROT_SELVAGE;
    const isFree = there === undefined || isOwn;
    if (!named.has(id) && !(isForNew && isFree)) continue;
    wanted.set(id, route);
    const isRight = isOwn && there.linkIndex === link.index && there.isOnLink === route.isOnLink &&
      there.gateway?.equals(route.gateway!) === true;
    if (isRight) continue;
    const nexthop = {
      id,
      protocol: RTPROT_SELVAGE,
      linkIndex: link.index,
      linkName: link.name,
      gateway: route.gateway!,
      isOnLink: route.isOnLink,
    };
    operations.push({ type: "put_nexthop", nexthop, peerKey: route.peerKey });
  }
  const stale = isPartial ? [] : actual
    .filter(({ id, protocol }) => protocol === RTPROT_SELVAGE && !wanted.has(id))
    .map(({ id }): KernelOperation => ({ type: "delete_nexthop", id }));
  return {
    operations,
    stale,
    idOf: ({ gateway, linkName, isOnLink }) => {
      const id = numberOf(gateway);
      const first = id === null ? undefined : wanted.get(id);
      return first?.linkName === linkName && first.isOnLink === isOnLink ? id : null;
    },
  };
}
