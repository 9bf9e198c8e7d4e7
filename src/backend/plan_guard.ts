/**
 * The guard: firewall rules that let into a tunnel only what its peers send, and let nobody on this
 * host but the tunnel send to the peers' tunnels. Pure.
 *
 * The kernel's tunnels trust every sender and every inner packet, so both are checked before the
 * kernel takes the packet out. Packet loops in user space check both themselves, and report
 * senders that are no peers by address. They do not see the interface, so the guard keeps from
 * their sockets only what this host's containers and users send there.
 */
import type { NetworkConfig } from "../config/network_config.ts";
import {
  type DesiredChain,
  type DesiredRule,
  type DesiredSet,
  type DesiredTable,
  type FirewallMatch,
  GUARD_TABLE,
  type KeyPart,
  type PacketField,
  setElement,
} from "../kernel/firewall_state.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { DesiredLink } from "../kernel/state.ts";
import type { Lease } from "../lease/lease.ts";
import {
  ETHERNET_HEADER_BYTES,
  UDP_HEADER_BYTES,
  VXLAN_HEADER_BYTES,
} from "../net/header_length.ts";
import { bitsOf, type Family, type IpAddress, IpPrefix, ofFamily } from "../net/ip.ts";
import type { PeerEntry, Tunnel } from "./backend.ts";
import { overlayMtuRule, pathMtuRules, quotedDestination } from "./path_mtu_guard.ts";

/**
 * Set on packets that local users send through the kernel's tunnel: the outer packet keeps the
 * mark, and the sender's socket too, so its user tells nothing there. Ordinary users cannot set
 * marks. Kubernetes (0xc000), Calico and Cilium (0xffff0f00) and Tailscale (0xff0000) use others.
 */
export const GUARD_MARK = 0x1000;

/** Names of the counters. */
export const GUARD_REASONS = {
  notUnicast: "guard_not_unicast",
  sourceNotPeer: "guard_source_not_peer",
  wrongInterface: "guard_wrong_interface",
  innerProtocol: "guard_inner_protocol",
  destinationNotOurs: "guard_destination_not_ours",
  sourceOutsideSubnet: "guard_source_outside_subnet",
  outsideTunnel: "guard_outside_tunnel",
  sourceNotOwn: "guard_source_not_own",
  forwarded: "guard_forwarded",
  localUser: "guard_local_user",
  pathMtu: "guard_path_mtu",
} as const;

const IPPROTO_IPIP = 4;
const IPPROTO_UDP = 17;
const ETHERTYPES: Readonly<Record<Family, number>> = { 4: 0x0800, 6: 0x86dd };
/** In the IP header (RFC 791, RFC 8200). */
const SOURCE_OFFSETS: Readonly<Record<Family, number>> = { 4: 12, 6: 8 };
const KEY_TYPES = { 4: "ipv4_addr", 6: "ipv6_addr" } as const;
const LOOPBACK = IpPrefix.parse("127.0.0.0/8");
const LOOPBACK_LINK = "lo";
/** No address of a host, or valid only on one link (RFC 6890): such a source identifies no host. */
const SPECIAL: Readonly<Record<Family, readonly IpPrefix[]>> = {
  4: ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3"].map((text) =>
    IpPrefix.parse(text)
  ),
  6: ["::/127", "fe80::/10", "ff00::/8"].map((text) => IpPrefix.parse(text)),
};

/** RFC 791. */
const IPV4_PROTOCOL: PacketField = { base: "network", offset_bytes: 9, size_bytes: 1 };
/** The port that the packet is for. */
const DESTINATION_PORT: PacketField = { base: "transport", offset_bytes: 2, size_bytes: 2 };
const VNI_BITS = 24;
const VNI: PacketField = {
  base: "transport",
  offset_bytes: UDP_HEADER_BYTES + 4,
  size_bytes: 4,
};
const INNER_FRAME_OFFSET_BYTES = UDP_HEADER_BYTES + VXLAN_HEADER_BYTES;
const INNER_ETHERTYPE: PacketField = {
  base: "transport",
  offset_bytes: INNER_FRAME_OFFSET_BYTES + ETHERNET_HEADER_BYTES - 2,
  size_bytes: 2,
};

