/** Requests about neighbours and FDB entries: list, make, delete. */
import type { Family, IpAddress } from "../net/ip.ts";
import type { MacAddress } from "../net/mac_address.ts";
import { PayloadWriter } from "./attribute.ts";
import { AF_BRIDGE, familyNumber } from "./layout.ts";
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from "./message.ts";
import * as neighbour from "./neighbour.ts";
import type { NetlinkRequest } from "./request.ts";

interface OnLink {
  readonly linkIndex: number;
  /** For errors. */
  readonly linkName: string;
}

export interface NewNeighbour extends OnLink {
  /** `NUD_*` */
  readonly state: number;
  readonly address: IpAddress;
  readonly macAddress: MacAddress;
}

/** An FDB entry of a VXLAN device: frames for the MAC go to the VTEP at the address. */
export type NewFdbEntry = NewNeighbour;

/** `struct ndmsg` */
function writeHeader(
  writer: PayloadWriter,
  familyCode: number,
  { linkIndex = 0, state = 0, flags = 0 }: Partial<neighbour.NeighbourHeader>,
): PayloadWriter {
  return writer.u8(familyCode).u8(0).u16(0).u32(linkIndex).u16(state).u8(flags).u8(0);
}

function flagsOf(isReplace: boolean): number {
  return NLM_F_CREATE | (isReplace ? NLM_F_REPLACE : NLM_F_EXCL);
}

/** Makes a neighbour; fails with EEXIST if there is one, unless `isReplace`. */
export function addNeighbourRequest(entry: NewNeighbour, isReplace: boolean): NetlinkRequest {
  const { linkIndex, linkName, address, macAddress, state } = entry;
  const writer = writeHeader(new PayloadWriter(), familyNumber(address.family), {
    linkIndex,
    state,
  })
    .attributeAddress(neighbour.NDA_DST, address)
    .attributeMac(neighbour.NDA_LLADDR, macAddress);
  return {
    type: neighbour.RTM_NEWNEIGH,
    flags: flagsOf(isReplace),
    payload: writer.finish(),
    operation: "add neighbour",
    object: `${address} lladdr ${macAddress} dev ${linkName}`,
  };
}

export function deleteNeighbourRequest(
  { linkIndex, linkName, address }: OnLink & { readonly address: IpAddress },
): NetlinkRequest {
  const writer = writeHeader(new PayloadWriter(), familyNumber(address.family), { linkIndex })
    .attributeAddress(neighbour.NDA_DST, address);
  return {
    type: neighbour.RTM_DELNEIGH,
    flags: 0,
    payload: writer.finish(),
    absentErrno: "ENOENT",
    operation: "delete neighbour",
    object: `${address} dev ${linkName}`,
  };
}

/**
 * Makes an FDB entry of the device itself; fails with EEXIST if its MAC has one, unless
 * `isReplace`: then the first of its places becomes this one.
 */
export function addFdbEntryRequest(entry: NewFdbEntry, isReplace: boolean): NetlinkRequest {
  const { linkIndex, linkName, address, macAddress, state } = entry;
  const header = { linkIndex, state, flags: neighbour.NTF_SELF };
  const writer = writeHeader(new PayloadWriter(), AF_BRIDGE, header)
    .attributeMac(neighbour.NDA_LLADDR, macAddress)
    .attributeAddress(neighbour.NDA_DST, address);
  return {
    type: neighbour.RTM_NEWNEIGH,
    flags: flagsOf(isReplace),
    payload: writer.finish(),
    operation: "add FDB entry",
    object: `${macAddress} dst ${address} dev ${linkName}`,
  };
}

/** Deletes one place of a MAC, exactly this one. */
export function deleteFdbEntryRequest(
  entry: Omit<neighbour.FdbEntry, "state"> & OnLink,
): NetlinkRequest {
  const { linkIndex, linkName, macAddress, address, vni, port } = entry;
  const header = { linkIndex, flags: neighbour.NTF_SELF };
  const writer = writeHeader(new PayloadWriter(), AF_BRIDGE, header)
    .attributeMac(neighbour.NDA_LLADDR, macAddress);
  if (address !== null) writer.attributeAddress(neighbour.NDA_DST, address);
  if (port !== null) writer.attributeU16be(neighbour.NDA_PORT, port);
  if (vni !== null) writer.attributeU32(neighbour.NDA_VNI, vni);
  return {
    type: neighbour.RTM_DELNEIGH,
    flags: 0,
    payload: writer.finish(),
    absentErrno: "ENOENT",
    operation: "delete FDB entry",
    object: `${macAddress}${address === null ? "" : ` dst ${address}`} dev ${linkName}`,
  };
}

/** Asks for the neighbours of one family on one link. */
export function listNeighboursRequest(family: Family, linkIndex: number): NetlinkRequest {
  const writer = writeHeader(new PayloadWriter(), familyNumber(family), {})
    .attributeU32(neighbour.NDA_IFINDEX, linkIndex);
  return {
    type: neighbour.RTM_GETNEIGH,
    flags: 0,
    payload: writer.finish(),
    operation: "list neighbours",
    object: `of IPv${family}, link ${linkIndex}`,
  };
}

/** Asks for the FDB entries of one link. */
export function listFdbRequest(linkIndex: number): NetlinkRequest {
  return {
    type: neighbour.RTM_GETNEIGH,
    flags: 0,
    payload: writeHeader(new PayloadWriter(), AF_BRIDGE, { linkIndex }).finish(),
    operation: "list FDB entries",
    object: `of link ${linkIndex}`,
  };
}
