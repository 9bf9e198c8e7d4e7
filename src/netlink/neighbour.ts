/**
 * Neighbours and FDB entries (`linux/neighbour.h`): the constants and what the kernel says. An FDB
 * entry is a neighbour of family AF_BRIDGE. Constants carry the kernel's names.
 */
import { IpAddress } from "../net/ip.ts";
import type { MacAddress } from "../net/mac_address.ts";
import { Attributes } from "./attribute.ts";
import { NetlinkDecodeError } from "./error.ts";
import { AF_BRIDGE, AF_INET, AF_INET6, readU16, readU32 } from "./layout.ts";

export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
export const RTM_GETNEIGH = 30;

// struct ndmsg: family u8, padding u8 and u16, index i32, state u16, flags u8, type u8
const NDM_FAMILY_OFFSET = 0;
const NDM_IFINDEX_OFFSET = 4;
const NDM_STATE_OFFSET = 8;
const NDM_FLAGS_OFFSET = 10;
/** `sizeof(struct ndmsg)` */
export const NDMSG_SIZE = NDM_FLAGS_OFFSET + 2;

// NDA_*: attributes
export const NDA_DST = 1;
export const NDA_LLADDR = 2;
/** Network byte order. */
export const NDA_PORT = 6;
export const NDA_VNI = 7;
export const NDA_IFINDEX = 8;

// ndm_state
export const NUD_INCOMPLETE = 0x01;
export const NUD_REACHABLE = 0x02;
export const NUD_STALE = 0x04;
export const NUD_DELAY = 0x08;
export const NUD_PROBE = 0x10;
export const NUD_FAILED = 0x20;
export const NUD_NOARP = 0x40;
export const NUD_PERMANENT = 0x80;
/** The states in which the MAC address is used. */
export const NUD_VALID = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_NOARP |
  NUD_PERMANENT;

// ndm_flags
/** Of an FDB entry: the device's own, not its bridge's. */
export const NTF_SELF = 0x02;

export interface Neighbour {
  readonly linkIndex: number;
  /** `NUD_*` */
  readonly state: number;
  readonly address: IpAddress;
  readonly macAddress: MacAddress | null;
}

export interface FdbEntry {
  readonly linkIndex: number;
  /** `NUD_*` */
  readonly state: number;
  readonly macAddress: MacAddress;
  /** Where the VTEP is; null on devices other than VXLAN. */
  readonly address: IpAddress | null;
  /** null: the device's own. */
  readonly vni: number | null;
  readonly port: number | null;
}

/** What every message about neighbours says first. */
export interface NeighbourHeader {
  readonly familyCode: number;
  readonly linkIndex: number;
  readonly state: number;
  readonly flags: number;
}

/** Something that the kernel wants to know: the MAC of an address, or where a MAC is. */
export interface Miss {
  readonly linkIndex: number;
  /** An L3 miss: the address whose MAC is wanted; null with an L2 miss. */
  readonly address: IpAddress | null;
  /** An L2 miss: the MAC whose place is wanted; null with an L3 miss. */
  readonly macAddress: MacAddress | null;
}

/** Throws `NetlinkDecodeError` if it is too short. */
export function readNeighbourHeader(payload: Uint8Array): NeighbourHeader {
  if (payload.length < NDMSG_SIZE) {
    throw new NetlinkDecodeError("neighbour", `${payload.length} bytes`);
  }
  return {
    familyCode: payload[NDM_FAMILY_OFFSET]!,
    linkIndex: readU32(payload, NDM_IFINDEX_OFFSET),
    state: readU16(payload, NDM_STATE_OFFSET),
    flags: payload[NDM_FLAGS_OFFSET]!,
  };
}

/** Links of other kinds have addresses of other lengths, or none. */
function decodeMac(attributes: Attributes): MacAddress | null {
  return attributes.mac(NDA_LLADDR) ?? null;
}

/**
 * Reads the payload of an RTM_NEWNEIGH message; the result shares no bytes with it. null: of a
 * family other than IPv4 and IPv6, or without address. Throws `NetlinkDecodeError`.
 */
export function decodeNeighbour(payload: Uint8Array): Neighbour | null {
  const { familyCode, linkIndex, state } = readNeighbourHeader(payload);
  if (familyCode !== AF_INET && familyCode !== AF_INET6) return null;
  const attributes = Attributes.parse(payload, "neighbour", NDMSG_SIZE);
  const address = attributes.address(NDA_DST, familyCode === AF_INET ? 4 : 6);
  if (address === undefined) return null;
  return { linkIndex, state, address, macAddress: decodeMac(attributes) };
}

/** An address of either family: an FDB entry says it by the length alone. */
function decodeAnyAddress(attributes: Attributes): IpAddress | null {
  const bytes = attributes.bytes(NDA_DST);
  return bytes?.length === 4 || bytes?.length === 16 ? IpAddress.fromBytes(bytes) : null;
}

/**
 * Reads the payload of an RTM_NEWNEIGH message of family AF_BRIDGE; the result shares no bytes with
 * it. null: of another family or without MAC address. Throws `NetlinkDecodeError`.
 */
export function decodeFdbEntry(payload: Uint8Array): FdbEntry | null {
  const { familyCode, linkIndex, state } = readNeighbourHeader(payload);
  if (familyCode !== AF_BRIDGE) return null;
  const attributes = Attributes.parse(payload, "FDB entry", NDMSG_SIZE);
  const macAddress = decodeMac(attributes);
  if (macAddress === null) return null;
  return {
    linkIndex,
    state,
    macAddress,
    address: decodeAnyAddress(attributes),
    vni: attributes.u32(NDA_VNI) ?? null,
    port: attributes.u16be(NDA_PORT) ?? null,
  };
}

/**
 * Reads what the kernel asks for: RTM_GETNEIGH of a neighbour (`neigh_app_ns`) has an address and
 * no MAC, that of a VXLAN device (`vxlan_fdb_miss`) a MAC and no address. null: neither. Throws
 * `NetlinkDecodeError`.
 */
export function decodeMiss(payload: Uint8Array): Miss | null {
  const { familyCode, linkIndex } = readNeighbourHeader(payload);
  const attributes = Attributes.parse(payload, "miss", NDMSG_SIZE);
  const address = decodeAnyAddress(attributes);
  if (address !== null) {
    // A neighbour that is asked for again says which MAC it had.
    const isNeighbour = familyCode === AF_INET || familyCode === AF_INET6;
    return isNeighbour ? { linkIndex, address, macAddress: null } : null;
  }
  const macAddress = decodeMac(attributes);
  return macAddress === null ? null : { linkIndex, address: null, macAddress };
}
