/**
 * Addresses of links (`linux/if_addr.h`): what the kernel says and what it is asked. Constants
 * carry the kernel's names.
 */
import { Attributes, PayloadWriter } from "./attribute.ts";
import type { IpAddress } from "../net/ip.ts";
import { NetlinkDecodeError } from "./error.ts";
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  familyNumber,
  HOST_LITTLE_ENDIAN,
  viewOf,
} from "./layout.ts";
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "./message.ts";
import type { NetlinkRequest } from "./request.ts";

export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
export const RTM_GETADDR = 22;

// struct ifaddrmsg
const IFA_FAMILY_OFFSET = 0;
const IFA_PREFIXLEN_OFFSET = 1;
const IFA_FLAGS_OFFSET = 2;
const IFA_SCOPE_OFFSET = 3;
const IFA_INDEX_OFFSET = 4;
/** `sizeof(struct ifaddrmsg)` */
export const IFADDRMSG_SIZE = IFA_INDEX_OFFSET + 4;

// Attributes
export const IFA_ADDRESS = 1;
export const IFA_LOCAL = 2;
export const IFA_FLAGS = 8;

// Flags
export const IFA_F_SECONDARY = 0x01;
export const IFA_F_NODAD = 0x02;
export const IFA_F_DADFAILED = 0x08;
export const IFA_F_DEPRECATED = 0x20;

// Scopes of addresses and routes (linux/rtnetlink.h, enum rt_scope_t)
export const RT_SCOPE_UNIVERSE = 0;
export const RT_SCOPE_LINK = 253;
export const RT_SCOPE_HOST = 254;
export const RT_SCOPE_NOWHERE = 255;

/** One address of a link. */
export interface InterfaceAddress {
  readonly linkIndex: number;
  readonly address: IpAddress;
  readonly prefixLength: number;
  /** The far end's address on a point-to-point link that has one of its own; else null. */
  readonly peer: IpAddress | null;
  /** `RT_SCOPE_*` */
  readonly scope: number;
  /** `IFA_F_*` */
  readonly flags: number;
}

/** An address to give to a link. */
export interface NewAddress {
  readonly linkIndex: number;
  /** For errors. */
  readonly linkName: string;
  readonly address: IpAddress;
  readonly prefixLength: number;
}

/**
 * Reads the payload of an RTM_NEWADDR message; the result shares no bytes with it. null: of a
 * family other than IPv4 and IPv6. Throws `NetlinkDecodeError`.
 */
export function decodeAddress(payload: Uint8Array): InterfaceAddress | null {
  if (payload.length < IFADDRMSG_SIZE) {
    throw new NetlinkDecodeError("address", `${payload.length} bytes`);
  }
  const view = viewOf(payload);
  const familyCode = view.getUint8(IFA_FAMILY_OFFSET);
  if (familyCode !== AF_INET && familyCode !== AF_INET6) return null;
  const family = familyCode === AF_INET ? 4 : 6;
  const attributes = Attributes.parse(payload.subarray(IFADDRMSG_SIZE), "address");
  // With IFA_LOCAL, IFA_ADDRESS is the far end (linux/if_addr.h); IPv6 leaves IFA_LOCAL out
  // where there is none.
  const far = attributes.address(IFA_ADDRESS, family);
  const address = attributes.address(IFA_LOCAL, family) ?? far;
  if (address === undefined) throw new NetlinkDecodeError("address", "no address");
  return {
    linkIndex: view.getUint32(IFA_INDEX_OFFSET, HOST_LITTLE_ENDIAN),
    address,
    prefixLength: view.getUint8(IFA_PREFIXLEN_OFFSET),
    peer: far === undefined || far.equals(address) ? null : far,
    scope: view.getUint8(IFA_SCOPE_OFFSET),
    flags: attributes.u32(IFA_FLAGS) ?? view.getUint8(IFA_FLAGS_OFFSET),
  };
}

interface Header {
  readonly family: number;
  readonly prefixLength: number;
  readonly scope: number;
  readonly linkIndex: number;
}

/** `struct ifaddrmsg`; flags go into IFA_FLAGS, which is wider. */
function writeHeader(writer: PayloadWriter, header: Header): PayloadWriter {
  return writer.u8(header.family).u8(header.prefixLength).u8(0).u8(header.scope)
    .u32(header.linkIndex);
}

function scopeOf(address: IpAddress): number {
  if (address.isLoopback()) return RT_SCOPE_HOST;
  return address.isLinkLocal() ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
}

/**
 * Gives a link an address; without duplicate address detection, since we take no address that we
 * do not own. Fails with EEXIST if it has the address already, unless `isReplace`.
 */
export function addAddressRequest(
  { linkIndex, linkName, address, prefixLength }: NewAddress,
  isReplace: boolean,
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  const family = familyNumber(address.family);
  writeHeader(writer, { family, prefixLength, scope: scopeOf(address), linkIndex })
    .attributeAddress(IFA_LOCAL, address)
    .attributeAddress(IFA_ADDRESS, address);
  if (address.family === 6) writer.attributeU32(IFA_FLAGS, IFA_F_NODAD);
  return {
    type: RTM_NEWADDR,
    flags: NLM_F_CREATE | (isReplace ? NLM_F_REPLACE : NLM_F_EXCL),
    payload: writer.finish(),
    operation: isReplace ? "replace address" : "add address",
    object: `${address}/${prefixLength} dev ${linkName}`,
  };
}

/** Takes an address from a link: exactly this one, with its prefix length and far end. */
export function deleteAddressRequest(
  old: NewAddress & { readonly peer?: IpAddress | null },
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  const { linkIndex, linkName, address, prefixLength, peer } = old;
  const family = familyNumber(address.family);
  writeHeader(writer, { family, prefixLength, scope: RT_SCOPE_UNIVERSE, linkIndex })
    .attributeAddress(IFA_LOCAL, address)
    .attributeAddress(IFA_ADDRESS, peer ?? address);
  return {
    type: RTM_DELADDR,
    flags: 0,
    payload: writer.finish(),
    operation: "delete address",
    object: `${address}/${prefixLength} dev ${linkName}`,
    absentErrno: "EADDRNOTAVAIL",
  };
}

/** Asks for the addresses of all links. */
export function listAddressesRequest(writer: PayloadWriter = new PayloadWriter()): NetlinkRequest {
  const none = { family: AF_UNSPEC, prefixLength: 0, scope: 0, linkIndex: 0 };
  return {
    type: RTM_GETADDR,
    flags: 0,
    payload: writeHeader(writer, none).finish(),
    operation: "list addresses",
    object: "",
  };
}
