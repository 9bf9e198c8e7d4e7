/** The words of the guard's rules: verdicts, and matches of addresses, ports and interfaces. */
import type {
  DesiredRule,
  FirewallMatch,
  KeyPart,
  PacketField,
} from "../../kernel/firewall_state.ts";
import type { OuterLink } from "../../kernel/outer_link.ts";
import { bitsOf, type Family, IpPrefix } from "../../net/ip.ts";
import type { Carrier } from "./input.ts";

const IPPROTO_IPIP = 4;

const IPPROTO_UDP = 17;

/** In the IP header (RFC 791, RFC 8200). */
const SOURCE_OFFSETS: Readonly<Record<Family, number>> = { 4: 12, 6: 8 };

export const LOOPBACK_LINK = "lo";

/** No address of a host, or valid only on one link (RFC 6890): such a source identifies no host. */
export const SPECIAL: Readonly<Record<Family, readonly IpPrefix[]>> = {
  4: ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"].map((text) =>
    IpPrefix.parse(text)
  ),
  6: ["::/127", "fe80::/10", "ff00::/8"].map((text) => IpPrefix.parse(text)),
};

/** RFC 791. */
const IPV4_PROTOCOL: PacketField = { base: "network", offset_bytes: 9, size_bytes: 1 };

/** The port that the packet is for. */
const DESTINATION_PORT: PacketField = { base: "transport", offset_bytes: 2, size_bytes: 2 };

export function addressField(
  family: Family,
  side: "source" | "destination",
  base: PacketField["base"] = "network",
  headerOffset_bytes = 0,
): PacketField {
  const size_bytes = bitsOf(family) / 8;
  const offset = SOURCE_OFFSETS[family] + (side === "source" ? 0 : size_bytes);
  return { base, offset_bytes: headerOffset_bytes + offset, size_bytes };
}

export const whole = (field: PacketField): KeyPart => ({ field, prefixLength: null });

export const drop = (reason: string, ...matches: FirewallMatch[]): DesiredRule => ({
  matches,
  verdict: { type: "drop", reason },
});

export const accept = (...matches: FirewallMatch[]): DesiredRule => ({
  matches,
  verdict: { type: "accept" },
});

export const leave = (...matches: FirewallMatch[]): DesiredRule => ({
  matches,
  verdict: { type: "return" },
});

export const jump = (chainName: string, ...matches: FirewallMatch[]): DesiredRule => ({
  matches,
  verdict: { type: "jump", chainName },
});

export function link(direction: "in" | "out", name: string, isEqual = true): FirewallMatch {
  return { type: "link", direction, name, isEqual };
}

/** The interface with this index: compared in a fraction of the time that a name takes. */
export function linkIndex(
  direction: "in" | "out",
  index: number,
  isEqual = true,
): FirewallMatch {
  return { type: "link_index", direction, index, isEqual };
}

export function outerLink(
  direction: "in" | "out",
  { index }: OuterLink,
  isEqual = true,
): FirewallMatch {
  return linkIndex(direction, index, isEqual);
}

export function equals(
  field: PacketField,
  value: Uint8Array,
  isEqual = true,
  prefixLength = 8 * value.length,
): FirewallMatch {
  return { type: "field", field, value, prefixLength, isEqual };
}

/** A number of as many bytes as the field has. */
export function numberIs(field: PacketField, value: number, isEqual = true): FirewallMatch {
  const bytes = new Uint8Array(field.size_bytes);
  for (let i = 0; i < bytes.length; i++) bytes[bytes.length - 1 - i] = value >>> 8 * i;
  return equals(field, bytes, isEqual);
}

export function inPrefix(field: PacketField, prefix: IpPrefix, isInside = true): FirewallMatch {
  return equals(field, prefix.address.toBytes(), isInside, prefix.length);
}

/** Of IPv4, where the protocol is always at one place, the kernel compares it with less work. */
function protocolIs(family: Family, value: number): FirewallMatch {
  return family === 4 ? numberIs(IPV4_PROTOCOL, value) : { type: "protocol", value };
}

/** What carries the packets of our tunnel, on the outside. */
export function outerMatches(family: Family, carrier: Carrier): FirewallMatch[] {
  if (carrier.type === "ipip") return [protocolIs(family, IPPROTO_IPIP)];
  return [protocolIs(family, IPPROTO_UDP), numberIs(DESTINATION_PORT, carrier.port)];
}
