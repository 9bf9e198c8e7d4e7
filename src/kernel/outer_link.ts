/** The outer link: the interface that carries the encapsulated packets. */
import { errorText, SelvageError } from "../errors.ts";
import { type Family, IpAddress, IpPrefix, ofFamily } from "../net/ip.ts";
import { IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_SECONDARY } from "../netlink/address.ts";
import type { InterfaceAddress } from "../netlink/address.ts";
import type { NetlinkConnection } from "../netlink/connection.ts";
import type { Link } from "../netlink/link.ts";
import { type Route, RTN_UNICAST } from "../netlink/route.ts";
import { getRoute, listAddresses, listLinks, listRoutes } from "../netlink/rtnetlink.ts";
import { hasErrno } from "../netlink/error.ts";
import { isOwnRoute } from "./route_diff.ts";

export interface OuterLink {
  readonly name: string;
  readonly index: number;
  readonly mtu_bytes: number;
  /** The interface's own addresses that were chosen, at most one a family. */
  readonly addresses: readonly IpAddress[];
  /** What the peers are told, at most one a family: `addresses` unless --public-ip says else. */
  readonly publicAddresses: readonly IpAddress[];
  /** The ways out of it and into its prefixes, the longest prefixes first. */
  readonly ways: readonly Way[];
  /** Why no packets can leave by it, in one sentence; not given: they can. */
  readonly fault?: string;
}

/** Where packets to a prefix go. */
export interface Way {
  readonly destination: IpPrefix;
  /** Straight out of the outer link, without a gateway. */
  readonly isDirect: boolean;
}

/** What is another now of name, index, MTU and, of these families, addresses; in a few words. */
export function outerLinkChanges(
  before: OuterLink,
  now: OuterLink,
  families: readonly Family[],
): string {
  const addressesOf = ({ addresses, publicAddresses }: OuterLink) => {
    const own = addresses.filter(({ family }) => families.includes(family)).join(", ");
    const told = publicAddresses.filter(({ family }) => families.includes(family)).join(", ");
    return own === told ? own : `${own} (public ${told})`;
  };
  const [was, is] = [addressesOf(before), addressesOf(now)];
  const changes = [
    ...(before.name === now.name ? [] : [`interface ${now.name} instead of ${before.name}`]),
    ...(before.name !== now.name || before.index === now.index
      ? []
      : [`interface ${now.name} was made anew`]),
    ...(was === is ? [] : [`address ${is} instead of ${was}`]),
    ...(before.mtu_bytes === now.mtu_bytes
      ? []
      : [`MTU ${now.mtu_bytes} instead of ${before.mtu_bytes}`]),
  ];
  return changes.join(", ");
}

/**
 * Whether the links are one and have the same MTU and, of these families, the same addresses,
 * whatever lies behind them.
 */
export function isSameOuterLink(
  a: OuterLink,
  b: OuterLink,
  families: readonly Family[],
): boolean {
  const isSame = (one: readonly IpAddress[], other: readonly IpAddress[]) =>
    families.every((family) => {
      const address = ofFamily(one, family);
      const otherAddress = ofFamily(other, family);
      return address === undefined || otherAddress === undefined
        ? address === otherAddress
        : address.equals(otherAddress);
    });
  return a.name === b.name && a.index === b.index && a.mtu_bytes === b.mtu_bytes &&
    isSame(a.addresses, b.addresses) && isSame(a.publicAddresses, b.publicAddresses);
}

/** Whether packets to the address leave by the link without a gateway. */
export function reachesDirectly({ ways }: OuterLink, address: IpAddress): boolean {
  return ways.find(({ destination }) => destination.contains(address))?.isDirect ?? false;
}

/** The flags that choose it; flannel's, tried in this order, else the default route's interface. */
export interface OuterLinkChoice {
  readonly interfaces: readonly string[];
  readonly interfaceRegexes: readonly string[];
  readonly canReach: string | null;
  readonly publicAddresses: readonly IpAddress[];
}

/** What the kernel has to choose from. */
interface Candidates {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
}

/** A link, and the address that made it the choice, where it was one. */
interface Found {
  readonly link: Link;
  readonly address: IpAddress | null;
}

/** Lower is better; null: not to be used. */
function rank(entry: InterfaceAddress): number | null {
  const { address, flags } = entry;
  if (address.isLoopback() || address.isMulticast() || address.isUnspecified()) return null;
  // An IPv6 link-local address means nothing without its interface; an IPv4 one will do, as in
  // flannel, where there is no other.
  if (address.isLinkLocal()) return address.family === 4 ? 3 : null;
  if ((flags & IFA_F_DADFAILED) !== 0) return null;
  if ((flags & IFA_F_DEPRECATED) !== 0) return 2;
  return (flags & IFA_F_SECONDARY) !== 0 ? 1 : 0;
}

