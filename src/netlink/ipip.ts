/** IP in IP tunnels (`linux/if_tunnel.h`, IFLA_IPTUN_*). */
import type { IpAddress } from "../net/ip.ts";
import type { Attributes, PayloadWriter } from "./attribute.ts";

// In IFLA_INFO_DATA of kind "ipip"
const IFLA_IPTUN_LINK = 1;
const IFLA_IPTUN_LOCAL = 2;
const IFLA_IPTUN_REMOTE = 3;
const IFLA_IPTUN_PMTUDISC = 10;

export interface IpipSettings {
  /** The outer interface; null: any. */
  readonly linkIndex: number | null;
  /** The outer source address; null: any. */
  readonly local: IpAddress | null;
}

export interface IpipInfo extends IpipSettings {
  /** The far end; null: what the route's gateway says. */
  readonly remote: IpAddress | null;
}

/** Reads IFLA_INFO_DATA of kind "ipip". Throws `NetlinkDecodeError`. */
export function decodeIpipInfo(data: Attributes): IpipInfo {
  const address = (type: number) => {
    const value = data.address(type, 4) ?? null;
    return value?.isUnspecified() ? null : value;
  };
  return {
    linkIndex: data.u32(IFLA_IPTUN_LINK) || null,
    local: address(IFLA_IPTUN_LOCAL),
    remote: address(IFLA_IPTUN_REMOTE),
  };
}

/** Writes what goes into IFLA_INFO_DATA; whether packets may be cut is the inner ones' to say. */
export function writeIpipData(writer: PayloadWriter, { linkIndex, local }: IpipSettings): void {
  if (linkIndex !== null) writer.attributeU32(IFLA_IPTUN_LINK, linkIndex);
  if (local !== null) writer.attributeAddress(IFLA_IPTUN_LOCAL, local);
  writer.attributeU8(IFLA_IPTUN_PMTUDISC, 0);
}
