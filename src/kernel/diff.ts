/** The difference between what the kernel has and what it should have: pure, nothing is written. */
import type { InterfaceAddress } from "../netlink/address.ts";
import type { Link } from "../netlink/link.ts";
import { protocolName, type Route, RTN_UNICAST } from "../netlink/route.ts";
import { defaultMetric, type NewRoute, routeText } from "../netlink/route_request.ts";
import type { IpPrefix } from "../net/ip.ts";
import {
  type DesiredAddress,
  type DesiredLink,
  type DesiredRoute,
  type KernelState,
  RTPROT_SELVAGE,
} from "./state.ts";

/** What a dump of the kernel said. Of the routes, those of table main that may matter. */
export interface ActualState {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
  readonly routes: readonly Route[];
}

/** One change to make. */
export type KernelOperation =
  | {
    readonly type: "set_link";
    readonly link: Link;
    /** Left out: it stays. */
    readonly mtu_bytes?: number;
    readonly isUp?: true;
  }
  | { readonly type: "add_address"; readonly link: Link; readonly desired: DesiredAddress }
  | { readonly type: "delete_address"; readonly link: Link; readonly address: InterfaceAddress }
  | { readonly type: "delete_route"; readonly route: Route }
  | { readonly type: "add_route"; readonly route: NewRoute }
  | { readonly type: "replace_route"; readonly route: NewRoute };

export interface KernelDiff {
  /** In the order in which they must be made. */
  readonly operations: readonly KernelOperation[];
  /** What cannot be brought about, one sentence each: it needs someone else to act. */
  readonly problems: readonly string[];
}

/** Whether a route is of our making. */
export function isOwnRoute(route: Route): boolean {
  return route.protocol === RTPROT_SELVAGE;
}

/** The routes that the kernel cannot keep apart have one key (`fib_table_insert`: tos 0 here). */
function routeKey(destination: IpPrefix, metric: number): string {
  return `${destination} ${metric}`;
}

function addressKey(linkName: string, address: string, prefixLength: number): string {
  return `${linkName} ${address}/${prefixLength}`;
}

/** The links of the plan that are there and of the right kind; what is wrong goes to `problems`. */
function findOurLinks(
  desired: readonly DesiredLink[],
  byName: ReadonlyMap<string, Link>,
  problems: string[],
): Map<string, Link> {
  const ours = new Map<string, Link>();
  for (const { name, kind } of desired) {
    const link = byName.get(name);
    if (link === undefined) {
      problems.push(`${kind} device ${name} is missing`);
    } else if (link.kind !== kind) {
      problems.push(`device ${name} is not ours: it is ${link.kind ?? "hardware"}, not ${kind}`);
    } else {
      ours.set(name, link);
    }
  }
  return ours;
}

function diffLinks(
  desired: readonly DesiredLink[],
  ours: ReadonlyMap<string, Link>,
): KernelOperation[] {
  const operations: KernelOperation[] = [];
  for (const { name, mtu_bytes } of desired) {
    const link = ours.get(name);
    if (link === undefined || (link.mtu_bytes === mtu_bytes && link.isUp)) continue;
    operations.push({
      type: "set_link",
      link,
      ...(link.mtu_bytes === mtu_bytes ? {} : { mtu_bytes }),
      ...(link.isUp ? {} : { isUp: true as const }),
    });
  }
  return operations;
}

/** Deletions come first: an address with another prefix length would be in the way. */
function diffAddresses(
  desired: readonly DesiredAddress[],
  actual: readonly InterfaceAddress[],
  cleaned: ReadonlyMap<number, Link>,
  usable: ReadonlyMap<string, Link>,
): KernelOperation[] {
  const wanted = new Map(desired.map((entry) => [
    addressKey(entry.linkName, `${entry.address}`, entry.prefixLength),
    entry,
  ]));
  const operations: KernelOperation[] = [];
  const names = new Map([...usable.values()].map((link) => [link.index, link.name]));
  for (const address of actual) {
    const name = names.get(address.linkIndex) ?? cleaned.get(address.linkIndex)?.name;
    if (name === undefined) continue;
    const key = addressKey(name, `${address.address}`, address.prefixLength);
    if (address.peer === null && wanted.delete(key)) continue;
    const link = cleaned.get(address.linkIndex);
    // The kernel gives every IPv6 link its fe80 address; it does no harm.
    if (link === undefined || (address.address.family === 6 && address.address.isLinkLocal())) {
      continue;
    }
    operations.push({ type: "delete_address", link, address });
  }
  for (const entry of wanted.values()) {
    const link = usable.get(entry.linkName);
    if (link) operations.push({ type: "add_address", link, desired: entry });
  }
  return operations;
}

function newRoute(desired: DesiredRoute, link: Link): NewRoute {
  return {
    destination: desired.destination,
    linkIndex: link.index,
    linkName: link.name,
    gateway: desired.gateway,
    protocol: RTPROT_SELVAGE,
  };
}

