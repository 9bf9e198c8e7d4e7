/** Requests about links: find, make, change, delete. */
import { NLA_F_NESTED, PayloadWriter } from "./attribute.ts";
import { SelvageError } from "../errors.ts";
import { AF_UNSPEC } from "./layout.ts";
import { MacAddress } from "../net/mac_address.ts";
import { type IpipSettings, writeIpipData } from "./ipip.ts";
import * as link from "./link.ts";
import { NLM_F_CREATE, NLM_F_EXCL } from "./message.ts";
import type { NetlinkRequest } from "./request.ts";
import { type VxlanSettings, writeVxlanData } from "./vxlan.ts";

/** What a new link of any kind may be given. */
export interface NewLink {
  readonly name: string;
  /** The kernel's default for the kind where it is left out. */
  readonly mtu_bytes?: number;
  /** Made up by the kernel where it is left out. */
  readonly macAddress?: string;
  /** Packets that wait to be sent; the kernel's default for the kind where it is left out. */
  readonly queueLength?: number;
  /** Where it comes to be, borrowed for the call; the socket's namespace where it is left out. */
  readonly netnsFd?: number;
}

export interface NewVxlan extends NewLink, VxlanSettings {}

export interface NewIpip extends NewLink, IpipSettings {}

export interface NewVeth extends NewLink {
  readonly peer: NewLink;
}

/** What may be changed of a link; what is left out stays. */
export interface LinkChange {
  readonly isUp?: boolean;
  readonly hasArp?: boolean;
  readonly mtu_bytes?: number;
  /** Packets that may wait to be sent. */
  readonly queueLength?: number;
  /** null: belongs to no bridge any more. */
  readonly masterIndex?: number | null;
  readonly macAddress?: string;
  readonly newName?: string;
  /** Moves it, borrowed for the call. It arrives down and without addresses. */
  readonly netnsFd?: number;
}

/** Throws `invalid_argument` unless the kernel takes it as a link's name (`dev_valid_name`). */
export function checkLinkName(name: string): string {
  const size_bytes = new TextEncoder().encode(name).length;
  const isDots = name === "." || name === "..";
  if (size_bytes === 0 || size_bytes >= link.IFNAMSIZ || isDots || /[/:\s\0]/.test(name)) {
    throw new SelvageError(
      "invalid_argument",
      `interface name ${JSON.stringify(name)}: 1 to 15 bytes, without "/", ":" and blanks`,
    );
  }
  return name;
}

interface Header {
  readonly index: number;
  readonly flags: number;
  readonly change: number;
}

const NO_HEADER: Header = { index: 0, flags: 0, change: 0 };

/** `struct ifinfomsg` */
function writeHeader(writer: PayloadWriter, { index, flags, change }: Header): PayloadWriter {
  return writer.u8(AF_UNSPEC).u8(0).u16(0).u32(index).u32(flags).u32(change);
}

function writeNewLink(writer: PayloadWriter, newLink: NewLink): void {
  writer.attributeText(link.IFLA_IFNAME, checkLinkName(newLink.name));
  if (newLink.mtu_bytes !== undefined) writer.attributeU32(link.IFLA_MTU, newLink.mtu_bytes);
  if (newLink.macAddress !== undefined) {
    writer.attribute(link.IFLA_ADDRESS, MacAddress.parse(newLink.macAddress).toBytes());
  }
  if (newLink.queueLength !== undefined) {
    writer.attributeU32(link.IFLA_TXQLEN, newLink.queueLength);
  }
  if (newLink.netnsFd !== undefined) writer.attributeU32(link.IFLA_NET_NS_FD, newLink.netnsFd);
}

function newLinkRequest(
  writer: PayloadWriter,
  newLink: NewLink,
  kind: string,
  writeData?: () => void,
): NetlinkRequest {
  writeNewLink(writeHeader(writer, NO_HEADER), newLink);
  writer.nested(link.IFLA_LINKINFO | NLA_F_NESTED, () => {
    writer.attributeText(link.IFLA_INFO_KIND, kind);
    if (writeData) writer.nested(link.IFLA_INFO_DATA | NLA_F_NESTED, writeData);
  });
  return {
    type: link.RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    payload: writer.finish(),
    operation: `create ${kind}`,
    object: newLink.name,
  };
}

