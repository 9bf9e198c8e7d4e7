/** The networks that a loop is tried in: how its lane is set up, and what its datagrams are. */
import type { ForwardingEntry } from "../../src/backend/backend.ts";
import type { Overlay } from "../../src/dataplane/lanes.ts";
import { type Family, IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { entry, PEERS } from "../wasm/scripted_io.ts";

export interface FuzzNetwork {
  readonly name: string;
  readonly family: Family;
  readonly overlay: Partial<Overlay>;
  readonly peers: readonly ForwardingEntry[];
  /** Bytes before the inner packet in a datagram. */
  readonly headerSize: number;
  /**
   * Whether the naive twin knows what comes of each packet; else only that each that leaves is
   * whole, and that the counters add up.
   */
  readonly isExact: boolean;
}

const VNI = 0x0a0b0c;
const OUR_MAC = MacAddress.parse("02:a0:a1:a2:a3:a4");
const PEER_MAC = MacAddress.parse("06:b0:b1:b2:b3:b4");
const VXLAN_BYTES = 22;
const ETHERTYPES: Readonly<Record<Family, number>> = { 4: 0x0800, 6: 0x86dd };
const ENCAPSULATION = { type: "vxlan", vni: VNI, vtepMac: OUR_MAC } as const;

const withVteps = (peers: readonly ForwardingEntry[]) =>
  peers.map((peer) => ({ ...peer, vtepMac: PEER_MAC }));

const NETWORK4 = { network: IpPrefix.parse("10.0.0.0/8") };

const UDP: FuzzNetwork = {
  name: "udp",
  family: 4,
  overlay: NETWORK4,
  peers: PEERS,
  headerSize: 0,
  isExact: true,
};

const VXLAN: FuzzNetwork = {
  name: "vxlan",
  family: 4,
  overlay: { ...NETWORK4, encapsulation: ENCAPSULATION, mtu_bytes: 1450 },
  peers: withVteps(PEERS),
  headerSize: VXLAN_BYTES,
  isExact: true,
};

const VXLAN6: FuzzNetwork = {
  name: "vxlan, IPv6",
  family: 6,
  overlay: {
    family: 6,
    subnet: IpPrefix.parse("fd00:0:0:1::/64"),
    outerAddress: IpAddress.parse("2001:db8::1"),
    network: IpPrefix.parse("fd00::/48"),
    encapsulation: ENCAPSULATION,
    mtu_bytes: 1430,
  },
  peers: withVteps([
    entry("fd00:0:0:2::/64", "2001:db8::2"),
    entry("fd00:0:0:3::/72", "2001:db8::3"),
  ]),
  headerSize: VXLAN_BYTES,
  isExact: false,
};

/** Paths carry less than assumed, and peers' kernels leave packets unfinished. */
const NARROW: FuzzNetwork = { ...VXLAN, name: "vxlan, narrow paths", isExact: false };

export const NETWORKS: readonly FuzzNetwork[] = [UDP, VXLAN, VXLAN6, NARROW];

/** The packet as a peer sends it to us. */
export function encapsulated(network: FuzzNetwork, packet: Uint8Array): Uint8Array {
  if (network.headerSize === 0) return packet;
  const bytes = new Uint8Array(VXLAN_BYTES + packet.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 8;
  view.setUint32(4, VNI * 256);
  bytes.set(OUR_MAC.toBytes(), 8);
  bytes.set(PEER_MAC.toBytes(), 14);
  view.setUint16(20, ETHERTYPES[network.family]);
  bytes.set(packet, VXLAN_BYTES);
  return bytes;
}

/** A frame's IPv4 packet without what it was padded with. */
function unpadded(bytes: Uint8Array): Uint8Array {
  if (bytes.length < 20) return bytes;
  const size = bytes[2]! * 256 + bytes[3]!;
  return size < 20 ? bytes : bytes.subarray(0, size);
}

/** The packet in a datagram to us; null: it is for another, or in none. */
export function received(network: FuzzNetwork, datagram: Uint8Array): Uint8Array | null {
  if (network.headerSize === 0) return datagram;
  if (datagram.length < VXLAN_BYTES || (datagram[0]! & 8) === 0) return null;
  const expected = encapsulated(network, new Uint8Array());
  // The flags but one and the reserved bytes mean nothing, and the sender's MAC neither.
  const isSame = (first: number, end: number) =>
    Buffer.compare(datagram.subarray(first, end), expected.subarray(first, end)) === 0;
  const isOurs = isSame(4, 7) && isSame(8, 14) && isSame(20, 22);
  return isOurs ? unpadded(datagram.subarray(VXLAN_BYTES)) : null;
}

/** The packet in a datagram to a peer. Throws if what is before it is wrong. */
export function sent(network: FuzzNetwork, datagram: Uint8Array): Uint8Array {
  if (network.headerSize === 0) return datagram;
  const expected = encapsulated(network, new Uint8Array());
  expected.set(PEER_MAC.toBytes(), 8);
  expected.set(OUR_MAC.toBytes(), 14);
  if (Buffer.compare(datagram.subarray(0, VXLAN_BYTES), expected) !== 0) {
    throw new Error("the encapsulation is wrong");
  }
  return datagram.subarray(VXLAN_BYTES);
}
