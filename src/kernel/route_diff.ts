/** What is to be done about routes. Pure. */
import type { Link } from "../netlink/link.ts";
import {
  protocolName,
  type Route,
  RTN_BLACKHOLE,
  RTN_UNICAST,
  RTN_UNREACHABLE,
} from "../netlink/route.ts";
import {
  defaultMetric,
  type NewBlackhole,
  type NewRoute,
  routeText,
} from "../netlink/route_request.ts";
import type { IpPrefix } from "../net/ip.ts";
import type { KernelOperation } from "./operation.ts";
import type { PeerProblem } from "./problem.ts";
import { type DesiredBlackhole, type DesiredRoute, RTPROT_SELVAGE } from "./state.ts";

/** Of our routes that drop: any other route to the same addresses goes first. */
export const BLACKHOLE_METRIC = 2 ** 31 - 1;

/** Whether a route is of our making. */
export function isOwnRoute(route: Route): boolean {
  return route.protocol === RTPROT_SELVAGE;
}

/** The routes that the kernel cannot keep apart have one key (`fib_table_insert`: tos 0 here). */
function routeKey(destination: IpPrefix, metric: number): string {
  return `${destination} ${metric}`;
}

function newRoute(desired: DesiredRoute, link: Link, nexthopId: number | null): NewRoute {
  return {
    destination: desired.destination,
    linkIndex: link.index,
    linkName: link.name,
    gateway: desired.gateway,
    isOnLink: desired.isOnLink,
    nexthopId,
    protocol: RTPROT_SELVAGE,
  };
}

function isAsDesired(route: Route, { desired, link, nexthopId }: Place): boolean {
  const hop = route.nextHops[0];
  // What an object says is looked at with the objects.
  if (route.nexthopId !== null) {
    return route.type === RTN_UNICAST && route.nexthopId === nexthopId;
  }
  if (route.type !== RTN_UNICAST || route.nextHops.length !== 1 || hop === undefined) return false;
  if (hop.linkIndex !== link.index) return false;
  if (desired.gateway === null || hop.gateway === null) return desired.gateway === hop.gateway;
  return hop.gateway.equals(desired.gateway) && hop.isOnLink === desired.isOnLink;
}

function foreignText(route: Route, linkNames: ReadonlyMap<number, string>): string {
  const hops = route.nextHops.map(({ gateway, linkIndex }) =>
    routeText(route.destination, gateway, linkNames.get(linkIndex) ?? `#${linkIndex}`)
  );
  return `${hops.join(", ") || route.destination} proto ${protocolName(route.protocol)}`;
}

/** What the kernel has for one destination and metric, in its order, and what it should have. */
interface Place {
  readonly desired: DesiredRoute;
  readonly link: Link;
  /** The object by which the route is to name its way. */
  readonly nexthopId: number | null;
  readonly same: readonly Route[];
  /** Whether the route was as desired before. */
  readonly isHeld: boolean;
}

/**
 * Whether the kernel lets ours take the route's place in one step. It looks an IPv6 gateway up that
 * is to count as on the link, and refuses one that is behind another device
 * (`ip6_route_check_nh_onlink`), as ours is while that route stands.
 */
function isReplaceable({ type, nextHops }: Route, desired: DesiredRoute, link: Link): boolean {
  if (desired.destination.family === 4 || !desired.isOnLink) return true;
  return type === RTN_UNICAST && nextHops.every(({ linkIndex }) => linkIndex === link.index);
}

/** What is to be done in one place; a text instead: another's route is in the way. */
function diffPlace(
  place: Place,
  linkNames: ReadonlyMap<number, string>,
): { operations: KernelOperation[]; isKept: boolean } | string {
  const { desired, link, nexthopId, same, isHeld } = place;
  const own = same.filter(isOwnRoute);
  const foreign = same.filter((route) => !isOwnRoute(route));
  const kept = own.find((route) => isAsDesired(route, place));
  const others = own.filter((route) => route !== kept);
  if (foreign.length > 0 && !isHeld) {
    // The kernel uses the first. Another program's route that is right, such as one that flanneld
    // left, serves the peer as ours would. It stays that program's: we neither adopt nor remove it.
    const first = same[0]!;
    if (isAsDesired(first, place)) {
      const useless = own.filter((route) => route !== first);
      const operations = useless.map((route): KernelOperation => ({ type: "delete_route", route }));
      return { operations, isKept: isOwnRoute(first) };
    }
    return `route ${foreignText(foreign[0]!, linkNames)} is not ours and in the way of ` +
      `${routeText(desired.destination, desired.gateway, link.name)}; remove it`;
  }
  // What came where ours stood has taken its place; of several the kernel uses the first.
  const wrong = kept !== undefined && same[0] === kept ? others : [...foreign, ...others];
  const operations = wrong.map((route): KernelOperation => ({ type: "delete_route", route }));
  if (kept !== undefined) return { operations, isKept: true };
  const add = { route: newRoute(desired, link, nexthopId), peerKey: desired.peerKey };
  // With one alone in its place, replacing leaves no moment without a route.
  if (wrong.length === 1 && isReplaceable(wrong[0]!, desired, link)) {
    return { operations: [{ type: "replace_route", ...add }], isKept: false };
  }
  return { operations: [...operations, { type: "add_route", ...add }], isKept: false };
}