/** The addresses of a link that could be used, the best first. */
function usableAddresses(candidates: Candidates, link: Link): IpAddress[] {
  return candidates.addresses.filter(({ linkIndex }) => linkIndex === link.index)
    .flatMap((entry) => {
      const order = rank(entry);
      return order === null ? [] : [{ order, address: entry.address }];
    })
    .sort((a, b) => a.order - b.order)
    .map(({ address }) => address);
}

/** `eth0 (10.0.0.1), eth1 (no address)` */
function available(candidates: Candidates): string {
  return candidates.links.map((link) => {
    const own = candidates.addresses.filter(({ linkIndex }) => linkIndex === link.index);
    return `${link.name} (${own.map(({ address }) => address).join(", ") || "no address"})`;
  }).join(", ");
}

function byIndex(candidates: Candidates, index: number | undefined): Link | undefined {
  return candidates.links.find((link) => link.index === index);
}

function notFound(flag: string, value: string, why: string): SelvageError {
  return new SelvageError("not_found", `${flag} ${JSON.stringify(value)}: ${why}`);
}

/** `--iface`: an address that an interface has, or an interface's name. */
function findByNameOrAddress(candidates: Candidates, value: string): Found {
  const isAddress = /^\d+(\.\d+){3}$/.test(value) || value.includes(":");
  if (isAddress) {
    const address = IpAddress.parse(value, "--iface");
    const entry = candidates.addresses.find((entry) => entry.address.equals(address));
    const link = byIndex(candidates, entry?.linkIndex);
    if (link === undefined) throw notFound("--iface", value, "no interface has this address");
    return { link, address };
  }
  const link = candidates.links.find(({ name }) => name === value);
  if (link === undefined) throw notFound("--iface", value, "there is no such interface");
  return { link, address: null };
}

/** `--iface-regex`: matched against every IPv4 address first, then against the names. */
function findByRegex(candidates: Candidates, value: string): Found {
  let regex: RegExp;
  try {
    regex = new RegExp(value);
  } catch (error) {
    throw new SelvageError(
      "invalid_argument",
      `--iface-regex ${JSON.stringify(value)}: ${errorText(error)}`,
    );
  }
  for (const link of candidates.links) {
    const address = usableAddresses(candidates, link)
      .find((address) => address.family === 4 && regex.test(`${address}`));
    if (address !== undefined) return { link, address };
  }
  const named = candidates.links.filter(({ name }) => regex.test(name));
  const link = named.find((link) => usableAddresses(candidates, link).length > 0) ?? named[0];
  if (link === undefined) throw notFound("--iface-regex", value, "no interface matches");
  return { link, address: null };
}

/** `--iface-can-reach`: the way a packet to that address would go. */
function findByDestination(
  connection: NetlinkConnection,
  candidates: Candidates,
  value: string,
): Found {
  const route = getRoute(connection, IpAddress.parse(value, "--iface-can-reach"));
  const link = byIndex(candidates, route?.nextHops[0]?.linkIndex);
  if (route === null || link === undefined) {
    throw notFound("--iface-can-reach", value, "there is no route to it");
  }
  return { link, address: route.preferredSource };
}

/** The interface of the IPv4 default route with the lowest metric. */
function findByDefaultRoute(connection: NetlinkConnection, candidates: Candidates): Found {
  const routes = listRoutes(connection, 4, { keep: ({ destination }) => destination.length === 0 });
  const hops = routes.sort((a, b) => a.metric - b.metric).flatMap(({ nextHops }) => nextHops);
  for (const { linkIndex } of hops) {
    const link = byIndex(candidates, linkIndex);
    if (link !== undefined) return { link, address: null };
  }
  throw new SelvageError(
    "not_found",
    `no IPv4 default route to tell the outer interface by; there are: ${available(candidates)}`,
    { hint: "Name the interface with --iface=NAME, by its name or its address." },
  );
}

function listRoutesIfAny(
  connection: NetlinkConnection,
  family: Family,
  keep: (route: Route) => boolean,
): Route[] {
  try {
    return listRoutes(connection, family, { keep });
  } catch (error) {
    if (hasErrno(error, "EOPNOTSUPP", "EAFNOSUPPORT")) return [];
    throw error;
  }
}

