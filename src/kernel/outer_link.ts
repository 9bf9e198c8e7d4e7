/** The outer link: the interface that carries the encapsulated packets. */
import { SelvageError } from "../errors.ts";
import { type Family, IpAddress, IpPrefix, ofFamily } from "../net/ip.ts";
import { IFA_F_DADFAILED, IFA_F_DEPRECATED, IFA_F_SECONDARY } from "../netlink/address.ts";
import type { InterfaceAddress } from "../netlink/address.ts";
import type { NetlinkConnection } from "../netlink/connection.ts";
import type { Link } from "../netlink/link.ts";
import { type Route, RTN_UNICAST } from "../netlink/route.ts";
import { getRoute, listAddresses, listLinks, listRoutes } from "../netlink/rtnetlink.ts";
import { hasErrno } from "../netlink/error.ts";
import { isOwnRoute } from "./route_diff.ts";
import { isOwnLinkName } from "./state.ts";

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
  /** Every address of this host on any interface, link-local IPv6 left out; not given: unknown. */
  readonly localAddresses?: readonly IpAddress[];
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

/** Whether both have the same addresses, own and public ones, of these families. */
export function hasSameAddresses(
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
  return isSame(a.addresses, b.addresses) && isSame(a.publicAddresses, b.publicAddresses);
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
  return a.name === b.name && a.index === b.index && a.mtu_bytes === b.mtu_bytes &&
    hasSameAddresses(a, b, families);
}

/** Whether packets to the address leave by the link without a gateway. */
export function reachesDirectly({ ways }: OuterLink, address: IpAddress): boolean {
  return ways.find(({ destination }) => destination.contains(address))?.isDirect ?? false;
}

/** A regular expression; `toString` gives its text. */
export interface Pattern {
  readonly toString: () => string;
  /** Whether it fits some part of the text. */
  readonly matches: (text: string) => boolean;
}

/** The flags that choose it, which are flannel's; see `chooseOuterLink`. */
export interface OuterLinkChoice {
  readonly interfaces: readonly string[];
  readonly interfaceRegexes: readonly Pattern[];
  readonly canReach: string | null;
  readonly publicAddresses: readonly IpAddress[];
}

/**
 * The interface and addresses that a host has used until now. It keeps them as long as they are
 * usable: the interface is up and the host still has the IPv4 address. A better default route or an
 * additional address is no reason to move.
 */
export interface HeldLink {
  readonly name: string;
  /** The host's own addresses that were in use, at most one a family. */
  readonly addresses: readonly IpAddress[];
  /** Whether the daemon uses it right now; else it was read from the last run. */
  readonly isInUse: boolean;
}

/** What the kernel has to choose from. */
interface Candidates {
  readonly links: readonly Link[];
  readonly addresses: readonly InterfaceAddress[];
}