export interface GuardInput {
  readonly config: NetworkConfig;
  readonly link: OuterLink;
  readonly lease: Pick<Lease, "subnets">;
  /** Every lease of the network except for our own. */
  readonly peers: readonly Lease[];
  /** Those of them that packets are carried to. */
  readonly served: readonly PeerEntry[];
  /** In user space. */
  readonly tunnels: readonly Tunnel[];
  /** The kernel's devices are among them. */
  readonly links: readonly DesiredLink[];
  /** Whether packets between nodes may cross the outer link as they are. */
  readonly isDirect: boolean;
  /** As in `RunOptions`, for the kernel's tunnels. */
  readonly trustsUnderlay: boolean;
  readonly allowsOutsideSources: boolean;
  /** The user that this process runs as. */
  readonly uid: number;
}

/** What carries the packets of one family. */
type KernelCarrier =
  | {
    readonly type: "vxlan";
    readonly device: string;
    readonly port: number;
    readonly vni: number;
  }
  | { readonly type: "ipip"; readonly device: string };
type Carrier =
  | KernelCarrier
  | { readonly type: "userspace"; readonly device: string; readonly port: number };

/** The facts of one family. */
interface FamilyInput extends GuardInput {
  /** Whether rules may ask by which interface an address is reached. */
  readonly hasFib: boolean;
  readonly family: Family;
  readonly subnet: IpPrefix;
  /** null: packets are not encapsulated. */
  readonly carrier: Carrier | null;
}

function addressField(
  family: Family,
  side: "source" | "destination",
  base: PacketField["base"] = "network",
  headerOffset_bytes = 0,
): PacketField {
  const size_bytes = bitsOf(family) / 8;
  const offset = SOURCE_OFFSETS[family] + (side === "source" ? 0 : size_bytes);
  return { base, offset_bytes: headerOffset_bytes + offset, size_bytes };
}

const whole = (field: PacketField): KeyPart => ({ field, prefixLength: null });
const drop = (reason: string, ...matches: FirewallMatch[]): DesiredRule => ({
  matches,
  verdict: { type: "drop", reason },
});
const accept = (...matches: FirewallMatch[]): DesiredRule => ({
  matches,
  verdict: { type: "accept" },
});
const leave = (...matches: FirewallMatch[]): DesiredRule => ({
  matches,
  verdict: { type: "return" },
});
const jump = (chainName: string, ...matches: FirewallMatch[]): DesiredRule => ({
  matches,
  verdict: { type: "jump", chainName },
});

function link(direction: "in" | "out", name: string, isEqual = true): FirewallMatch {
  return { type: "link", direction, name, isEqual };
}

function outerLink(
  direction: "in" | "out",
  { index }: OuterLink,
  isEqual = true,
): FirewallMatch {
  return { type: "link_index", direction, index, isEqual };
}

function equals(
  field: PacketField,
  value: Uint8Array,
  isEqual = true,
  prefixLength = 8 * value.length,
): FirewallMatch {
  return { type: "field", field, value, prefixLength, isEqual };
}

/** A number of as many bytes as the field has. */
function numberIs(field: PacketField, value: number, isEqual = true): FirewallMatch {
  const bytes = new Uint8Array(field.size_bytes);
  for (let i = 0; i < bytes.length; i++) bytes[bytes.length - 1 - i] = value >>> 8 * i;
  return equals(field, bytes, isEqual);
}

function inPrefix(field: PacketField, prefix: IpPrefix, isInside = true): FirewallMatch {
  return equals(field, prefix.address.toBytes(), isInside, prefix.length);
}

/** The public addresses of all nodes except for our own. */
const HOSTS = "hosts";
/** The same, for comparison with what an ICMP message quotes. */
const QUOTED_HOSTS = "quoted_hosts";

function isHost(family: Family, side: "source" | "destination", isMember = true): FirewallMatch {
  return { type: "member", set: HOSTS, key: [whole(addressField(family, side))], isMember };
}

const addressElements = new WeakMap<IpAddress, string>();

/** The element of a set that is this address. Made once for each: peers come by thousands. */
function addressElement(address: IpAddress): string {
  let element = addressElements.get(address);
  if (element === undefined) {
    element = setElement(address.toBytes());
    addressElements.set(address, element);
  }
  return element;
}

/** By their layout: the elements that stand for each peer. */
const sourceElements = new Map<string, WeakMap<PeerEntry, string>>();

/**
 * The element of a peer in a set of this layout, which `make` returns the key of. Made once for
 * each peer and layout.
 */
function sourceElement(peer: PeerEntry, layout: string, make: () => Uint8Array): string {
  let known = sourceElements.get(layout);
  if (known === undefined) sourceElements.set(layout, known = new WeakMap());
  let element = known.get(peer);
  if (element === undefined) known.set(peer, element = setElement(make()));
  return element;
}

