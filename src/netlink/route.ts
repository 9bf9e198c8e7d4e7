/**
 * Routes (`linux/rtnetlink.h`): the constants and what the kernel says of a route. Constants carry
 * the kernel's names.
 */
import { Attributes } from "./attribute.ts";
import { bitsOf, type Family, IpAddress, IpPrefix } from "../net/ip.ts";
import { NetlinkDecodeError } from "./error.ts";
import {
  AF_INET,
  AF_INET6,
  align,
  HOST_LITTLE_ENDIAN,
  readU16,
  readU32,
  viewOf,
} from "./layout.ts";

export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
export const RTM_GETROUTE = 26;

// struct rtmsg
const RTM_FAMILY_OFFSET = 0;
const RTM_DST_LEN_OFFSET = 1;
const RTM_SRC_LEN_OFFSET = 2;
const RTM_TOS_OFFSET = 3;
const RTM_TABLE_OFFSET = 4;
const RTM_PROTOCOL_OFFSET = 5;
const RTM_SCOPE_OFFSET = 6;
const RTM_TYPE_OFFSET = 7;
const RTM_FLAGS_OFFSET = 8;
/** `sizeof(struct rtmsg)` */
export const RTMSG_SIZE = RTM_FLAGS_OFFSET + 4;

// RTA_*: attributes of a route
export const RTA_DST = 1;
export const RTA_OIF = 4;
export const RTA_GATEWAY = 5;
export const RTA_PRIORITY = 6;
export const RTA_PREFSRC = 7;
export const RTA_MULTIPATH = 9;
export const RTA_TABLE = 15;
export const RTA_VIA = 18;
export const RTA_NH_ID = 30;

// rtm_table
export const RT_TABLE_MAIN = 254;

/** `RTPROT_*`, rtm_protocol: who made a route, by the names that iproute2 has for them. */
const RTPROT_NAMES: Readonly<Record<number, string>> = {
  2: "kernel",
  3: "boot",
  4: "static",
  9: "ra",
  16: "dhcp",
  186: "bgp",
  188: "ospf",
};

// rtm_type
export const RTN_UNICAST = 1;
export const RTN_LOCAL = 2;
export const RTN_BLACKHOLE = 6;
export const RTN_UNREACHABLE = 7;

// rtm_flags
export const RTM_F_CLONED = 0x200;

// rtnh_flags, and rtm_flags of a route with one next hop
export const RTNH_F_ONLINK = 4;

// struct rtnexthop, in RTA_MULTIPATH; attributes follow it
const RTNH_LEN_OFFSET = 0;
const RTNH_FLAGS_OFFSET = 2;
const RTNH_IFINDEX_OFFSET = 4;
const RTNEXTHOP_SIZE = RTNH_IFINDEX_OFFSET + 4;

// struct rtvia: family u16, then the address
const RTVIA_FAMILY_OFFSET = 0;
const RTVIA_ADDR_OFFSET = 2;

export interface NextHop {
  readonly linkIndex: number;
  /** null: the destination is on the link itself. */
  readonly gateway: IpAddress | null;
  /** The gateway is on the link although no prefix says so (`RTNH_F_ONLINK`). */
  readonly isOnLink: boolean;
}

export interface Route {
  readonly destination: IpPrefix;
  /** `RT_TABLE_*` */
  readonly table: number;
  /** `RTPROT_*`: who made it. */
  readonly protocol: number;
  /** `RT_SCOPE_*` */
  readonly scope: number;
  /** `RTN_*` */
  readonly type: number;
  readonly tos: number;
  /** Whether it is for some sources alone (IPv6). */
  readonly isBySource: boolean;
  /** The lower the better; also called priority. */
  readonly metric: number;
  readonly preferredSource: IpAddress | null;
  /** None for a route that drops or that uses a next hop object by number. */
  readonly nextHops: readonly NextHop[];
  /** The nexthop object that it names; null: none. Its ways may be shown all the same. */
  readonly nexthopId: number | null;
  /** Whether it was cloned for one destination and is no entry of a table (`RTM_F_CLONED`). */
  readonly isCloned: boolean;
}

/** `static` for 4; the number itself where it has no name. */
export function protocolName(protocol: number): string {
  return RTPROT_NAMES[protocol] ?? `${protocol}`;
}