/** What one choice is made from. */
interface Selection {
  readonly connection: NetlinkConnection;
  readonly candidates: Candidates;
  readonly choice: OuterLinkChoice;
  readonly families: readonly Family[];
  readonly held: HeldLink | null;
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

/** Whether it is the interface in use until now, and up. */
function isHeld({ name, isUp }: Link, held: HeldLink | null): boolean {
  return isUp && name === held?.name;
}

/** The link that has the address, if the address can be used. */
function linkWith(candidates: Candidates, address: IpAddress): Link | undefined {
  const entry = candidates.addresses.find((entry) =>
    entry.address.equals(address) && rank(entry) !== null
  );
  return byIndex(candidates, entry?.linkIndex);
}

/** `eth0 (10.0.0.1), eth1 (no address)`, without our own tunnels: no other host is behind them. */
function available(candidates: Candidates): string {
  return candidates.links.filter(({ name }) => !isOwnLinkName(name)).map((link) => {
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
function findByRegex(candidates: Candidates, pattern: Pattern): Found {
  for (const link of candidates.links) {
    const address = usableAddresses(candidates, link)
      .find((address) => address.family === 4 && pattern.matches(`${address}`));
    if (address !== undefined) return { link, address };
  }
  const named = candidates.links.filter(({ name }) => pattern.matches(name));
  const link = named.find((link) => usableAddresses(candidates, link).length > 0) ?? named[0];
  if (link === undefined) throw notFound("--iface-regex", `${pattern}`, "no interface matches");
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

/**
 * The interface that has an address given by `--public-ip` or `--public-ipv6`, as in flannel; null:
 * none has it, so the address is that of a translation before this host. A loopback interface says
 * nothing about the way to other hosts.
 */
function findByPublicAddress(
  candidates: Candidates,
  { publicAddresses }: OuterLinkChoice,
): Found | null {
  for (const family of [4, 6] as const) {
    const address = ofFamily(publicAddresses, family);
    const link = address && linkWith(candidates, address);
    if (link !== undefined && !link.isLoopback) return { link, address: address! };
  }
  return null;
}

/**
 * The interface of the IPv4 default route with the lowest metric; if the one in use until now has a
 * default route too, that one.
 */
function findByDefaultRoute({ connection, candidates, held }: Selection): Found {
  const routes = listRoutes(connection, 4, { keep: ({ destination }) => destination.length === 0 });
  const links = routes.sort((a, b) => a.metric - b.metric).flatMap(({ nextHops }) => nextHops)
    .map(({ linkIndex }) => byIndex(candidates, linkIndex))
    .filter((link) => link !== undefined);
  const link = links.find((link) => isHeld(link, held)) ?? links[0];
  if (link !== undefined) return { link, address: null };
  throw new SelvageError(
    "not_found",
    "cannot choose the outer interface: there is no IPv4 default route on any of the " +
      `interfaces ${available(candidates)}`,
    { hint: "Name the interface to the other hosts, or its address: --iface=NAME." },
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

/**
 * The host's own address of a family, to which sockets are bound. A given public address that the
 * host itself has goes first, since packets to it arrive there; then the one in use until now.
 */
function ownAddress(
  { candidates, choice, held }: Selection,
  { link, address }: Found,
  family: Family,
): IpAddress | undefined {
  const shown = ofFamily(choice.publicAddresses, family);
  if (shown !== undefined && linkWith(candidates, shown) !== undefined) return shown;
  const usable = usableAddresses(candidates, link);
  const before = held?.name === link.name ? ofFamily(held.addresses, family) : undefined;
  return usable.find((one) => before?.equals(one)) ??
    (address?.family === family ? address : ofFamily(usable, family));
}

/** Throws `not_found` unless the link has an address of each of the families. */
function describe(selection: Selection, found: Found): OuterLink {
  const { connection, candidates, choice, families } = selection;
  const { link } = found;
  const addresses = ([4, 6] as const).map((family) => ownAddress(selection, found, family))
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
  const localAddresses = candidates.addresses.map(({ address }) => address)
    .filter((address) => address.family === 4 || !address.isLinkLocal());
  const chosen = {
    name,
    index,
    mtu_bytes,
    addresses,
    publicAddresses,
    ways,
    localAddresses,
  };
  return fault === null ? chosen : { ...chosen, fault: `interface ${name} ${fault}` };
}

/** The link in use until now, if it is still usable for these families; else null. */
function describeHeld(selection: Selection): OuterLink | null {
  const { candidates, held } = selection;
  const link = candidates.links.find((one) => isHeld(one, held));
  const before = ofFamily(held?.addresses ?? [], 4);
  if (link === undefined || before === undefined) return null;
  try {
    const described = describe(selection, { link, address: null });
    return ofFamily(described.addresses, 4)?.equals(before) ? described : null;
  } catch (error) {
    if (error instanceof SelvageError && error.code === "not_found") return null;
    throw error;
  }
}

/** The outer link of a host whose flags name no interface. */
function describeUnnamed(selection: Selection): OuterLink {
  const { candidates, choice, held } = selection;
  const byPublic = findByPublicAddress(candidates, choice);
  if (byPublic !== null) return describe(selection, byPublic);
  const shown = ofFamily(choice.publicAddresses, 4);
  if (held?.isInUse && shown !== undefined && ofFamily(held.addresses, 4)?.equals(shown)) {
    throw new SelvageError("not_found", `this host no longer has its public address ${shown}`, {
      hint: `Add the address to ${held.name} again, or restart selvage with another --public-ip.`,
    });
  }
  return describeHeld(selection) ?? describe(selection, findByDefaultRoute(selection));
}

/**
 * Chooses the outer link in flannel's order (its `pkg/ipmatch`): each `interfaces` value, each
 * `interfaceRegexes` value, `canReach`; the first that fits wins. If none of them is given: the
 * interface that has the public address, else the one of the default route. It must have an address
 * of each of `families`; one of the other family is taken along if there is one. `held` is kept in
 * place of any other that the flags allow, for as long as it is usable; if only its address is
 * gone, another address of the same interface goes before another interface.
 *
 * Throws `not_found` if nothing fits, naming what there is; `invalid_argument` for a value that is
 * no address; and `NetlinkError`.
 */
export function chooseOuterLink(
  connection: NetlinkConnection,
  choice: OuterLinkChoice,
  families: readonly Family[] = [4],
  held: HeldLink | null = null,
): OuterLink {
  const links = listLinks(connection);
  // A pattern that fits several interfaces then means the one in use.
  links.sort((a, b) => Number(isHeld(b, held)) - Number(isHeld(a, held)));
  const candidates = { links, addresses: listAddresses(connection) };
  const selection = { connection, candidates, choice, families, held };
  const { interfaces, interfaceRegexes, canReach } = choice;
  const tries = [
    ...interfaces.map((value) => () => findByNameOrAddress(candidates, value)),
    ...interfaceRegexes.map((value) => () => findByRegex(candidates, value)),
    ...(canReach === null ? [] : [() => findByDestination(connection, candidates, canReach)]),
  ];
  if (tries.length === 0) return describeUnnamed(selection);
  const kept = describeHeld(selection);
  if (kept !== null) return kept;
  const reasons: string[] = [];
  const found: OuterLink[] = [];
  for (const find of tries) {
    try {
      found.push(describe(selection, find()));
    } catch (error) {
      if (!(error instanceof SelvageError) || error.code !== "not_found") throw error;
      reasons.push(error.message);
    }
  }
  const chosen = found.find(({ name, fault }) => name === held?.name && !fault) ?? found[0];
  if (chosen !== undefined) return chosen;
  throw new SelvageError("not_found", `no outer interface: ${reasons.join("; ")}`, {
    hint: `There are: ${available(candidates)}.`,
  });
}
