/**
 * What is to be done about nexthop objects. Pure.
 *
 * The kernel finds an IPv4 route's way among all by a hash that leaves the gateway out: with a
 * gateway of its own for each of thousands of routes on one link, each new one is compared with all
 * before it (`fib_find_info`). By the number of an object it is found at once.
 */
import type { IpAddress } from "../net/ip.ts";
import type { Link } from "../netlink/link.ts";
import type { NexthopObject } from "../netlink/nexthop.ts";
import type { KernelOperation } from "./operation.ts";
import { type DesiredRoute, RTPROT_SELVAGE } from "./state.ts";

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
 * `actual` are all objects of the namespace; null: this kernel has none. `isHeld` says whether a
 * route stood as desired before: then whatever has its number was ours. Numbers that others have
 * are left to them. `isPartial`: what is not desired may yet be, and stays.
 */
export function diffNexthops(
  desired: readonly DesiredRoute[],
  actual: readonly NexthopObject[] | null,
  usable: ReadonlyMap<string, Link>,
  { isHeld, isPartial }: {
    readonly isHeld: (desired: DesiredRoute) => boolean;
    readonly isPartial: boolean;
  },
): NexthopDiff {
  if (actual === null) return { operations: [], stale: [], idOf: () => null };
  const byId = new Map(actual.map((object) => [object.id, object]));
  const operations: KernelOperation[] = [];
  const wanted = new Set<number>();
  const foreign = new Set<number>();
  for (const route of desired) {
    const id = numberOf(route.gateway);
    const link = usable.get(route.linkName);
    if (id === null || link === undefined || wanted.has(id)) continue;
    const there = byId.get(id);
    if (there !== undefined && there.protocol !== RTPROT_SELVAGE && !isHeld(route)) {
      foreign.add(id);
      continue;
    }
    wanted.add(id);
    const isRight = there !== undefined && there.protocol === RTPROT_SELVAGE &&
      there.linkIndex === link.index && there.isOnLink === route.isOnLink &&
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
    idOf: ({ gateway }) => {
      const id = numberOf(gateway);
      return id === null || foreign.has(id) ? null : id;
    },
  };
}