/** The blackhole or unreachable route for a destination. */
export function blackholeRoute({ destination, isAnswered }: DesiredBlackhole): NewBlackhole {
  const type = isAnswered ? RTN_UNREACHABLE : RTN_BLACKHOLE;
  return { destination, type, protocol: RTPROT_SELVAGE, metric: BLACKHOLE_METRIC };
}

/**
 * The operations for the place of such a route; a text: a route of another program is in the way.
 */
function diffBlackhole(
  desired: DesiredBlackhole,
  same: readonly Route[],
): KernelOperation[] | string {
  const route = blackholeRoute(desired);
  const kept = same.find((one) => isOwnRoute(one) && one.type === route.type);
  const wrong = same.filter((route) => isOwnRoute(route) && route !== kept);
  const operations = wrong.map((route): KernelOperation => ({ type: "delete_route", route }));
  if (kept !== undefined) return operations;
  if (same.length > wrong.length) {
    const kind = desired.isAnswered ? "unreachable" : "blackhole";
    return `route ${desired.destination} metric ${BLACKHOLE_METRIC} that is not ours is in the ` +
      `way of our ${kind} route; remove it`;
  }
  return [...operations, { type: "add_blackhole", route }];
}

/** Routes of ours beside another's that has the place; they have no use. */
function withoutUse(same: readonly Route[]): KernelOperation[] {
  return same.filter(isOwnRoute).map((route) => ({ type: "delete_route", route }));
}

function byPlace(routes: readonly Route[]): Map<string, Route[]> {
  const places = new Map<string, Route[]>();
  for (const route of routes) {
    // Routes for one type of service or for some sources alone compete with none of ours.
    if (route.tos !== 0 || route.isBySource) continue;
    const key = routeKey(route.destination, route.metric);
    const same = places.get(key);
    if (same) same.push(route);
    else places.set(key, [route]);
  }
  return places;
}

/** The key of the place that a desired route takes. */
export function placeOf({ destination }: DesiredRoute): string {
  return routeKey(destination, defaultMetric(destination.family));
}

export interface RouteDiff {
  /** The places where ours stands as desired, or stood before. */
  readonly held: ReadonlySet<string>;
  readonly operations: readonly KernelOperation[];
  readonly problems: readonly PeerProblem[];
}

/**
 * `held` are the places where ours stood as desired before; what another hand put there since is
 * replaced. `nexthopIdOf` says which object a route names. `isPartial`: what is not desired may yet
 * be, and stays.
 */
export function diffRoutes(
  desired: readonly DesiredRoute[],
  actual: readonly Route[],
  usable: ReadonlyMap<string, Link>,
  { blackholes, linkNames, held, nexthopIdOf, isPartial }: {
    readonly blackholes: readonly DesiredBlackhole[];
    readonly linkNames: ReadonlyMap<number, string>;
    readonly held: ReadonlySet<string>;
    readonly nexthopIdOf: (desired: DesiredRoute) => number | null;
    readonly isPartial: boolean;
  },
): RouteDiff {
  const places = byPlace(actual);
  const problems: PeerProblem[] = [];
  const changes: KernelOperation[] = [];
  const nowHeld = new Set<string>();
  for (const entry of desired) {
    const key = placeOf(entry);
    if (held.has(key)) nowHeld.add(key);
    const same = places.get(key) ?? [];
    places.delete(key);
    const link = usable.get(entry.linkName);
    if (link === undefined) continue;
    const place = { desired: entry, link, nexthopId: nexthopIdOf(entry), same };
    const change = diffPlace({ ...place, isHeld: held.has(key) }, linkNames);
    if (typeof change !== "string") {
      changes.push(...change.operations);
      if (change.isKept) nowHeld.add(key);
    } else {
      problems.push({ peerKey: entry.peerKey, text: change });
      changes.push(...withoutUse(same));
    }
  }
  for (const entry of blackholes) {
    const key = routeKey(entry.destination, BLACKHOLE_METRIC);
    const change = diffBlackhole(entry, places.get(key) ?? []);
    places.delete(key);
    if (typeof change === "string") problems.push({ peerKey: null, text: change });
    else changes.push(...change);
  }
  const stale = isPartial ? [] : [...places.values()].flatMap(withoutUse);
  return { held: nowHeld, operations: [...stale, ...changes], problems };
}