function decodeVia(bytes: Uint8Array): IpAddress | null {
  if (bytes.length < RTVIA_ADDR_OFFSET) throw new NetlinkDecodeError("route", "a short RTA_VIA");
  const family = readU16(bytes, RTVIA_FAMILY_OFFSET);
  if (family !== AF_INET && family !== AF_INET6) return null;
  const address = bytes.subarray(RTVIA_ADDR_OFFSET);
  if (address.length !== (family === AF_INET ? 4 : 16)) {
    throw new NetlinkDecodeError("route", `RTA_VIA: an address of ${address.length} bytes`);
  }
  return IpAddress.fromBytes(address);
}

function decodeGateway(attributes: Attributes, family: Family): IpAddress | null {
  const gateway = attributes.address(RTA_GATEWAY, family);
  if (gateway !== undefined) return gateway;
  const via = attributes.bytes(RTA_VIA);
  return via === undefined ? null : decodeVia(via);
}

/** The value of RTA_MULTIPATH: one `struct rtnexthop` with its attributes after another. */
function decodeMultipath(bytes: Uint8Array, family: Family): NextHop[] {
  const view = viewOf(bytes);
  const hops: NextHop[] = [];
  for (let offset = 0; offset < bytes.length;) {
    const rest = bytes.length - offset;
    if (rest < RTNEXTHOP_SIZE) {
      throw new NetlinkDecodeError("route", `${rest} bytes where a next hop should be`);
    }
    const size_bytes = view.getUint16(offset + RTNH_LEN_OFFSET, HOST_LITTLE_ENDIAN);
    if (size_bytes < RTNEXTHOP_SIZE || size_bytes > rest) {
      throw new NetlinkDecodeError("route", `a next hop of ${size_bytes} in ${rest} bytes`);
    }
    const attributes = Attributes.parse(
      bytes.subarray(offset + RTNEXTHOP_SIZE, offset + size_bytes),
      "next hop",
    );
    hops.push({
      linkIndex: view.getInt32(offset + RTNH_IFINDEX_OFFSET, HOST_LITTLE_ENDIAN),
      gateway: decodeGateway(attributes, family),
      isOnLink: (view.getUint8(offset + RTNH_FLAGS_OFFSET) & RTNH_F_ONLINK) !== 0,
    });
    offset += align(size_bytes);
  }
  return hops;
}

function decodeNextHops(attributes: Attributes, family: Family, flags: number): NextHop[] {
  const multipath = attributes.bytes(RTA_MULTIPATH);
  if (multipath !== undefined) return decodeMultipath(multipath, family);
  const linkIndex = attributes.u32(RTA_OIF);
  if (linkIndex === undefined) return [];
  const gateway = decodeGateway(attributes, family);
  return [{ linkIndex, gateway, isOnLink: (flags & RTNH_F_ONLINK) !== 0 }];
}

/**
 * Reads the payload of an RTM_NEWROUTE message; the result shares no bytes with it. null: of a
 * family other than IPv4 and IPv6. Throws `NetlinkDecodeError`.
 */
export function decodeRoute(payload: Uint8Array): Route | null {
  if (payload.length < RTMSG_SIZE) {
    throw new NetlinkDecodeError("route", `${payload.length} bytes`);
  }
  const familyCode = payload[RTM_FAMILY_OFFSET]!;
  if (familyCode !== AF_INET && familyCode !== AF_INET6) return null;
  const family = familyCode === AF_INET ? 4 : 6;
  const length = payload[RTM_DST_LEN_OFFSET]!;
  if (length > bitsOf(family)) {
    throw new NetlinkDecodeError("route", `an IPv${family} prefix of ${length} bits`);
  }
  const attributes = Attributes.parse(payload, "route", RTMSG_SIZE);
  const flags = readU32(payload, RTM_FLAGS_OFFSET);
  const destination = attributes.address(RTA_DST, family) ?? IpAddress.of(family, 0n);
  return {
    destination: IpPrefix.of(destination, length),
    table: attributes.u32(RTA_TABLE) ?? payload[RTM_TABLE_OFFSET]!,
    protocol: payload[RTM_PROTOCOL_OFFSET]!,
    scope: payload[RTM_SCOPE_OFFSET]!,
    type: payload[RTM_TYPE_OFFSET]!,
    tos: payload[RTM_TOS_OFFSET]!,
    isBySource: payload[RTM_SRC_LEN_OFFSET] !== 0,
    metric: attributes.u32(RTA_PRIORITY) ?? 0,
    preferredSource: attributes.address(RTA_PREFSRC, family) ?? null,
    nextHops: decodeNextHops(attributes, family, flags),
    nexthopId: attributes.u32(RTA_NH_ID) ?? null,
    isCloned: (flags & RTM_F_CLONED) !== 0,
  };
}
