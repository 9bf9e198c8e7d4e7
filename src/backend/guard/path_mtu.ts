/**
 * Rules against forged messages about what a path carries (ICMP "fragmentation needed", ICMPv6
 * "packet too big"). The kernel believes them whoever sends them, and its tunnels obey for ten
 * minutes. Those about TCP it checks itself, by the sequence number, so they pass. Tunnels in user
 * space need no rule: their sockets obey none, and probes find out what is true.
 */
import type { DesiredRule, FirewallMatch, PacketField } from "../../kernel/firewall_state.ts";
import {
  ETHERNET_HEADER_BYTES,
  ipHeaderBytes,
  MTU_BYTES_MIN,
  UDP_HEADER_BYTES,
  VXLAN_HEADER_BYTES,
} from "../../net/header_length.ts";
import { bitsOf, type Family, type IpPrefix } from "../../net/ip.ts";

const IPPROTO_TCP = 6;
/** RFC 792, RFC 4443: before the header that a message quotes. */
const ICMP_HEADER_BYTES = 8;
/** By the family: what says the message, and where in the quoted header things are. */
const MESSAGES = {
  4: { protocol: 1, type: [3, 4], mtu_offset: 6, mtu_size: 2, protocol_offset: 9, to_offset: 16 },
  6: { protocol: 58, type: [2, 0], mtu_offset: 4, mtu_size: 4, protocol_offset: 6, to_offset: 24 },
} as const;

function field(offset_bytes: number, size_bytes: number): PacketField {
  return { base: "transport", offset_bytes, size_bytes };
}

function is(one: PacketField, value: Uint8Array, isEqual = true): FirewallMatch {
  return { type: "field", field: one, value, prefixLength: 8 * value.length, isEqual };
}

function numberBytes(value: number, size_bytes: number): Uint8Array {
  return Uint8Array.from({ length: size_bytes }, (_, i) => value >>> 8 * (size_bytes - 1 - i));
}

/**
 * The smallest size that a message may claim, in bytes of an outer packet; null: all are dropped.
 * An IPv4 VXLAN device lets routers cut its packets, so no router has a reason to say anything. An
 * IPv6 one must carry inner packets of the size that every IPv6 link carries. As for ipip, no link
 * of today carries less than every IPv6 link does.
 */
function floorOf(family: Family, carrier: "vxlan" | "ipip"): number | null {
  const ipv6Min = MTU_BYTES_MIN[6];
  if (carrier === "ipip") return ipv6Min;
  if (family === 4) return null;
  return ipv6Min + ipHeaderBytes(6) + UDP_HEADER_BYTES + VXLAN_HEADER_BYTES +
    ETHERNET_HEADER_BYTES;
}

/** Where the packet that a message quotes was going to. */
export function quotedDestination(family: Family): PacketField {
  return field(ICMP_HEADER_BYTES + MESSAGES[family].to_offset, bitsOf(family) / 8);
}

/** The matches for a message that a path carries less. */
function isMessage(family: Family): FirewallMatch[] {
  const { protocol, type } = MESSAGES[family];
  return [{ type: "protocol", value: protocol }, is(field(0, 2), Uint8Array.from(type))];
}

/**
 * A rule of the input chain: only the far end of the tunnel `device` may report what the path to an
 * address of the overlay carries. No router of the underlay sees packets to those.
 */
export function overlayMtuRule(network: IpPrefix, device: string, reason: string): DesiredRule {
  const { family, address, length } = network;
  return {
    matches: [
      ...isMessage(family),
      {
        type: "field",
        field: quotedDestination(family),
        value: address.toBytes(),
        prefixLength: length,
        isEqual: true,
      },
      { type: "link", direction: "in", name: device, isEqual: false },
    ],
    verdict: { type: "drop", reason },
  };
}

/**
 * Rules of the input chain; `hosts` is a set of the public addresses of all nodes but ours, which
 * are compared with `quotedDestination`.
 */
export function pathMtuRules(
  family: Family,
  carrier: "vxlan" | "ipip",
  hosts: string,
  reason: string,
): DesiredRule[] {
  const { mtu_offset, mtu_size, protocol_offset } = MESSAGES[family];
  const floor = floorOf(family, carrier);
  const mtu = field(mtu_offset, mtu_size);
  const isTooLow: FirewallMatch = {
    type: "range",
    field: mtu,
    first: numberBytes(0, mtu_size),
    last: numberBytes((floor ?? 0) - 1, mtu_size),
  };
  return [{
    matches: [
      ...isMessage(family),
      is(field(ICMP_HEADER_BYTES + protocol_offset, 1), Uint8Array.of(IPPROTO_TCP), false),
      ...(floor === null ? [] : [isTooLow]),
      {
        type: "member",
        set: hosts,
        key: [{ field: quotedDestination(family), prefixLength: null }],
        isMember: true,
      },
    ],
    verdict: { type: "drop", reason },
  }];
}