function hostsSet({ family, peers, link: outer }: FamilyInput): DesiredSet {
  const own = [...outer.addresses, ...outer.publicAddresses, ...outer.localAddresses ?? []];
  const addresses = peers.flatMap(({ publicAddresses }) => ofFamily(publicAddresses, family) ?? [])
    .filter((address) => address.isHost());
  const elements = new Set(addresses.map(addressElement));
  for (const address of own) elements.delete(addressElement(address));
  return { name: HOSTS, key: [KEY_TYPES[family]], elements };
}

/**
 * The lengths of the peers' subnets; first the length that the network gives, also if no peer has
 * it.
 */
function lengthsOf({ family, config, served }: FamilyInput): number[] {
  const usual = ofFamily(config.ranges, family)!.subnetLength;
  const lengths = served.filter(({ subnet }) => subnet.family === family)
    .map(({ subnet }) => subnet.length);
  return [...new Set([usual, ...lengths.sort((a, b) => b - a)])];
}

/** What a set is to hold of the peers whose subnets have this length. */
function peersOf({ family, served }: FamilyInput, length: number): readonly PeerEntry[] {
  return served.filter(({ subnet }) => subnet.family === family && subnet.length === length);
}

/**
 * The lengths of the inner sources that the kernel's tunnel accepts: of the peers' subnets, and of
 * single addresses. A host answers from its own address what containers sent to it there, and that
 * is not masqueraded everywhere.
 */
function sourceLengthsOf(input: FamilyInput): number[] {
  // With `trustsUnderlay` it is not known which host that would be.
  if (input.trustsUnderlay) return lengthsOf(input);
  return [...new Set([...lengthsOf(input), bitsOf(input.family)])];
}

/** Which inner subnet comes from which address: one set for each length of subnets. */
const sourcesName = (length: number) => `sources_${length}`;
/** The same from any address. */
const innerName = (length: number) => `inner_${length}`;
/** The subnets of peers whose packets come without a tunnel, likewise. */
const subnetsName = (length: number) => `subnets_${length}`;

function isKernels(carrier: Carrier | null): carrier is KernelCarrier {
  return carrier !== null && carrier.type !== "userspace";
}

/** How far behind the outer IP header the inner one is. */
function innerOffset_bytes(carrier: KernelCarrier): number {
  return carrier.type === "ipip" ? 0 : INNER_FRAME_OFFSET_BYTES + ETHERNET_HEADER_BYTES;
}

function innerField(
  family: Family,
  side: "source" | "destination",
  carrier: KernelCarrier,
): PacketField {
  return addressField(family, side, "transport", innerOffset_bytes(carrier));
}

/**
 * The parts that cover the first `length` bits of an inner IPv4 address in a frame, which is not at
 * a multiple of 4: the kernel reads parts that are aligned to their size several times as fast.
 * null: these bits, or such an address, are read as a whole.
 */
function alignedParts(field: PacketField, length: number): PacketField[] | null {
  const { offset_bytes, size_bytes } = field;
  if (size_bytes !== 4 || offset_bytes % 4 !== 2 || ![16, 24, 32].includes(length)) return null;
  const high = { ...field, size_bytes: 2 };
  const low = { ...field, offset_bytes: offset_bytes + 2, size_bytes: length / 8 - 2 };
  return length === 16 ? [high] : [high, low];
}

/** The bytes of an address that a part of its field has. */
function bytesOf(address: IpAddress, field: PacketField, part: PacketField): Uint8Array {
  const start = part.offset_bytes - field.offset_bytes;
  return address.toBytes().subarray(start, start + part.size_bytes);
}

/** Whether an inner address is in our subnet and not its broadcast address. */
function isInSubnet(input: FamilyInput, field: PacketField): FirewallMatch[] {
  const { subnet } = input;
  const notLast = hasBroadcast(input);
  const parts = alignedParts(field, subnet.length);
  if (parts === null) return [{ type: "in_prefix", field, prefix: subnet, notLast }];
  const held_bytes = subnet.length / 8;
  const rest = {
    ...field,
    offset_bytes: field.offset_bytes + held_bytes,
    size_bytes: field.size_bytes - held_bytes,
  };
  return [
    ...parts.map((part) => equals(part, bytesOf(subnet.address, field, part))),
    ...(notLast ? [equals(rest, bytesOf(subnet.last, field, rest), false)] : []),
  ];
}

/** The set of the accepted inner sources, and the key to look up there. */
function sourcesOf(
  { family, trustsUnderlay }: FamilyInput,
  carrier: KernelCarrier,
  length: number,
): { name: string; key: KeyPart[] } {
  const field = innerField(family, "source", carrier);
  const inner = alignedParts(field, length)?.map(whole) ?? [{ field, prefixLength: length }];
  return trustsUnderlay
    ? { name: innerName(length), key: inner }
    : { name: sourcesName(length), key: [whole(addressField(family, "source")), ...inner] };
}

