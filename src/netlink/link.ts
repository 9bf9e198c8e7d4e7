/**
 * Links (`linux/rtnetlink.h`, `linux/if_link.h`): the constants and what the kernel says of a
 * link. Constants carry the kernel's names.
 */
import { Attributes } from "./attribute.ts";
import { NetlinkDecodeError } from "./error.ts";
import { decodeIpipInfo, type IpipInfo } from "./ipip.ts";
import { HOST_LITTLE_ENDIAN, viewOf } from "./layout.ts";
import { decodeVxlanInfo, type VxlanInfo } from "./vxlan.ts";

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_SETLINK = 19;

// struct ifinfomsg: family u8, padding u8, type u16, index i32, flags u32, change u32
const IFI_INDEX_OFFSET = 4;
const IFI_FLAGS_OFFSET = IFI_INDEX_OFFSET + 4;
const IFI_CHANGE_OFFSET = IFI_FLAGS_OFFSET + 4;
/** `sizeof(struct ifinfomsg)` */
export const IFINFOMSG_SIZE = IFI_CHANGE_OFFSET + 4;

// net_device flags (linux/if.h)
export const IFF_UP = 1 << 0;
export const IFF_LOOPBACK = 1 << 3;
export const IFF_NOARP = 1 << 7;

// IFLA_*: attributes of a link
export const IFLA_ADDRESS = 1;
export const IFLA_IFNAME = 3;
export const IFLA_MTU = 4;
export const IFLA_MASTER = 10;
export const IFLA_TXQLEN = 13;
export const IFLA_OPERSTATE = 16;
export const IFLA_LINKINFO = 18;
const IFLA_STATS64 = 23;
export const IFLA_NET_NS_FD = 28;

// IFLA_INFO_*: in IFLA_LINKINFO
export const IFLA_INFO_KIND = 1;
export const IFLA_INFO_DATA = 2;

/** In `struct rtnl_link_stats64`, all u64: packets that were to be sent and were dropped. */
const TX_DROPPED_OFFSET = 56;

/** In IFLA_INFO_DATA of kind "veth" (`linux/veth.h`): a `struct ifinfomsg`, then attributes. */
export const VETH_INFO_PEER = 1;

// IFLA_TUN_*: in IFLA_INFO_DATA of kind "tun", all u8
export const IFLA_TUN_TYPE = 3;
export const IFLA_TUN_PI = 4;
export const IFLA_TUN_VNET_HDR = 5;
export const IFLA_TUN_PERSIST = 6;
export const IFLA_TUN_MULTI_QUEUE = 7;

/** The value of IFLA_TUN_TYPE for a TUN device; 2 is a TAP device. */
const IFF_TUN = 1;

/** `IFNAMSIZ`: the longest name of a link, its NUL included. */
export const IFNAMSIZ = 16;

/** `IF_OPER_*` by number (`linux/if.h`, RFC 2863). */
const OPER_STATES = [
  "unknown",
  "notpresent",
  "down",
  "lowerlayerdown",
  "testing",
  "dormant",
  "up",
] as const;

export type OperState = typeof OPER_STATES[number];

/** What the kernel says of a TUN or TAP device. */
export interface TunInfo {
  readonly mode: "tun" | "tap";
  readonly hasPacketInfo: boolean;
  readonly hasVnetHeader: boolean;
  readonly isPersistent: boolean;
  readonly isMultiQueue: boolean;
}

