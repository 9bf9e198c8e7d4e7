/** VXLAN devices (`linux/if_link.h`, IFLA_VXLAN_*): what the kernel says of one, and making one. */
import type { IpAddress } from "../net/ip.ts";
import type { Attributes, PayloadWriter } from "./attribute.ts";
import { viewOf } from "./layout.ts";

// In IFLA_INFO_DATA of kind "vxlan"
const IFLA_VXLAN_ID = 1;
const IFLA_VXLAN_GROUP = 2;
const IFLA_VXLAN_LINK = 3;
const IFLA_VXLAN_LOCAL = 4;
const IFLA_VXLAN_LEARNING = 7;
const IFLA_VXLAN_PROXY = 11;
const IFLA_VXLAN_RSC = 12;
const IFLA_VXLAN_L2MISS = 13;
const IFLA_VXLAN_L3MISS = 14;
/** Network byte order. */
const IFLA_VXLAN_PORT = 15;
const IFLA_VXLAN_GROUP6 = 16;
const IFLA_VXLAN_LOCAL6 = 17;
const IFLA_VXLAN_UDP_CSUM = 18;
/** A flag: there or not. */
const IFLA_VXLAN_GBP = 23;
const IFLA_VXLAN_COLLECT_METADATA = 25;

/** What is set when a device is made. */
export interface VxlanSettings {
  readonly vni: number;
  /** The outer interface; null: any. */
  readonly linkIndex: number | null;
  /** The outer source address; null: any. */
  readonly local: IpAddress | null;
  readonly port: number;
  /** Whether FDB entries are learnt from what comes in. */
  readonly isLearning: boolean;
  /** Whether it answers ARP requests and neighbour solicitations from its neighbours. */
  readonly isProxy: boolean;
  /** Whether a missing FDB entry is asked for (RTM_GETNEIGH notifications). */
  readonly isL2Miss: boolean;
  /** Group Based Policy extension. */
  readonly isGbp: boolean;
}

/** What the kernel says of a device. */
export interface VxlanInfo extends VxlanSettings {
  /** Where everything goes whose MAC is unknown; null: nowhere. */
  readonly remote: IpAddress | null;
  readonly isL3Miss: boolean;
  readonly isRouteShortCircuit: boolean;
  readonly isCollectMetadata: boolean;
}

function addressOf(data: Attributes, v4: number, v6: number): IpAddress | null {
  const address = data.address(v4, 4) ?? data.address(v6, 6) ?? null;
  return address?.isUnspecified() ? null : address;
}

/** Reads IFLA_INFO_DATA of kind "vxlan". Throws `NetlinkDecodeError`. */
export function decodeVxlanInfo(data: Attributes): VxlanInfo {
  const is = (type: number) => (data.u8(type) ?? 0) !== 0;
  const port = data.bytes(IFLA_VXLAN_PORT);
  return {
    vni: data.u32(IFLA_VXLAN_ID) ?? 0,
    linkIndex: data.u32(IFLA_VXLAN_LINK) || null,
    local: addressOf(data, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LOCAL6),
    remote: addressOf(data, IFLA_VXLAN_GROUP, IFLA_VXLAN_GROUP6),
    port: port?.length === 2 ? viewOf(port).getUint16(0, false) : 0,
    isLearning: is(IFLA_VXLAN_LEARNING),
    isProxy: is(IFLA_VXLAN_PROXY),
    isL2Miss: is(IFLA_VXLAN_L2MISS),
    isL3Miss: is(IFLA_VXLAN_L3MISS),
    isRouteShortCircuit: is(IFLA_VXLAN_RSC),
    isGbp: data.has(IFLA_VXLAN_GBP),
    isCollectMetadata: is(IFLA_VXLAN_COLLECT_METADATA),
  };
}

/** Writes what goes into IFLA_INFO_DATA, with outer UDP checksums as Linux has them by default. */
export function writeVxlanData(writer: PayloadWriter, settings: VxlanSettings): void {
  const { vni, linkIndex, local, port, isLearning, isProxy, isL2Miss, isGbp } = settings;
  const flag = (type: number, is: boolean) => writer.attributeU8(type, is ? 1 : 0);
  writer.attributeU32(IFLA_VXLAN_ID, vni);
  if (linkIndex !== null) writer.attributeU32(IFLA_VXLAN_LINK, linkIndex);
  if (local !== null) {
    writer.attributeAddress(local.family === 4 ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, local);
  }
  writer.attributeU16be(IFLA_VXLAN_PORT, port);
  flag(IFLA_VXLAN_LEARNING, isLearning);
  flag(IFLA_VXLAN_PROXY, isProxy);
  flag(IFLA_VXLAN_L2MISS, isL2Miss);
  flag(IFLA_VXLAN_UDP_CSUM, true);
  if (isGbp) writer.attributeFlag(IFLA_VXLAN_GBP);
}
