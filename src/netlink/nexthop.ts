/**
 * Nexthop objects (`linux/nexthop.h`, since Linux 5.3): ways that routes name by number. Constants
 * carry the kernel's names.
 */
import type { Family, IpAddress } from "../net/ip.ts";
import { Attributes, PayloadWriter } from "./attribute.ts";
import { NetlinkDecodeError } from "./error.ts";
import { AF_INET, AF_INET6, familyNumber, HOST_LITTLE_ENDIAN, viewOf } from "./layout.ts";
import { NLM_F_CREATE, NLM_F_REPLACE } from "./message.ts";
import type { NetlinkRequest } from "./request.ts";
import { RTNH_F_ONLINK } from "./route.ts";

export const RTM_NEWNEXTHOP = 104;
export const RTM_DELNEXTHOP = 105;
export const RTM_GETNEXTHOP = 106;

// struct nhmsg: family u8, scope u8, protocol u8, reserved u8, flags u32
const NH_FAMILY_OFFSET = 0;
const NH_PROTOCOL_OFFSET = 2;
const NH_FLAGS_OFFSET = 4;
/** `sizeof(struct nhmsg)` */
const NHMSG_SIZE = NH_FLAGS_OFFSET + 4;

// NHA_*: attributes
const NHA_ID = 1;
const NHA_OIF = 5;
const NHA_GATEWAY = 6;

/** One object: a gateway on a link. */
export interface NexthopObject {
  /** Unique in the namespace, whatever the family. */
  readonly id: number;
  /** `RTPROT_*`: who made it. */
  readonly protocol: number;
  /** 0: it has no link, as a group or a way that drops. */
  readonly linkIndex: number;
  /** null: it has none, or is of a family other than IPv4 and IPv6. */
  readonly gateway: IpAddress | null;
  readonly isOnLink: boolean;
}

export interface NewNexthop extends NexthopObject {
  readonly gateway: IpAddress;
  /** For errors. */
  readonly linkName: string;
}

function familyOf(code: number): Family | null {
  if (code === AF_INET) return 4;
  return code === AF_INET6 ? 6 : null;
}

/**
 * Reads the payload of an RTM_NEWNEXTHOP message; the result shares no bytes with it. Throws
 * `NetlinkDecodeError`.
 */
export function decodeNexthop(payload: Uint8Array): NexthopObject {
  if (payload.length < NHMSG_SIZE) {
    throw new NetlinkDecodeError("nexthop", `${payload.length} bytes`);
  }
  const view = viewOf(payload);
  const attributes = Attributes.parse(payload, "nexthop", NHMSG_SIZE);
  const id = attributes.u32(NHA_ID);
  if (id === undefined) throw new NetlinkDecodeError("nexthop", "no number");
  const family = familyOf(view.getUint8(NH_FAMILY_OFFSET));
  const flags = view.getUint32(NH_FLAGS_OFFSET, HOST_LITTLE_ENDIAN);
  return {
    id,
    protocol: view.getUint8(NH_PROTOCOL_OFFSET),
    linkIndex: attributes.u32(NHA_OIF) ?? 0,
    gateway: family === null ? null : attributes.address(NHA_GATEWAY, family) ?? null,
    isOnLink: (flags & RTNH_F_ONLINK) !== 0,
  };
}

/** `struct nhmsg`; the kernel finds the scope out itself. */
function headerWriter(familyCode: number, protocol: number, flags: number): PayloadWriter {
  return new PayloadWriter().u8(familyCode).u8(0).u8(protocol).u8(0).u32(flags);
}

/** Makes an object, or makes the one with its number this one; routes that name it follow. */
export function putNexthopRequest(nexthop: NewNexthop): NetlinkRequest {
  const { id, protocol, linkIndex, linkName, gateway, isOnLink } = nexthop;
  const flags = isOnLink ? RTNH_F_ONLINK : 0;
  const writer = headerWriter(familyNumber(gateway.family), protocol, flags)
    .attributeU32(NHA_ID, id)
    .attributeU32(NHA_OIF, linkIndex)
    .attributeAddress(NHA_GATEWAY, gateway);
  return {
    type: RTM_NEWNEXTHOP,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    payload: writer.finish(),
    operation: "add nexthop",
    object: `via ${gateway} dev ${linkName}`,
  };
}

/** Deletes an object, and with it the routes that name it. */
export function deleteNexthopRequest(id: number): NetlinkRequest {
  return {
    type: RTM_DELNEXTHOP,
    flags: 0,
    payload: headerWriter(0, 0, 0).attributeU32(NHA_ID, id).finish(),
    absentErrno: "ENOENT",
    operation: "delete nexthop",
    object: `${id}`,
  };
}

/** Asks for all objects. */
export function listNexthopsRequest(): NetlinkRequest {
  return {
    type: RTM_GETNEXTHOP,
    flags: 0,
    payload: headerWriter(0, 0, 0).finish(),
    operation: "list nexthops",
    object: "",
  };
}
