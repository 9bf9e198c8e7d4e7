/** Requests about routes: list, look up, make, delete. */
import { PayloadWriter } from "./attribute.ts";
import { bitsOf, type Family, type IpAddress, type IpPrefix } from "../net/ip.ts";
import { RT_SCOPE_LINK, RT_SCOPE_NOWHERE, RT_SCOPE_UNIVERSE } from "./address.ts";
import { familyNumber } from "./layout.ts";
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "./message.ts";
import type { NetlinkRequest } from "./request.ts";
import * as route from "./route.ts";

/** A route of table main with one next hop. */
export interface NewRoute {
  readonly destination: IpPrefix;
  readonly linkIndex: number;
  /** For errors. */
  readonly linkName: string;
  /** null: the destination is on the link itself. */
  readonly gateway: IpAddress | null;
  /** `RTPROT_*`: who makes it. */
  readonly protocol: number;
  /** The nexthop object that says link and gateway, in place of these. */
  readonly nexthopId?: number | null;
  /** The gateway counts as on the link, whatever the link's prefixes. False if left out. */
  readonly isOnLink?: boolean;
  /** The lower the better; the kernel's default (`defaultMetric`) if left out. */
  readonly metric?: number;
}

/** A route of table main by which packets go nowhere. */
export interface NewBlackhole {
  readonly destination: IpPrefix;
  /** `RTN_BLACKHOLE`, or `RTN_UNREACHABLE`, which tells the sender. */
  readonly type: number;
  /** `RTPROT_*`: who makes it. */
  readonly protocol: number;
  readonly metric: number;
}

/** What the kernel makes of a route that names no metric: 0, or IPv6's `IP6_RT_PRIO_USER`. */
export function defaultMetric(family: Family): number {
  return family === 4 ? 0 : 1024;
}

interface Header {
  readonly family: Family;
  readonly length: number;
  readonly table: number;
  readonly protocol: number;
  readonly scope: number;
  readonly type: number;
  readonly flags: number;
  readonly tos?: number;
}

/** `struct rtmsg` */
function writeHeader(writer: PayloadWriter, header: Header): PayloadWriter {
  return writer.u8(familyNumber(header.family)).u8(header.length).u8(0).u8(header.tos ?? 0)
    .u8(header.table).u8(header.protocol).u8(header.scope).u8(header.type)
    .u32(header.flags);
}

/** `10.5.0.0/16 via 10.0.0.1 dev eth0` */
export function routeText(
  destination: IpPrefix,
  gateway: IpAddress | null,
  linkName: string,
): string {
  const via = gateway === null ? "" : ` via ${gateway}`;
  return `${destination}${via}${linkName === "" ? "" : ` dev ${linkName}`}`;
}

/**
 * Adds a route. Fails with EEXIST if there is one with the same destination and metric, whoever
 * made it, unless `isReplace`: then it takes its place without a moment in between.
 */
export function addRouteRequest(
  newRoute: NewRoute,
  isReplace: boolean,
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  const { destination, linkIndex, linkName, gateway, protocol, nexthopId = null } = newRoute;
  writeHeader(writer, {
    family: destination.family,
    length: destination.length,
    table: route.RT_TABLE_MAIN,
    protocol,
    scope: gateway === null && destination.family === 4 ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
    type: route.RTN_UNICAST,
    flags: newRoute.isOnLink && nexthopId === null ? route.RTNH_F_ONLINK : 0,
  });
  writer.attributeAddress(route.RTA_DST, destination.address);
  if (nexthopId === null) {
    writer.attributeU32(route.RTA_OIF, linkIndex);
    if (gateway !== null) writer.attributeAddress(route.RTA_GATEWAY, gateway);
  } else {
    writer.attributeU32(route.RTA_NH_ID, nexthopId);
  }
  const metric = newRoute.metric ?? defaultMetric(destination.family);
  writer.attributeU32(route.RTA_PRIORITY, metric);
  return {
    type: route.RTM_NEWROUTE,
    flags: NLM_F_CREATE | (isReplace ? NLM_F_REPLACE : NLM_F_EXCL),
    payload: writer.finish(),
    operation: isReplace ? "replace route" : "add route",
    object: routeText(destination, gateway, linkName),
  };
}

/** Adds a route that leads nowhere. Fails with EEXIST as `addRouteRequest`. */
export function addBlackholeRequest(
  { destination, type, protocol, metric }: NewBlackhole,
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  writeHeader(writer, {
    family: destination.family,
    length: destination.length,
    table: route.RT_TABLE_MAIN,
    protocol,
    scope: RT_SCOPE_UNIVERSE,
    type,
    flags: 0,
  });
  writer.attributeAddress(route.RTA_DST, destination.address);
  writer.attributeU32(route.RTA_PRIORITY, metric);
  return {
    type: route.RTM_NEWROUTE,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    payload: writer.finish(),
    operation: `add ${type === route.RTN_UNREACHABLE ? "unreachable" : "blackhole"} route`,
    object: `${destination}`,
  };
}

/**
 * Deletes exactly this route: same destination, metric, maker, kind and, where it has one, next
 * hop. `linkName` is for errors.
 */
export function deleteRouteRequest(
  old: route.Route,
  linkName: string,
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  const { destination, nextHops } = old;
  const hop = nextHops.length === 1 ? nextHops[0] : undefined;
  const gateway = hop?.gateway ?? null;
  writeHeader(writer, {
    family: destination.family,
    length: destination.length,
    // Larger numbers than a byte holds go into the attribute alone (RT_TABLE_UNSPEC here).
    table: old.table < 256 ? old.table : 0,
    protocol: old.protocol,
    scope: destination.family === 4 ? RT_SCOPE_NOWHERE : RT_SCOPE_UNIVERSE,
    type: old.type,
    flags: 0,
    tos: old.tos,
  });
  writer.attributeAddress(route.RTA_DST, destination.address);
  writer.attributeU32(route.RTA_TABLE, old.table);
  if (old.nexthopId !== null) {
    writer.attributeU32(route.RTA_NH_ID, old.nexthopId);
  } else {
    if (hop !== undefined) writer.attributeU32(route.RTA_OIF, hop.linkIndex);
    if (gateway !== null && gateway.family === destination.family) {
      writer.attributeAddress(route.RTA_GATEWAY, gateway);
    }
  }
  writer.attributeU32(route.RTA_PRIORITY, old.metric);
  return {
    type: route.RTM_DELROUTE,
    flags: 0,
    payload: writer.finish(),
    operation: "delete route",
    object: routeText(destination, gateway, linkName),
    absentErrno: "ESRCH",
  };
}

/** Asks for the routes of one family and one table (below 256). */
export function listRoutesRequest(
  family: Family,
  table: number,
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  writeHeader(writer, { family, length: 0, table, protocol: 0, scope: 0, type: 0, flags: 0 });
  return {
    type: route.RTM_GETROUTE,
    flags: 0,
    payload: writer.finish(),
    operation: "list routes",
    object: `of IPv${family}, table ${table}`,
  };
}

/** Asks which way a packet to this address would go. */
export function getRouteRequest(
  destination: IpAddress,
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  const { family } = destination;
  const none = { table: 0, protocol: 0, scope: 0, type: 0, flags: 0 };
  writeHeader(writer, { family, length: bitsOf(family), ...none })
    .attributeAddress(route.RTA_DST, destination);
  return {
    type: route.RTM_GETROUTE,
    flags: 0,
    payload: writer.finish(),
    operation: "get route",
    object: `to ${destination}`,
  };
}