/** Parts of a key begin at multiples of this. */
const KEY_ALIGNMENT_BYTES = 4;

/** A key of that set. */
function sourceKey(
  outer: IpAddress | null,
  inner: IpAddress,
  field: PacketField,
  parts: readonly PacketField[],
): Uint8Array {
  const sizes = parts.map(({ size_bytes }) => Math.max(size_bytes, KEY_ALIGNMENT_BYTES));
  const outer_bytes = outer === null ? 0 : bitsOf(outer.family) / 8;
  const bytes = new Uint8Array(outer_bytes + sizes.reduce((sum, size) => sum + size, 0));
  outer?.writeTo(bytes, 0);
  let at = outer_bytes;
  for (const [i, part] of parts.entries()) {
    bytes.set(bytesOf(inner, field, part), at);
    at += sizes[i]!;
  }
  return bytes;
}

function sourcesSet(input: FamilyInput, carrier: KernelCarrier, length: number): DesiredSet {
  const { family, served, trustsUnderlay } = input;
  const { name } = sourcesOf(input, carrier, length);
  const field = innerField(family, "source", carrier);
  const parts = alignedParts(field, length) ?? [field];
  const key = trustsUnderlay ? parts : [KEY_TYPES[family], ...parts];
  const elementOf = (peer: PeerEntry, inner: "subnet" | "address") =>
    sourceElement(peer, `${name} ${field.offset_bytes} ${inner}`, () => {
      const { address, subnet } = peer;
      const of = inner === "subnet" ? subnet.address : address;
      return sourceKey(trustsUnderlay ? null : address, of, field, parts);
    });
  const elements = new Set<string>();
  for (const peer of peersOf(input, length)) elements.add(elementOf(peer, "subnet"));
  if (!trustsUnderlay && length === bitsOf(family)) {
    for (const peer of served) {
      if (peer.address.family === family) elements.add(elementOf(peer, "address"));
    }
  }
  return { name, key, elements };
}

function setsOf(input: FamilyInput): DesiredSet[] {
  const { family, carrier, isDirect } = input;
  const lengths = lengthsOf(input);
  const subnetsSet = (length: number): DesiredSet => ({
    name: subnetsName(length),
    key: [KEY_TYPES[family]],
    elements: new Set(peersOf(input, length).map(({ subnet }) => addressElement(subnet.address))),
  });
  const hosts = hostsSet(input);
  return [
    hosts,
    ...(isKernels(carrier)
      ? [{ ...hosts, name: QUOTED_HOSTS, key: [quotedDestination(family)] }]
      : []),
    ...(isKernels(carrier)
      ? sourceLengthsOf(input).map((length) => sourcesSet(input, carrier, length))
      : []),
    ...(isDirect ? lengths.map(subnetsSet) : []),
  ];
}

/** Of IPv4 the highest address of a subnet is its broadcast address (RFC 3021 for the others). */
function hasBroadcast({ family, subnet }: FamilyInput): boolean {
  return family === 4 && subnet.length <= 30;
}

