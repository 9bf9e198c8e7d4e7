/** What the rest of Selvage asks of the kernel, one function each. All throw `NetlinkError`. */
import type { Family, IpAddress } from "../net/ip.ts";
import * as address from "./address.ts";
import type { NetlinkConnection } from "./connection.ts";
import { hasErrno, NetlinkDecodeError } from "./error.ts";
import { decodeLink, decodeTxDropped, type Link, RTM_NEWLINK } from "./link.ts";
import * as linkRequest from "./link_request.ts";
import {
  decodeFdbEntry,
  decodeNeighbour,
  type FdbEntry,
  type Neighbour,
  RTM_NEWNEIGH,
} from "./neighbour.ts";
import * as neighbourRequest from "./neighbour_request.ts";
import {
  decodeNexthop,
  listNexthopsRequest,
  type NexthopObject,
  RTM_NEWNEXTHOP,
} from "./nexthop.ts";
import { decodeRoute, type Route, RT_TABLE_MAIN, RTM_NEWROUTE } from "./route.ts";
import * as routeRequest from "./route_request.ts";

/** All links of the namespace, in the order of their indexes. */
export function listLinks(connection: NetlinkConnection): Link[] {
  const links = connection.dump(
    linkRequest.listLinksRequest(),
    (message) => message.type === RTM_NEWLINK ? decodeLink(message.payload) : null,
  );
  return links.sort((a, b) => a.index - b.index);
}

/** What `decode` reads of the link of this name, or null if there is none. */
function readLink<T>(
  connection: NetlinkConnection,
  name: string,
  decode: (payload: Uint8Array) => T,
): T | null {
  try {
    const messages = connection.request(linkRequest.getLinkRequest(name));
    const found = messages.find(({ type }) => type === RTM_NEWLINK);
    if (found === undefined) throw new NetlinkDecodeError("link", `${name}: an empty answer`);
    return decode(found.payload);
  } catch (error) {
    if (hasErrno(error, "ENODEV")) return null;
    throw error;
  }
}

/** The link of this name, or null if there is none. */
export function getLink(connection: NetlinkConnection, name: string): Link | null {
  return readLink(connection, name, decodeLink);
}

/** How many packets to be sent through the link were dropped; null if there is no such link. */
export function getTxDropped(connection: NetlinkConnection, name: string): number | null {
  return readLink(connection, name, decodeTxDropped);
}

export function createBridge(connection: NetlinkConnection, bridge: linkRequest.NewLink): void {
  connection.request(linkRequest.createBridgeRequest(bridge));
}

export function createVeth(connection: NetlinkConnection, veth: linkRequest.NewVeth): void {
  connection.request(linkRequest.createVethRequest(veth));
}

export function createVxlan(connection: NetlinkConnection, vxlan: linkRequest.NewVxlan): void {
  connection.request(linkRequest.createVxlanRequest(vxlan));
}

/** Changes one link. */
export function setLink(
  connection: NetlinkConnection,
  link: Pick<Link, "index" | "name">,
  change: linkRequest.LinkChange,
): void {
  connection.request(linkRequest.setLinkRequest(link, change));
}

export function deleteLink(
  connection: NetlinkConnection,
  link: Pick<Link, "index" | "name">,
): void {
  connection.request(linkRequest.deleteLinkRequest(link));
}

/** The addresses of all links, of both families, in the kernel's order within a link. */
export function listAddresses(connection: NetlinkConnection): address.InterfaceAddress[] {
  return connection.dump(
    address.listAddressesRequest(),
    (message) =>
      message.type === address.RTM_NEWADDR ? address.decodeAddress(message.payload) : null,
  );
}

/** Gives a link an address; `isReplace`: it may have it already. */
export function addAddress(
  connection: NetlinkConnection,
  newAddress: address.NewAddress,
  isReplace = false,
): void {
  connection.request(address.addAddressRequest(newAddress, isReplace));
}

export function deleteAddress(
  connection: NetlinkConnection,
  old: address.NewAddress & { readonly peer?: IpAddress | null },
): void {
  connection.request(address.deleteAddressRequest(old));
}

/** The neighbours of one family on one link. */
export function listNeighbours(
  connection: NetlinkConnection,
  family: Family,
  linkIndex: number,
): Neighbour[] {
  const request = neighbourRequest.listNeighboursRequest(family, linkIndex);
  return connection.dump(request, ({ type, payload }) => {
    const neighbour = type === RTM_NEWNEIGH ? decodeNeighbour(payload) : null;
    // A kernel that does not filter answers for all it has.
    const isAsked = neighbour?.linkIndex === linkIndex && neighbour.address.family === family;
    return isAsked ? neighbour : null;
  });
}

/** The FDB entries of one link. */
export function listFdb(connection: NetlinkConnection, linkIndex: number): FdbEntry[] {
  return connection.dump(neighbourRequest.listFdbRequest(linkIndex), ({ type, payload }) => {
    const entry = type === RTM_NEWNEIGH ? decodeFdbEntry(payload) : null;
    return entry?.linkIndex === linkIndex ? entry : null;
  });
}

/** All nexthop objects of the namespace; null if this kernel has no such thing. */
export function listNexthops(connection: NetlinkConnection): NexthopObject[] | null {
  try {
    return connection.dump(
      listNexthopsRequest(),
      ({ type, payload }) => type === RTM_NEWNEXTHOP ? decodeNexthop(payload) : null,
    );
  } catch (error) {
    if (hasErrno(error, "EOPNOTSUPP", "EINVAL")) return null;
    throw error;
  }
}

/**
 * The routes of one family in one table (below 256), without those cloned for one destination.
 * `keep` picks those to return while they are read, so that a large table is never held.
 */
export function listRoutes(
  connection: NetlinkConnection,
  family: Family,
  options: { readonly table?: number; readonly keep?: (route: Route) => boolean } = {},
): Route[] {
  const { table = RT_TABLE_MAIN, keep = () => true } = options;
  try {
    return connection.dump(routeRequest.listRoutesRequest(family, table), (message) => {
      const route = message.type === RTM_NEWROUTE ? decodeRoute(message.payload) : null;
      // A kernel without the family answers for all it has.
      if (route === null || route.destination.family !== family) return null;
      return route.table === table && !route.isCloned && keep(route) ? route : null;
    });
  } catch (error) {
    // The table does not exist before it has a first route.
    if (hasErrno(error, "ENOENT")) return [];
    throw error;
  }
}

/** Adds a route to table main; `isReplace`: in place of one of the same destination and metric. */
export function addRoute(
  connection: NetlinkConnection,
  newRoute: routeRequest.NewRoute,
  isReplace = false,
): void {
  connection.request(routeRequest.addRouteRequest(newRoute, isReplace));
}

/** Deletes exactly this route. `linkName` is for errors. */
export function deleteRoute(connection: NetlinkConnection, old: Route, linkName = ""): void {
  connection.request(routeRequest.deleteRouteRequest(old, linkName));
}

/**
 * The way a packet to this address would go, with the source address it would have; null if there
 * is none.
 */
export function getRoute(connection: NetlinkConnection, destination: IpAddress): Route | null {
  try {
    const messages = connection.request(routeRequest.getRouteRequest(destination));
    const found = messages.find(({ type }) => type === RTM_NEWROUTE);
    const route = found === undefined ? null : decodeRoute(found.payload);
    if (route === null) throw new NetlinkDecodeError("route", `${destination}: an empty answer`);
    return route;
  } catch (error) {
    if (hasErrno(error, "ENETUNREACH", "EHOSTUNREACH", "EACCES", "EINVAL", "ESRCH")) return null;
    throw error;
  }
}