/** Makes a bridge. Fails with EEXIST if the name is taken. */
export function createBridgeRequest(
  bridge: NewLink,
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  return newLinkRequest(writer, bridge, "bridge");
}

/** Makes a pair of links that are each other's far end. Fails with EEXIST if a name is taken. */
export function createVethRequest(
  veth: NewVeth,
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  return newLinkRequest(writer, veth, "veth", () => {
    writer.nested(link.VETH_INFO_PEER, () => {
      writeNewLink(writeHeader(writer, NO_HEADER), veth.peer);
    });
  });
}

/**
 * Makes a VXLAN device, down, that queues nothing (as flannel's). Fails with EEXIST if the name, or
 * the VNI with this port, is taken.
 */
export function createVxlanRequest(
  vxlan: NewVxlan,
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  const withoutQueue = { ...vxlan, queueLength: 0 };
  const request = newLinkRequest(
    writer,
    withoutQueue,
    "vxlan",
    () => writeVxlanData(writer, vxlan),
  );
  return { ...request, object: `${vxlan.name} vni=${vxlan.vni}` };
}

/** Makes an IP in IP tunnel to any far end, down. Fails with EEXIST if the name is taken. */
export function createIpipRequest(
  ipip: NewIpip,
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  return newLinkRequest(writer, ipip, "ipip", () => writeIpipData(writer, ipip));
}

/** Asks for one link by its name. */
export function getLinkRequest(
  name: string,
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  writeHeader(writer, NO_HEADER).attributeText(link.IFLA_IFNAME, checkLinkName(name));
  return {
    type: link.RTM_GETLINK,
    flags: 0,
    payload: writer.finish(),
    operation: "get link",
    object: name,
  };
}

/** Asks for all links. */
export function listLinksRequest(writer: PayloadWriter = new PayloadWriter()): NetlinkRequest {
  return {
    type: link.RTM_GETLINK,
    flags: 0,
    payload: writeHeader(writer, NO_HEADER).finish(),
    operation: "list links",
    object: "",
  };
}

/** Changes one link. */
export function setLinkRequest(
  { index, name }: Pick<link.Link, "index" | "name">,
  change: LinkChange,
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  const { isUp, hasArp, mtu_bytes, queueLength, masterIndex, macAddress, newName, netnsFd } =
    change;
  writeHeader(writer, {
    index,
    flags: (isUp ? link.IFF_UP : 0) | (hasArp === false ? link.IFF_NOARP : 0),
    change: (isUp === undefined ? 0 : link.IFF_UP) | (hasArp === undefined ? 0 : link.IFF_NOARP),
  });
  if (mtu_bytes !== undefined) writer.attributeU32(link.IFLA_MTU, mtu_bytes);
  if (queueLength !== undefined) writer.attributeU32(link.IFLA_TXQLEN, queueLength);
  if (masterIndex !== undefined) writer.attributeU32(link.IFLA_MASTER, masterIndex ?? 0);
  if (macAddress !== undefined) {
    writer.attribute(link.IFLA_ADDRESS, MacAddress.parse(macAddress).toBytes());
  }
  if (newName !== undefined) writer.attributeText(link.IFLA_IFNAME, checkLinkName(newName));
  if (netnsFd !== undefined) writer.attributeU32(link.IFLA_NET_NS_FD, netnsFd);
  const what = Object.entries({ ...change })
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => ` ${key}=${value}`);
  return {
    type: link.RTM_SETLINK,
    flags: 0,
    payload: writer.finish(),
    operation: "set link",
    object: name + what.join(""),
  };
}

/** Deletes one link; the far end of a veth goes with it. */
export function deleteLinkRequest(
  { index, name }: Pick<link.Link, "index" | "name">,
  writer: PayloadWriter = new PayloadWriter(),
): NetlinkRequest {
  return {
    type: link.RTM_DELLINK,
    flags: 0,
    payload: writeHeader(writer, { ...NO_HEADER, index }).finish(),
    operation: "delete link",
    object: name,
  };
}
