/**
 * The guard's rules for packets that reach the kernel's tunnel. It trusts every sender and every
 * inner packet, so both are checked before the kernel takes the packet out.
 */
import type {
  DesiredChain,
  DesiredRule,
  FirewallMatch,
  PacketField,
} from "../../kernel/firewall_state.ts";
import { ETHERNET_HEADER_BYTES, UDP_HEADER_BYTES } from "../../net/header_length.ts";
import { bitsOf, type Family, IpPrefix, ofFamily } from "../../net/ip.ts";
import { alignedParts, bytesOf, INNER_FRAME_OFFSET_BYTES, innerField } from "./inner_field.ts";
import {
  type Carrier,
  type FamilyInput,
  GUARD_REASONS,
  hasBroadcast,
  type KernelCarrier,
} from "./input.ts";
import { isHost, lengthsOf, sourceLengthsOf, sourcesOf } from "./peer_sets.ts";
import {
  accept,
  addressField,
  drop,
  equals,
  inPrefix,
  leave,
  link,
  LOOPBACK_LINK,
  numberIs,
  outerLink,
  outerMatches,
  SPECIAL,
} from "./rule.ts";

const ETHERTYPES: Readonly<Record<Family, number>> = { 4: 0x0800, 6: 0x86dd };

const LOOPBACK = IpPrefix.parse("127.0.0.0/8");

const VNI_BITS = 24;

const VNI: PacketField = {
  base: "transport",
  offset_bytes: UDP_HEADER_BYTES + 4,
  size_bytes: 4,
};

const INNER_ETHERTYPE: PacketField = {
  base: "transport",
  offset_bytes: INNER_FRAME_OFFSET_BYTES + ETHERNET_HEADER_BYTES - 2,
  size_bytes: 2,
};

/** Whether an inner address is in our subnet. */
function isInSubnet({ subnet }: FamilyInput, field: PacketField): FirewallMatch[] {
  const parts = alignedParts(field, subnet.length);
  return parts === null
    ? [inPrefix(field, subnet)]
    : parts.map((part) => equals(part, bytesOf(subnet.address, field, part)));
}

/** What a packet that our tunnel accepts must match inside, except for its sender. */
function isInnerForUs(input: FamilyInput, carrier: KernelCarrier): FirewallMatch[] {
  const destination = innerField(input.family, "destination", carrier);
  const isForSubnet = isInSubnet(input, destination);
  if (carrier.type === "vxlan") return [isFamily(input.family, true), ...isForSubnet];
  return [...isForSubnet, equals(destination, input.subnet.last.toBytes(), false)];
}

/** What an outer packet of our tunnel must match, except for its sender. */
function isForUs(input: FamilyInput, carrier: KernelCarrier): FirewallMatch[] {
  return [
    { type: "unicast", isUnicast: true },
    ...(carrier.type === "vxlan" ? [equals(VNI, vniBytes(carrier), true, VNI_BITS)] : []),
    ...isInnerForUs(input, carrier),
  ];
}

/** The field of the header has a byte more than the number. */
function vniBytes({ vni }: { readonly vni: number }): Uint8Array {
  return Uint8Array.of(vni >>> 16, vni >>> 8, vni, 0);
}

function isFamily(family: Family, isEqual: boolean): FirewallMatch {
  return numberIs(INNER_ETHERTYPE, ETHERTYPES[family], isEqual);
}

/** The inner source is in a subnet of this length, and of the peer that the packet comes from. */
function isFromPeer(input: FamilyInput, carrier: KernelCarrier, length: number): FirewallMatch {
  const { name: set, key } = sourcesOf(input, carrier, length);
  return { type: "member", set, key, isMember: true };
}

/**
 * Accepts the usual packet at once. Every comparison costs every packet time, so this rule does not
 * compare the VNI: a packet for another VNI is not for our tunnel, and is accepted anyway.
 */
export function usualRule(input: FamilyInput, carrier: KernelCarrier): DesiredRule {
  return accept(
    ...outerMatches(input.family, carrier),
    outerLink("in", input.link),
    { type: "unicast", isUnicast: true },
    ...isInnerForUs(input, carrier),
    isFromPeer(input, carrier, lengthsOf(input)[0]!),
  );
}

/**
 * The rules for unusual packets to the kernel's tunnel. `foreign` accepts packets that are not for
 * our tunnel; all packets after that are dropped.
 */