/** What a packet that our tunnel accepts must match inside, except for its sender. */
function isInnerForUs(input: FamilyInput, carrier: KernelCarrier): FirewallMatch[] {
  return [
    ...(carrier.type === "vxlan" ? [isFamily(input.family, true)] : []),
    ...isInSubnet(input, innerField(input.family, "destination", carrier)),
  ];
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
function usualRule(input: FamilyInput, carrier: KernelCarrier): DesiredRule {
  return accept(
    ...outerMatches(input.family, carrier),
    outerLink("in", input.link),
    { type: "unicast", isUnicast: true },
    ...isInnerForUs(input, carrier),
    isFromPeer(input, carrier, lengthsOf(input)[0]!),
  );
}

/**
 * The rules for packets to the kernel's tunnel that are not usual ones. `foreign` accepts packets
 * that are not for our tunnel; all packets after that are dropped.
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
    // Before the VNI is looked at, which is only that of the first of many datagrams (UDP GSO).
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
 * Drops packets from an address that is not reached by the interface they came in by: a container
 * of this host, or a local user, that sends as a peer, and a datagram inside the tunnel.
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

const TUNNEL_CHAIN = "tunnel";

/** Decides on packets that reach this host for its tunnel, except for the usual packet. */
function tunnelChain(input: FamilyInput, carrier: KernelCarrier): DesiredChain {
  const { family, subnet } = input;
  const { innerProtocol, destinationNotOurs, sourceOutsideSubnet } = GUARD_REASONS;
  const rules = () => {
    switch (carrier.type) {
      case "ipip": {
        const destination = innerField(family, "destination", carrier);
        return [
          // Other tunnels of the host; what the kernel gives to ours is dropped after it.
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
          ...(hasBroadcast(input)
            ? [drop(destinationNotOurs, equals(destination, subnet.last.toBytes()))]
            : []),
          drop(sourceOutsideSubnet),
        ];
      }
    }
  };
  return { name: TUNNEL_CHAIN, hook: null, rules: rules() };
}

/** Of IPv4, where the protocol is always at one place, the kernel compares it with less work. */
function protocolIs(family: Family, value: number): FirewallMatch {
  return family === 4 ? numberIs(IPV4_PROTOCOL, value) : { type: "protocol", value };
}

/** What carries the packets of our tunnel, on the outside. */
function outerMatches(family: Family, carrier: Carrier): FirewallMatch[] {
  if (carrier.type === "ipip") return [protocolIs(family, IPPROTO_IPIP)];
  return [protocolIs(family, IPPROTO_UDP), numberIs(DESTINATION_PORT, carrier.port)];
}

/** Packets from the overlay's range that come in by the outer link without a tunnel. */
function fromRange({ family, config, link: outer, subnet }: FamilyInput): FirewallMatch[] {
  const range = ofFamily(config.ranges, family)!;
  const source = addressField(family, "source");
  const last = IpPrefix.of(range.subnetMax, range.subnetLength).last;
  return [
    outerLink("in", outer),
    { type: "range", field: source, first: range.subnetMin.toBytes(), last: last.toBytes() },
    // Containers of our own may be on the same link.
    inPrefix(source, subnet, false),
  ];
}

/**
 * Drops packets for our subnet from an address of the overlay that came in by a link which does not
 * lead to that address: a stranger on another link of this host sent them.
 */
function otherLinkRules(input: FamilyInput): DesiredRule[] {
  const { family, config, carrier, link: outer, subnet, hasFib } = input;
  // Without it containers of this host look like strangers.
  if (!hasFib) return [];
  const range = ofFamily(config.ranges, family)!;
  const last = IpPrefix.of(range.subnetMax, range.subnetLength).last.toBytes();
  return [
    drop(
      GUARD_REASONS.outsideTunnel,
      ...(carrier === null ? [] : [link("in", carrier.device, false)]),
      outerLink("in", outer, false),
      inPrefix(addressField(family, "destination"), subnet),
      {
        type: "range",
        field: addressField(family, "source"),
        first: range.subnetMin.toBytes(),
        last,
      },
      // What the host sends to itself has no way back on some kernels.
      link("in", LOOPBACK_LINK, false),
      { type: "reverse_path", isSame: false },
    ),
  ];
}

const DIRECT_CHAIN = "direct";

/** Lets only packets from the subnet of a peer return to the calling chain. */
function directChain(input: FamilyInput): DesiredChain {
  const source = addressField(input.family, "source");
  const returns = lengthsOf(input).map((length) =>
    leave({
      type: "member",
      set: subnetsName(length),
      key: [{ field: source, prefixLength: length }],
      isMember: true,
    })
  );
  const rules = [...returns, drop(GUARD_REASONS.sourceNotPeer)];
  return { name: DIRECT_CHAIN, hook: null, rules };
}

const DIRECT_INPUT_CHAIN = "direct_input";

/**
 * Lets only packets from the subnet of a peer to an address of one host return. A frame for this
 * host may hold a packet for many.
 */
function directInputChain(input: FamilyInput): DesiredChain {
  const { family, link: outer, subnet } = input;
  const destination = addressField(family, "destination");
  const { destinationNotOurs, notUnicast } = GUARD_REASONS;
  const linkPrefixes = outer.ways.filter(({ isDirect }) => isDirect)
    .map((way) => way.destination)
    .filter((prefix) => prefix.family === 4 && prefix.length >= 8 && prefix.length <= 30);
  const broadcasts = family === 6 ? [] : new Set(
    [...(hasBroadcast(input) ? [subnet] : []), ...linkPrefixes].map(({ last }) => last),
  );
  const rules = [
    drop(notUnicast, { type: "unicast", isUnicast: false }),
    ...SPECIAL[family].map((prefix) => drop(destinationNotOurs, inPrefix(destination, prefix))),
    ...[...broadcasts].map((last) => drop(destinationNotOurs, equals(destination, last.toBytes()))),
    jump(DIRECT_CHAIN),
  ];
  return { name: DIRECT_INPUT_CHAIN, hook: null, rules };
}

/**
 * Keeps from the socket of our tunnel in user space what containers and local users of this host
 * send to it with a peer's address: the packet loops do not see the interface. (IPv6 lets every
 * user send from any address.)
 */
function ownTunnelRules(input: FamilyInput, carrier: Carrier): DesiredRule[] {
  const { family, link: outer, hasFib } = input;
  const own = ofFamily(outer.addresses, family);
  if (own === undefined) return [];
  const { wrongInterface } = GUARD_REASONS;
  const toTunnel = [
    outerLink("in", outer, false),
    ...outerMatches(family, carrier),
    equals(addressField(family, "destination"), own.toBytes()),
  ];
  return [
    drop(wrongInterface, ...toTunnel, link("in", LOOPBACK_LINK)),
    ...(hasFib
      ? [drop(wrongInterface, ...toTunnel, { type: "reverse_path", isSame: false } as const)]
      : [drop(wrongInterface, ...toTunnel, isHost(family, "source"))]),
  ];
}

/**
 * Many datagrams may come as one packet (UDP GSO on a virtual link), of which the tunnel's rules
 * see only the first one's inner addresses. What must never be reached is checked again behind the
 * tunnel. All other destinations cannot be: other rules of this host may have translated them by
 * then (DNAT, such as Docker's published ports and the node ports of Kubernetes).
 */
function innerDestinationRules({ family, subnet }: FamilyInput, { device }: Carrier) {
  // The kernel itself refuses such addresses over IPv6.
  if (family === 6) return [];
  const destination = addressField(family, "destination");
  const broadcast = IpPrefix.of(subnet.last, bitsOf(family));
  return [LOOPBACK, ...(subnet.length <= 30 ? [broadcast] : [])].map((prefix) =>
    drop(GUARD_REASONS.destinationNotOurs, link("in", device), inPrefix(destination, prefix))
  );
}

function inputChain(input: FamilyInput): DesiredChain {
  const { family, carrier, isDirect, subnet, config } = input;
  const destination = addressField(family, "destination");
  const { outsideTunnel, pathMtu } = GUARD_REASONS;
  const unencapsulated = isDirect
    ? [jump(DIRECT_INPUT_CHAIN, ...fromRange(input))]
    : [drop(outsideTunnel, inPrefix(destination, subnet), ...fromRange(input))];
  const rules = [
    ...(isKernels(carrier)
      ? [
        usualRule(input, carrier),
        jump(TUNNEL_CHAIN, ...outerMatches(family, carrier)),
        ...pathMtuRules(family, carrier.type, QUOTED_HOSTS, GUARD_REASONS.pathMtu),
        ...innerDestinationRules(input, carrier),
      ]
      : []),
    ...(carrier?.type === "userspace" ? ownTunnelRules(input, carrier) : []),
    ...(carrier !== null && !isDirect
      ? [overlayMtuRule(ofFamily(config.ranges, family)!.network, carrier.device, pathMtu)]
      : []),
    ...unencapsulated,
    ...otherLinkRules(input),
  ];
  return { name: "input", hook: "filter input", rules };
}

const FORWARDED_CHAIN = "forwarded";

/** Which packets of other hosts may be forwarded to a tunnel: a node may lie behind this one. */
function forwardedChain(input: FamilyInput): DesiredChain {
  const { family, link: outer, subnet, hasFib } = input;
  const way: FirewallMatch = hasFib
    ? { type: "reverse_path", isSame: true }
    : outerLink("in", outer);
  // Our own datagrams come here if the outer interface's packets cross a bridge of this host and
  // the kernel shows bridged packets to nftables (br_netfilter). Whoever sends from our address and
  // is routed was refused before: IPv4 takes no local address for a source from outside.
  const own = ofFamily(outer.addresses, family);
  // IPv6 takes such a source, so nothing from there may leave by the outer interface itself.
  const notRouted = family === 6 ? [outerLink("out", outer, false)] : [];
  const source = addressField(family, "source");
  const rules = [
    ...(own === undefined ? [] : [accept(...notRouted, equals(source, own.toBytes()))]),
    // Addresses that a node has beside its published one lead to its tunnel as well.
    drop(GUARD_REASONS.forwarded, inPrefix(source, subnet)),
    accept(isHost(family, "source"), way),
    drop(GUARD_REASONS.forwarded, isHost(family, "destination")),
  ];
  return { name: FORWARDED_CHAIN, hook: null, rules };
}

/**
 * Drops what containers send as this host: no far end could tell, and IPv6 forwards it. (IPv4 does
 * not: a source that is an address of the host's own is refused as martian.)
 */
function asHostRules({ family, carrier, isDirect, link: outer }: FamilyInput): DesiredRule[] {
  const own = family === 6 ? ofFamily(outer.addresses, 6) : undefined;
  if (own === undefined) return [];
  const devices = [
    ...(carrier === null ? [] : [carrier.device]),
    ...(isDirect ? [outer.name] : []),
  ];
  const source = addressField(family, "source");
  return devices.map((device) =>
    drop(GUARD_REASONS.sourceNotOwn, link("out", device), equals(source, own.toBytes()))
  );
}

function forwardChain(input: FamilyInput): DesiredChain {
  const { family, carrier, isDirect, subnet, link: outer, config } = input;
  const source = addressField(family, "source");
  const destination = addressField(family, "destination");
  const range = ofFamily(config.ranges, family)!;
  const last = IpPrefix.of(range.subnetMax, range.subnetLength).last.toBytes();
  const { sourceNotOwn, destinationNotOurs, outsideTunnel } = GUARD_REASONS;
  const forged = () =>
    drop(
      sourceNotOwn,
      outerLink("out", outer),
      inPrefix(source, subnet, false),
      { type: "range", field: source, first: range.subnetMin.toBytes(), last },
      outerLink("in", outer, false),
      ...(carrier === null ? [] : [link("in", carrier.device, false)]),
    );
  // The usual packet between containers and the tunnel meets only this rule.
  const isInside = accept(
    outerLink("in", outer, false),
    inPrefix(destination, range.network),
  );
  const rules = [
    ...asHostRules(input),
    ...otherLinkRules(input),
    // Containers that send from an address of another node's. What leaves by a tunnel its far end
    // checks, which costs nothing more there.
    ...(isDirect ? [forged()] : [isInside]),
    ...(carrier === null ? [] : [
      // A tunnel inside the overlay may have the same port: its packets leave by ours.
      jump(
        FORWARDED_CHAIN,
        // Whatever its VNI: one packet may hold many datagrams (UDP GSO), and a rule sees only the
        // first one's.
        ...outerMatches(family, carrier),
        link("out", carrier.device, false),
        inPrefix(destination, range.network, false),
      ),
    ]),
    ...(isDirect
      ? [
        jump(DIRECT_CHAIN, ...fromRange(input)),
        drop(destinationNotOurs, ...fromRange(input), inPrefix(destination, subnet, false)),
      ]
      : [
        drop(
          outsideTunnel,
          inPrefix(destination, subnet),
          outerLink("in", outer),
          outerLink("out", outer, false),
          { type: "range", field: source, first: range.subnetMin.toBytes(), last },
        ),
      ]),
  ];
  return { name: "forward", hook: "filter forward", rules };
}

const USERS_CHAIN = "users";

/**
 * Marks packets that users other than root send into tunnels of the kernel, and drops those that
 * bypass ours. Whatever their VNI: one packet may hold many datagrams (UDP GSO), and a rule sees
 * only the first one's.
 */
function tunnelUserRules({ family, link: outer }: FamilyInput, carrier: Carrier): DesiredRule[] {
  const isKernel = isKernels(carrier);
  const mark = (...matches: FirewallMatch[]): DesiredRule => ({
    matches,
    verdict: { type: "mark", bits: GUARD_MARK },
  });
  return [
    ...(isKernel ? [mark(link("out", carrier.device))] : []),
    drop(
      GUARD_REASONS.localUser,
      ...outerMatches(family, carrier),
      ...(isKernel ? [{ type: "mark", value: 0, mask: GUARD_MARK } as const] : []),
      // A node has other addresses beside its published one. Protocols of other tunnels of this
      // host cannot be told from ipip's.
      ...(carrier.type === "ipip"
        ? [isHost(family, "destination")]
        : [link("out", LOOPBACK_LINK, false)]),
    ),
    // Other tunnels of this host keep the sender's user, as ours does, and may have the same port.
    // What enters them leaves by another interface first.
    ...(carrier.type === "vxlan" ? [mark(outerLink("out", outer, false))] : []),
  ];
}

/** IPv6 lets every user send from any address: such packets would count as a container's. */
function userSourceRules(input: FamilyInput): DesiredRule[] {
  const { family, carrier, isDirect, link: outer, config, subnet, hasFib } = input;
  if (family === 4) return [];
  const source = addressField(family, "source");
  const { network } = ofFamily(config.ranges, family)!;
  const notOwn: FirewallMatch = hasFib
    ? { type: "local_source", isLocal: false }
    : inPrefix(source, subnet, false);
  const ways = [
    ...(carrier === null ? [] : [link("out", carrier.device)]),
    ...(isDirect ? [outerLink("out", outer)] : []),
  ];
  return ways.map((way) =>
    drop(GUARD_REASONS.sourceNotOwn, way, inPrefix(source, network), notOwn)
  );
}

/** What holds for packets of local users who are not root, and not the user of this process. */
function usersChains(input: FamilyInput): DesiredChain[] {
  const { carrier, uid } = input;
  const rules = [
    ...userSourceRules(input),
    ...(carrier === null ? [] : tunnelUserRules(input, carrier)),
  ];
  if (rules.length === 0) return [];
  const others = uid === 0 ? [] : [leave({ type: "user", uid, isEqual: true })];
  return [{ name: USERS_CHAIN, hook: null, rules: [...others, ...rules] }, outputChain()];
}

/** Packets that no local socket sent are no match for a user, and pass at the first look. */
function outputChain(): DesiredChain {
  const rules = [jump(USERS_CHAIN, { type: "user", uid: 0, isEqual: false })];
  return { name: "output", hook: "filter output", rules };
}

/**
 * Rules for the ipip device, to which the kernel gives the packets of all senders without another
 * tunnel.
 */
function ipipChain({ family, subnet }: FamilyInput, device: string): DesiredChain {
  const destination = addressField(family, "destination");
  const { destinationNotOurs } = GUARD_REASONS;
  const rules = [
    drop(destinationNotOurs, link("in", device), inPrefix(destination, subnet, false)),
  ];
  return { name: "prerouting", hook: "filter prerouting", rules };
}

function chainsOf(input: FamilyInput): DesiredChain[] {
  const { carrier, isDirect } = input;
  return [
    ...(isKernels(carrier) ? [tunnelChain(input, carrier)] : []),
    ...(carrier === null ? [] : [forwardedChain(input)]),
    ...(isDirect ? [directChain(input), directInputChain(input)] : []),
    inputChain(input),
    forwardChain(input),
    ...usersChains(input),
    ...(carrier?.type === "ipip" ? [ipipChain(input, carrier.device)] : []),
  ];
}

function carrierOf({ tunnels, links }: GuardInput, family: Family): Carrier | null {
  const tunnel = ofFamily(tunnels, family);
  if (tunnel !== undefined) {
    return { type: "userspace", device: tunnel.device, port: tunnel.port };
  }
  for (const one of links) {
    if (one.kind === "tun" || one.local.family !== family) continue;
    const { name: device } = one;
    if (one.kind === "ipip") return { type: "ipip", device };
    return { type: "vxlan", device, port: one.port, vni: one.vni };
  }
  return null;
}

/** The guard's tables, one for each family whose packets this node carries. */
export function planGuard(input: GuardInput): DesiredTable[] {
  return input.config.ranges.flatMap(({ family }) => {
    const subnet = ofFamily(input.lease.subnets, family);
    const carrier = carrierOf(input, family);
    if (subnet === undefined || (carrier === null && !input.isDirect)) return [];
    const one = { ...input, family, subnet, carrier, hasFib: true };
    const chains = chainsOf(one);
    const table = { family, name: GUARD_TABLE, sets: setsOf(one), chains } as const;
    return [{ ...table, plainerChains: chainsOf({ ...one, hasFib: false }) }];
  });
}

/**
 * All firewall tables of a host, with the rules of the tables' forward chains behind those of the
 * guard's: each chain at the hook costs every forwarded packet as much as several rules do.
 */
export function joinForwardChains(
  tables: readonly DesiredTable[],
  guard: readonly DesiredTable[],
): DesiredTable[] {
  const isForward = ({ hook }: DesiredChain) => hook === "filter forward";
  const isGuarded = ({ family }: DesiredTable) => guard.some((one) => one.family === family);
  const others = tables.flatMap((table) => {
    if (!isGuarded(table)) return [table];
    const chains = table.chains.filter((chain) => !isForward(chain));
    return chains.length === 0 ? [] : [{ ...table, chains }];
  });
  const guards = guard.map((table) => {
    const rules = ofFamily(tables, table.family)?.chains.find(isForward)?.rules ?? [];
    const joined = (chains: readonly DesiredChain[]) =>
      chains.map((chain) =>
        isForward(chain) ? { ...chain, rules: [...chain.rules, ...rules] } : chain
      );
    const { chains, plainerChains } = table;
    return {
      ...table,
      chains: joined(chains),
      ...(plainerChains === undefined ? {} : { plainerChains: joined(plainerChains) }),
    };
  });
  return [...others, ...guards];
}