/** Of a host with a million routes only those that may matter to hosts on this link. */
function listWays(
  connection: NetlinkConnection,
  candidates: Candidates,
  link: Link,
): Way[] {
  const prefixes = candidates.addresses.filter(({ linkIndex }) => linkIndex === link.index)
    .map(({ address, prefixLength }) => IpPrefix.of(address.masked(prefixLength), prefixLength));
  const isDirect = ({ type, nextHops }: Route) =>
    type === RTN_UNICAST && nextHops.length === 1 && nextHops[0]!.gateway === null &&
    nextHops[0]!.linkIndex === link.index;
  const isNoHosts = ({ destination: { address } }: Route) =>
    address.isMulticast() || (address.family === 6 && address.isLinkLocal());
  const keep = (route: Route) =>
    !isOwnRoute(route) && !isNoHosts(route) && route.tos === 0 && !route.isBySource &&
    (isDirect(route) ||
      prefixes.some((prefix) =>
        prefix.family === route.destination.family && prefix.containsPrefix(route.destination)
      ));
  return ([4, 6] as const)
    .flatMap((family) => listRoutesIfAny(connection, family, keep))
    .sort((a, b) => b.destination.length - a.destination.length || a.metric - b.metric)
    .map((route) => ({ destination: route.destination, isDirect: isDirect(route) }));
}

/** Why no packets can leave by the link, though it may have addresses; null: they can. */
function faultOf({ isUp, operState }: Link): string | null {
  if (!isUp) return "is down";
  return operState === "down" || operState === "lowerlayerdown" ? "has no carrier" : null;
}

/** Throws `not_found` unless the link has an address of each of these families. */
function describe(
  connection: NetlinkConnection,
  candidates: Candidates,
  { link, address }: Found,
  choice: OuterLinkChoice,
  families: readonly Family[],
): OuterLink {
  const usable = usableAddresses(candidates, link);
  if (address !== null) usable.unshift(address);
  const addresses = ([4, 6] as const).map((family) => ofFamily(usable, family))
    .filter((address) => address !== undefined);
  const fault = faultOf(link);
  for (const family of families) {
    if (ofFamily(addresses, family) === undefined) {
      throw new SelvageError(
        "not_found",
        `interface ${link.name} ${fault === null ? "" : `${fault} and `}` +
          `has no usable IPv${family} address`,
        {
          hint: `Give it one, or name another interface: ${available(candidates)}.`,
        },
      );
    }
  }
  const publicAddresses = ([4, 6] as const)
    .map((family) => ofFamily(choice.publicAddresses, family) ?? ofFamily(addresses, family))
    .filter((address) => address !== undefined);
  const { name, index, mtu_bytes } = link;
  const ways = listWays(connection, candidates, link);
  const chosen = { name, index, mtu_bytes, addresses, publicAddresses, ways };
  return fault === null ? chosen : { ...chosen, fault: `interface ${name} ${fault}` };
}

/**
 * Chooses the outer link in flannel's order (its `pkg/ipmatch`): each `interfaces` value, each
 * `interfaceRegexes` value, `canReach`; the first that fits wins. With none of them given, the
 * interface of the default route. It must have an address of each of `families`; one of the other
 * family is taken along where there is one.
 *
 * Throws `not_found` if nothing fits, naming what there is; `invalid_argument` for a value that is
 * no address or no regular expression; and `NetlinkError`.
 */
export function chooseOuterLink(
  connection: NetlinkConnection,
  choice: OuterLinkChoice,
  families: readonly Family[] = [4],
): OuterLink {
  const candidates = { links: listLinks(connection), addresses: listAddresses(connection) };
  const { interfaces, interfaceRegexes, canReach } = choice;
  const tries = [
    ...interfaces.map((value) => () => findByNameOrAddress(candidates, value)),
    ...interfaceRegexes.map((value) => () => findByRegex(candidates, value)),
    ...(canReach === null ? [] : [() => findByDestination(connection, candidates, canReach)]),
  ];
  if (tries.length === 0) {
    return describe(
      connection,
      candidates,
      findByDefaultRoute(connection, candidates),
      choice,
      families,
    );
  }
  const reasons: string[] = [];
  for (const find of tries) {
    try {
      return describe(connection, candidates, find(), choice, families);
    } catch (error) {
      if (!(error instanceof SelvageError) || error.code !== "not_found") throw error;
      reasons.push(error.message);
    }
  }
  throw new SelvageError("not_found", `no outer interface: ${reasons.join("; ")}`, {
    hint: `There are: ${available(candidates)}.`,
  });
}