function kernelRules(
  input: FamilyInput,
  carrier: KernelCarrier,
  foreign: readonly DesiredRule[],
): DesiredRule[] {
  const { family, trustsUnderlay, allowsOutsideSources, config } = input;
  const source = innerField(family, "source", carrier);
  const accepts = sourceLengthsOf(input).map((length) =>
    accept(...isForUs(input, carrier), isFromPeer(input, carrier, length))
  );
  const { network } = ofFamily(config.ranges, family)!;
  const outside = !allowsOutsideSources ? [] : [
    ...SPECIAL[family].map((prefix) =>
      drop(
        GUARD_REASONS.sourceOutsideSubnet,
        ...isForUs(input, carrier),
        inPrefix(source, prefix),
      )
    ),
    accept(...isForUs(input, carrier), inPrefix(source, network, false)),
  ];
  return [
    // This comes before the VNI is compared: a rule sees the VNI of only the first of many
    // datagrams (UDP GSO).
    drop(GUARD_REASONS.wrongInterface, link("in", LOOPBACK_LINK), isHost(family, "source")),
    wrongInterfaceRule(input, isHost(family, "source")),
    ...foreign,
    wrongInterfaceRule(input),
    ...accepts,
    drop(GUARD_REASONS.notUnicast, { type: "unicast", isUnicast: false }),
    ...(trustsUnderlay ? [] : [drop(GUARD_REASONS.sourceNotPeer, isHost(family, "source", false))]),
    ...outside,
  ];
}

/**
 * Drops packets that came in by an interface which does not lead to their source address: from a
 * container of this host or a local user that poses as a peer, or a datagram inside the tunnel.
 */
function wrongInterfaceRule(
  { link: outer, hasFib }: FamilyInput,
  ...more: FirewallMatch[]
): DesiredRule {
  return drop(
    GUARD_REASONS.wrongInterface,
    outerLink("in", outer, false),
    ...more,
    ...(hasFib ? [{ type: "reverse_path", isSame: false } as const] : []),
  );
}

export const TUNNEL_CHAIN = "tunnel";

/** Decides on packets that reach this host for its tunnel, except for the usual packet. */
export function tunnelChain(input: FamilyInput, carrier: KernelCarrier): DesiredChain {
  const { family, subnet } = input;
  const { innerProtocol, destinationNotOurs, sourceOutsideSubnet } = GUARD_REASONS;
  const rules = () => {
    switch (carrier.type) {
      case "ipip": {
        const destination = innerField(family, "destination", carrier);
        return [
          // Other tunnels of the host. Packets that the kernel gives to our tunnel are dropped
          // behind it.
          ...kernelRules(input, carrier, [leave(inPrefix(destination, subnet, false))]),
          drop(destinationNotOurs, equals(destination, subnet.last.toBytes())),
          drop(sourceOutsideSubnet),
        ];
      }
      case "vxlan": {
        const destination = innerField(family, "destination", carrier);
        return [
          // Other devices of the host that share the port.
          ...kernelRules(
            input,
            carrier,
            [leave(equals(VNI, vniBytes(carrier), false, VNI_BITS))],
          ),
          drop(innerProtocol, isFamily(family, false)),
          drop(destinationNotOurs, inPrefix(destination, subnet, false)),
          drop(sourceOutsideSubnet),
        ];
      }
    }
  };
  return { name: TUNNEL_CHAIN, hook: null, rules: rules() };
}

/**
 * Checks destinations behind the tunnel, where that costs the usual packet nothing, and again those
 * that must never be reached: many datagrams may come as one packet (UDP GSO on a virtual link),
 * and the tunnel's rules see the inner addresses of only the first one. Other destinations cannot
 * be checked here: rules of others may have translated them by then (DNAT, such as Docker's
 * published ports and the node ports of Kubernetes).
 */
export function innerDestinationRules(input: FamilyInput, { device }: Carrier): DesiredRule[] {
  const { family, subnet } = input;
  // The kernel itself refuses such addresses over IPv6.
  if (family === 6) return [];
  const destination = addressField(family, "destination");
  const broadcast = IpPrefix.of(subnet.last, bitsOf(family));
  return [LOOPBACK, ...(hasBroadcast(input) ? [broadcast] : [])].map((prefix) =>
    drop(GUARD_REASONS.destinationNotOurs, link("in", device), inPrefix(destination, prefix))
  );
}

/**
 * Rules for the ipip device, to which the kernel gives the packets of all senders without another
 * tunnel.
 */
export function ipipChain({ family, subnet }: FamilyInput, device: string): DesiredChain {
  const destination = addressField(family, "destination");
  const { destinationNotOurs } = GUARD_REASONS;
  const rules = [
    drop(destinationNotOurs, link("in", device), inPrefix(destination, subnet, false)),
  ];
  return { name: "prerouting", hook: "filter prerouting", rules };
}
