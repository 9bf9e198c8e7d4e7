/** The sets of peers that the guard's rules look up. */
import {
  type DesiredSet,
  type FirewallMatch,
  type KeyPart,
  type PacketField,
  setElement,
} from "../../kernel/firewall_state.ts";
import { bitsOf, type Family, type IpAddress, ofFamily } from "../../net/ip.ts";
import type { PeerEntry } from "../backend.ts";
import { alignedParts, bytesOf, innerField } from "./inner_field.ts";
import { type FamilyInput, isKernels, type KernelCarrier } from "./input.ts";
import { quotedDestination } from "./path_mtu.ts";
import { addressField, whole } from "./rule.ts";

const KEY_TYPES = { 4: "ipv4_addr", 6: "ipv6_addr" } as const;

/** The public addresses of all nodes except for our own. */
const HOSTS = "hosts";

/** The same, for comparison with the packet that an ICMP message quotes. */
export const QUOTED_HOSTS = "quoted_hosts";

export function isHost(
  family: Family,
  side: "source" | "destination",
  isMember = true,
): FirewallMatch {
  return { type: "member", set: HOSTS, key: [whole(addressField(family, side))], isMember };
}

const addressElements = new WeakMap<IpAddress, string>();

/**
 * The element of a set for this address. Made once for each address, because there may be thousands
 * of peers.
 */
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
 * The element of a peer in a set of this layout. `make` returns its key; it is called once for each
 * peer and layout.
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
export function lengthsOf({ family, config, served }: FamilyInput): number[] {
  const usual = ofFamily(config.ranges, family)!.subnetLength;
  const lengths = served.filter(({ subnet }) => subnet.family === family)
    .map(({ subnet }) => subnet.length);
  return [...new Set([usual, ...lengths.sort((a, b) => b - a)])];
}

/** The elements that a set must have for the peers whose subnets have this length. */
function peersOf({ family, served }: FamilyInput, length: number): readonly PeerEntry[] {
  return served.filter(({ subnet }) => subnet.family === family && subnet.length === length);
}

/**
 * The lengths of the inner sources that the kernel's tunnel accepts: of the peers' subnets, and of
 * single addresses. A host answers from its own address what containers sent to it there, and that
 * is not masqueraded everywhere.
 */
export function sourceLengthsOf(input: FamilyInput): number[] {
  // With `trustsUnderlay` packets may come from any address, so the host is not known.
  if (input.trustsUnderlay) return lengthsOf(input);
  return [...new Set([...lengthsOf(input), bitsOf(input.family)])];
}

/** Which inner subnet comes from which address: one set for each length of subnets. */
const sourcesName = (length: number) => `sources_${length}`;

/** The same from any address. */
const innerName = (length: number) => `inner_${length}`;

/** The subnets of peers whose packets come without a tunnel, likewise. */
export const subnetsName = (length: number) => `subnets_${length}`;

/** The set of the accepted inner sources, and the key to look up there. */
export function sourcesOf(
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

export function setsOf(input: FamilyInput): DesiredSet[] {
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