function isAsDesired(route: Route, desired: DesiredRoute, link: Link): boolean {
  const hop = route.nextHops[0];
  if (route.type !== RTN_UNICAST || route.nextHops.length !== 1 || hop === undefined) return false;
  if (hop.linkIndex !== link.index) return false;
  return desired.gateway === null ? hop.gateway === null : hop.gateway !== null &&
    hop.gateway.equals(desired.gateway);
}

function foreignText(route: Route, linkNames: ReadonlyMap<number, string>): string {
  const hops = route.nextHops.map(({ gateway, linkIndex }) =>
    routeText(route.destination, gateway, linkNames.get(linkIndex) ?? `#${linkIndex}`)
  );
  return `${hops.join(", ") || route.destination} proto ${protocolName(route.protocol)}`;
}

/** What is to be done about the routes with one destination and metric. */
function diffRoute(
  desired: DesiredRoute,
  link: Link,
  same: readonly Route[],
  linkNames: ReadonlyMap<number, string>,
): { operations: KernelOperation[]; problem: string | null } {
  const own = same.filter(isOwnRoute);
  const foreign = same.find((route) => !isOwnRoute(route));
  const kept = own.find((route) => isAsDesired(route, desired, link));
  const operations: KernelOperation[] = own.filter((route) => route !== kept)
    .map((route) => ({ type: "delete_route", route }));
  if (foreign !== undefined) {
    // Whose packets go where is for the one who made it to say, even if it is the same way.
    const problem = `route ${foreignText(foreign, linkNames)} is not ours and in the way of ` +
      `${routeText(desired.destination, desired.gateway, link.name)}; remove it`;
    return { operations, problem };
  }
  if (kept !== undefined) return { operations, problem: null };
  const route = newRoute(desired, link);
  // With one of ours alone in its place, replacing leaves no moment without a route.
  if (own.length === 1) return { operations: [{ type: "replace_route", route }], problem: null };
  return { operations: [...operations, { type: "add_route", route }], problem: null };
}

function diffRoutes(
  desired: readonly DesiredRoute[],
  actual: readonly Route[],
  usable: ReadonlyMap<string, Link>,
  linkNames: ReadonlyMap<number, string>,
): KernelDiff {
  const byKey = new Map<string, Route[]>();
  for (const route of actual) {
    // Routes for one type of service or for some sources alone compete with none of ours.
    if (route.tos !== 0 || route.isBySource) continue;
    const key = routeKey(route.destination, route.metric);
    const same = byKey.get(key);
    if (same) same.push(route);
    else byKey.set(key, [route]);
  }
  const problems: string[] = [];
  const changes: KernelOperation[] = [];
  for (const entry of desired) {
    const key = routeKey(entry.destination, defaultMetric(entry.destination.family));
    const same = byKey.get(key) ?? [];
    byKey.delete(key);
    const link = usable.get(entry.linkName);
    if (link === undefined) continue;
    const { operations, problem } = diffRoute(entry, link, same, linkNames);
    changes.push(...operations);
    if (problem !== null) problems.push(problem);
  }
  const stale: KernelOperation[] = [...byKey.values()].flat().filter(isOwnRoute)
    .map((route) => ({ type: "delete_route", route }));
  return { operations: [...stale, ...changes], problems };
}

/**
 * What to do so that `actual` becomes `desired`. `formerLinkNames` are links that earlier desired
 * states held; their addresses go too. Nothing is asked for that is not ours: the links of the
 * desired state (by name and kind), their addresses (but IPv6 link-local ones), and the routes of
 * table main with our protocol number.
 */
export function diffKernelState(
  desired: KernelState,
  actual: ActualState,
  formerLinkNames: ReadonlySet<string> = new Set(),
): KernelDiff {
  const problems: string[] = [];
  const byName = new Map(actual.links.map((link) => [link.name, link]));
  const linkNames = new Map(actual.links.map((link) => [link.index, link.name]));
  const ours = findOurLinks(desired.links, byName, problems);
  const cleaned = new Map([...ours.values()].map((link) => [link.index, link]));
  for (const name of formerLinkNames) {
    const link = byName.get(name);
    if (link?.kind === "tun") cleaned.set(link.index, link);
  }
  // Links that the plan names without making them, such as the outer link, are used as they are.
  const planned = new Set(desired.links.map(({ name }) => name));
  const usable = new Map(ours);
  for (const { linkName } of [...desired.addresses, ...desired.routes]) {
    if (planned.has(linkName) || usable.has(linkName)) continue;
    const link = byName.get(linkName);
    if (link) usable.set(linkName, link);
    else problems.push(`device ${linkName} is missing`);
  }
  const routes = diffRoutes(desired.routes, actual.routes, usable, linkNames);
  return {
    operations: [
      ...diffLinks(desired.links, ours),
      ...diffAddresses(desired.addresses, actual.addresses, cleaned, usable),
      ...routes.operations,
    ],
    problems: [...new Set([...problems, ...routes.problems])],
  };
}
