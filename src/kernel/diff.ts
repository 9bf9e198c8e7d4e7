/** The difference between what the kernel has and what it should have: pure, nothing is written. */
import type { Link } from "../netlink/link.ts";
import type { Route } from "../netlink/route.ts";
import type { ActualState } from "./actual.ts";
import { diffAddresses } from "./address_diff.ts";
import { diffLinks } from "./link_diff.ts";
import { diffFdb, diffNeighbours } from "./neighbour_diff.ts";
import { diffNexthops, hasManyGateways } from "./nexthop_diff.ts";
import type { KernelOperation } from "./operation.ts";
import type { PeerProblem } from "./problem.ts";
import { diffRoutes, isOwnRoute } from "./route_diff.ts";
import type { KernelState } from "./state.ts";

/** What was seen before, and how much is known. */
export interface DiffContext {
  /** Links that earlier desired states held, whose addresses go too. */
  readonly formerLinkNames: ReadonlySet<string>;
  /** Where the links of the plan were last seen: by that a renamed one is known. */
  readonly linkIndexes: ReadonlyMap<string, number>;
  /** Places of routes that were as desired before: `held` of the difference then. */
  readonly heldRoutes: ReadonlySet<string>;
  /** Not all peers are known yet: what is there and not desired stays. */
  readonly isPartial: boolean;
}

export interface KernelDiff {
  /** In the order in which they must be made. */
  readonly operations: readonly KernelOperation[];
  /** What cannot be brought about: it needs someone else to act. */
  readonly problems: readonly PeerProblem[];
  /** The links of the plan that are there, by the plan's names. */
  readonly links: ReadonlyMap<string, Link>;
  /** The places where routes of ours stand as desired, or stood before. */
  readonly heldRoutes: ReadonlySet<string>;
}

/** The entries by the device they are for. */
function byLink<T extends { readonly linkName: string }>(entries: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const entry of entries) {
    const group = groups.get(entry.linkName);
    if (group === undefined) groups.set(entry.linkName, [entry]);
    else group.push(entry);
  }
  return groups;
}

function diffVxlanTables(
  desired: KernelState,
  actual: ActualState,
  ours: ReadonlyMap<string, Link>,
  isPartial: boolean,
): KernelOperation[] {
  const neighbours = byLink(desired.neighbours);
  const fdb = byLink(desired.fdb);
  return [...ours].filter(([, { kind }]) => kind === "vxlan").flatMap(([name, link]) => {
    const misses = desired.misses.find(({ linkName }) => linkName === name) ?? null;
    const of = { link, misses };
    return [
      ...diffNeighbours({
        ...of,
        desired: neighbours.get(name) ?? [],
        actual: actual.neighbours.get(link.index) ?? [],
      }, isPartial),
      ...diffFdb({
        ...of,
        desired: fdb.get(name) ?? [],
        actual: actual.fdb.get(link.index) ?? [],
      }, isPartial),
    ];
  });
}

/** The links that may be used: ours, and those that the plan names without making them. */
function usableLinks(
  desired: KernelState,
  links: readonly Link[],
  ours: ReadonlyMap<string, Link>,
): { usable: Map<string, Link>; problems: PeerProblem[] } {
  const byName = new Map(links.map((link) => [link.name, link]));
  const planned = new Set(desired.links.map(({ name }) => name));
  const usable = new Map(ours);
  const missing = new Set<string>();
  for (const { linkName } of [...desired.addresses, ...desired.routes]) {
    if (planned.has(linkName) || usable.has(linkName)) continue;
    const link = byName.get(linkName);
    if (link) usable.set(linkName, link);
    else missing.add(linkName);
  }
  const problems = [...missing].map((name) => ({
    peerKey: null,
    text: `device ${name} is missing`,
  }));
  return { usable, problems };
}

/** The numbers of the nexthop objects that routes of ours name. */
function namedNexthops(routes: readonly Route[]): Set<number> {
  const ids = routes.filter(isOwnRoute).map(({ nexthopId }) => nexthopId);
  return new Set(ids.filter((id) => id !== null));
}

/**
 * What to do so that `actual` becomes `desired`. Nothing is asked for that is not ours: the links
 * of the desired state (by name and kind), with their addresses (but IPv6 link-local ones),
 * neighbours and FDB entries; devices that a plan of ours once had made; and the routes of table
 * main with our protocol number, or where one of ours stood before.
 */
export function diffKernelState(
  desired: KernelState,
  actual: ActualState,
  context: DiffContext,
): KernelDiff {
  const { operations: linkOperations, problems: linkProblems, ours } = diffLinks(
    desired.links,
    actual.links,
    context.linkIndexes,
  );
  const cleaned = new Map([...ours.values()].map((link) => [link.index, link]));
  for (const link of actual.links) {
    if (link.kind === "tun" && context.formerLinkNames.has(link.name)) {
      cleaned.set(link.index, link);
    }
  }
  const { usable, problems } = usableLinks(desired, actual.links, ours);
  const nexthops = diffNexthops(desired.routes, actual.nexthops, usable, {
    named: namedNexthops(actual.routes),
    isForNew: hasManyGateways(desired.routes),
    isPartial: context.isPartial,
  });
  const routes = diffRoutes(desired.routes, actual.routes, usable, {
    blackholes: desired.blackholes,
    linkNames: new Map(actual.links.map((link) => [link.index, link.name])),
    held: context.heldRoutes,
    nexthopIdOf: nexthops.idOf,
    isPartial: context.isPartial,
  });
  return {
    operations: [
      ...linkOperations,
      ...diffAddresses(desired.addresses, actual.addresses, cleaned, usable),
      ...diffVxlanTables(desired, actual, ours, context.isPartial),
      ...nexthops.operations,
      ...routes.operations,
      ...nexthops.stale,
    ],
    problems: [
      ...linkProblems.map((text) => ({ peerKey: null, text })),
      ...problems,
      ...routes.problems,
    ],
    links: ours,
    heldRoutes: routes.held,
  };
}
