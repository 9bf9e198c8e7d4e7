/** What this host reaches outside the overlay, and must go on reaching. */
import { bitsOf, type IpAddress, IpPrefix } from "../net/ip.ts";
import type { InterfaceAddress } from "../netlink/address.ts";
import type { NetlinkConnection } from "../netlink/connection.ts";
import type { Link } from "../netlink/link.ts";
import type { Route } from "../netlink/route.ts";
import { listAddresses, listLinks, listRoutes } from "../netlink/rtnetlink.ts";
import { hasErrno } from "../netlink/error.ts";
import { isOwnRoute } from "./route_diff.ts";
import { isOwnLinkName } from "./state.ts";

/** Kinds of interfaces that container runtimes make. */
const CONTAINER_KINDS = ["bridge", "veth", "macvlan", "ipvlan", "dummy"];
/** Devices that flanneld leaves behind, with addresses of the network that we take over. */
const FLANNEL_NAME = /^flannel[.\d-]/;

/** An address that this host needs, and what it is, such as "the resolver 192.0.2.53". */
export interface VitalAddress {
  readonly what: string;
  readonly address: IpAddress;
}

/** One part of the host's surroundings. */
export interface Surrounding {
  /** Such as "the network 192.0.2.0/24 of eth1". */
  readonly what: string;
  readonly prefix: IpPrefix;
  /** The length of the longest prefix, outside the overlay, by which it is reached. */
  readonly routeLength: number;
  /** The address of this host in it; null: no interface of this host is in it. */
  readonly ownAddress: IpAddress | null;
  /** Whether the interface is of a kind that container runtimes make. */
  readonly mayBeContainers: boolean;
}

/** Whether the link is of a kind that container runtimes make. */
export function mayHoldContainers({ kind }: Pick<Link, "kind">): boolean {
  return kind !== null && CONTAINER_KINDS.includes(kind);
}

/** Whether packets to it would go by a route of this prefix, at least some of them. */
export function isTakenBy({ prefix, routeLength }: Surrounding, route: IpPrefix): boolean {
  return prefix.overlaps(route) && routeLength <= route.length;
}

/** What else of the network lies at a link; null: nothing that counts. */
function connectedNetwork(entry: InterfaceAddress, link: Link): Surrounding | null {
  const { address, prefixLength, peer } = entry;
  if (link.isLoopback || address.isLinkLocal()) return null;
  if (isOwnLinkName(link.name) || FLANNEL_NAME.test(link.name)) return null;
  // No other host can be in it.
  if (peer === null && prefixLength === bitsOf(address.family)) return null;
  const prefix = IpPrefix.of(peer ?? address, prefixLength);
  return {
    what: `the network ${prefix} of ${link.name}`,
    prefix,
    routeLength: prefixLength,
    ownAddress: address,
    mayBeContainers: mayHoldContainers(link),
  };
}

/** Default routes of others, and all that lead to one of the addresses. */
function listRoutesTo(connection: NetlinkConnection, vital: readonly VitalAddress[]): Route[] {
  const keep = (route: Route) =>
    !isOwnRoute(route) &&
    (route.destination.length === 0 ||
      vital.some(({ address }) => route.destination.contains(address)));
  return ([4, 6] as const).flatMap((family) => {
    try {
      return listRoutes(connection, family, { keep });
    } catch (error) {
      if (hasErrno(error, "EOPNOTSUPP", "EAFNOSUPPORT")) return [];
      throw error;
    }
  });
}

/**
 * The connected networks, the default gateways, and these addresses, unless they are the host's
 * own: the overlay's routes come after those of the host itself. Throws `NetlinkError`.
 */
export function listSurroundings(
  connection: NetlinkConnection,
  vital: readonly VitalAddress[],
): Surrounding[] {
  const links = new Map(listLinks(connection).map((link) => [link.index, link]));
  const own = listAddresses(connection);
  const connected = own.map((entry) => {
    const link = links.get(entry.linkIndex);
    return link === undefined ? null : connectedNetwork(entry, link);
  }).filter((one) => one !== null);
  const routes = listRoutesTo(connection, vital);
  const gateways = routes.filter(({ destination }) => destination.length === 0)
    .flatMap(({ nextHops }) => nextHops)
    .map(({ gateway }) => gateway)
    .filter((gateway) => gateway !== null && !gateway.isLinkLocal())
    .map((gateway) => ({ what: `the default gateway ${gateway}`, address: gateway! }));
  const addresses = [...gateways, ...vital].filter(({ address }) =>
    !address.isLoopback() && !own.some((entry) => entry.address.equals(address))
  );
  return [
    ...connected,
    ...addresses.map(({ what, address }) => ({
      what,
      prefix: IpPrefix.of(address, bitsOf(address.family)),
      routeLength: Math.max(
        0,
        ...[
          ...connected.map(({ prefix }) => prefix),
          ...routes.map(({ destination }) => destination),
        ].filter((prefix) => prefix.contains(address)).map(({ length }) => length),
      ),
      ownAddress: null,
      mayBeContainers: false,
    })),
  ];
}