/** One link of the namespace. */
export interface Link {
  readonly index: number;
  readonly name: string;
  /** `IFF_*` */
  readonly flags: number;
  readonly isUp: boolean;
  readonly isLoopback: boolean;
  /** Largest packet above the link layer. */
  readonly mtu_bytes: number;
  /** Packets that may wait to be sent (`txqueuelen`); null where the kernel does not say. */
  readonly queueLength: number | null;
  /** The MAC address in lower case with colons; null where the link has none. */
  readonly macAddress: string | null;
  /** The index of the bridge or bond it belongs to. */
  readonly masterIndex: number | null;
  readonly operState: OperState;
  /** Such as "veth", "bridge", "tun"; null for hardware and the loopback. */
  readonly kind: string | null;
  /** Whether it asks for the addresses of its neighbours (`IFF_NOARP` is not set). */
  readonly hasArp: boolean;
  /** For kind "tun" alone, and so on. */
  readonly tun: TunInfo | null;
  readonly vxlan: VxlanInfo | null;
  readonly ipip: IpipInfo | null;
}

/** `aa:bb:cc:dd:ee:ff` */
export function formatMacAddress(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}

function decodeTunInfo(data: Attributes | undefined): TunInfo | null {
  const mode = data?.u8(IFLA_TUN_TYPE);
  if (data === undefined || mode === undefined) return null;
  return {
    mode: mode === IFF_TUN ? "tun" : "tap",
    hasPacketInfo: data.u8(IFLA_TUN_PI) === 1,
    hasVnetHeader: data.u8(IFLA_TUN_VNET_HDR) === 1,
    isPersistent: data.u8(IFLA_TUN_PERSIST) === 1,
    isMultiQueue: data.u8(IFLA_TUN_MULTI_QUEUE) === 1,
  };
}

/**
 * How many packets the kernel was to send through a link and dropped, as of an RTM_NEWLINK message;
 * 0 where it does not say. Throws `NetlinkDecodeError`.
 */
export function decodeTxDropped(payload: Uint8Array): number {
  const stats = Attributes.parse(payload.subarray(IFINFOMSG_SIZE), "link").bytes(IFLA_STATS64);
  if (stats === undefined || stats.length < TX_DROPPED_OFFSET + 8) return 0;
  return Number(viewOf(stats).getBigUint64(TX_DROPPED_OFFSET, HOST_LITTLE_ENDIAN));
}

/**
 * Reads the payload of an RTM_NEWLINK message; the result shares no bytes with it. Throws
 * `NetlinkDecodeError`.
 */
export function decodeLink(payload: Uint8Array): Link {
  if (payload.length < IFINFOMSG_SIZE) {
    throw new NetlinkDecodeError("link", `${payload.length} bytes`);
  }
  const view = viewOf(payload);
  const attributes = Attributes.parse(payload.subarray(IFINFOMSG_SIZE), "link");
  const name = attributes.text(IFLA_IFNAME);
  if (name === undefined) throw new NetlinkDecodeError("link", "no name");
  const flags = view.getUint32(IFI_FLAGS_OFFSET, HOST_LITTLE_ENDIAN);
  const mac = attributes.bytes(IFLA_ADDRESS);
  const info = attributes.nested(IFLA_LINKINFO);
  const kind = info?.text(IFLA_INFO_KIND) ?? null;
  const data = info?.nested(IFLA_INFO_DATA);
  return {
    index: view.getInt32(IFI_INDEX_OFFSET, HOST_LITTLE_ENDIAN),
    name,
    flags,
    isUp: (flags & IFF_UP) !== 0,
    isLoopback: (flags & IFF_LOOPBACK) !== 0,
    mtu_bytes: attributes.u32(IFLA_MTU) ?? 0,
    queueLength: attributes.u32(IFLA_TXQLEN) ?? null,
    macAddress: mac === undefined || mac.length === 0 ? null : formatMacAddress(mac),
    masterIndex: attributes.u32(IFLA_MASTER) ?? null,
    operState: OPER_STATES[attributes.u8(IFLA_OPERSTATE) ?? 0] ?? "unknown",
    kind,
    hasArp: (flags & IFF_NOARP) === 0,
    tun: kind === "tun" ? decodeTunInfo(data) : null,
    vxlan: kind === "vxlan" && data ? decodeVxlanInfo(data) : null,
    ipip: kind === "ipip" && data ? decodeIpipInfo(data) : null,
  };
}
