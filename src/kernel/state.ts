/** Desired kernel state: what a backend's plan asks for and the reconciler brings about. */
import type { Family, IpAddress, IpPrefix } from "../net/ip.ts";
import type { MacAddress } from "../net/mac_address.ts";

/**
 * Marks our routes in the kernel's tables (`struct rtmsg.rtm_protocol`); 83 is in nobody's list in
 * `rtnetlink.h` or iproute2's `rt_protos`. A route without it is never ours.
 */
export const RTPROT_SELVAGE = 83;

interface NamedLink {
  /** Ours: `isOwnLinkName` holds for it. */
  readonly name: string;
  /** Largest inner IP packet, in bytes, headers included. */
  readonly mtu_bytes: number;
}

/** A TUN device, which is made with the packet loops and there as long as its file is open. */
export interface DesiredTun extends NamedLink {
  readonly kind: "tun";
  /** Of the packets that it carries. */
  readonly family: Family;
}

export interface DesiredVxlan extends NamedLink {
  readonly kind: "vxlan";
  readonly vni: number;
  readonly port: number;
  readonly macAddress: MacAddress;
  /** The outer interface, and our address there. */
  readonly outerLinkIndex: number;
  readonly local: IpAddress;
  readonly isLearning: boolean;
  readonly isGbp: boolean;
  /** Whether the device answers ARP requests itself, from its neighbours. */
  readonly isProxy: boolean;
  /** Whether the kernel asks for FDB entries that it misses. */
  readonly isL2Miss: boolean;
}

export interface DesiredIpip extends NamedLink {
  readonly kind: "ipip";
  readonly outerLinkIndex: number;
  readonly local: IpAddress;
}

/** A device that carries our name. */
export type DesiredLink = DesiredTun | DesiredVxlan | DesiredIpip;

export interface DesiredAddress {
  readonly linkName: string;
  readonly address: IpAddress;
  readonly prefixLength: number;
}

/** What is there for one peer: if it cannot be had, that peer alone is left out. */
interface ForPeer {
  /** Its lease key; null: it serves all. */
  readonly peerKey: string | null;
}

/** A permanent entry of a VXLAN device's neighbour table: the VTEP's MAC of an inner address. */
export interface DesiredNeighbour extends ForPeer {
  readonly linkName: string;
  readonly address: IpAddress;
  readonly macAddress: MacAddress;
}

/** A permanent entry of a VXLAN device's FDB: where the VTEP with this MAC is. */
export interface DesiredFdbEntry extends ForPeer {
  readonly linkName: string;
  readonly macAddress: MacAddress;
  readonly address: IpAddress;
}

export interface DesiredRoute extends ForPeer {
  readonly destination: IpPrefix;
  readonly linkName: string;
  /** null: the destination is on the link itself. */
  readonly gateway: IpAddress | null;
  /** Whether the gateway counts as on the link, whatever the link's prefixes. */
  readonly isOnLink: boolean;
}

/**
 * Packets to these addresses go nowhere, if no better route leads anywhere. It has a metric of its
 * own, the worst, so that a route of another's for just these addresses, as of a container bridge,
 * goes before it.
 */
export interface DesiredBlackhole {
  readonly destination: IpPrefix;
  /** Whether the sender gets an ICMP error; otherwise the packets are dropped silently. */
  readonly isAnswered: boolean;
}

/** A value under `/proc/sys`. */
export interface DesiredSysctl {
  /** Such as `net/ipv4/ip_forward`. */
  readonly path: string;
  readonly value: string;
  /** Whether it is ours to set; else that it differs is only told. */
  readonly isSet: boolean;
}

export interface MissPeer {
  readonly subnet: IpPrefix;
  readonly vtepMac: MacAddress;
  readonly address: IpAddress;
}

/**
 * The answers to the kernel's questions: the peers behind a VXLAN device whose neighbour entries
 * are made on demand and age. With `isFdbOnMiss` this is also true of their FDB entries.
 */
export interface MissTable {
  readonly linkName: string;
  readonly isFdbOnMiss: boolean;
  /** In the order of their subnets, of which no two overlap. */
  readonly peers: readonly MissPeer[];
}

export interface KernelState {
  readonly links: readonly DesiredLink[];
  readonly addresses: readonly DesiredAddress[];
  readonly neighbours: readonly DesiredNeighbour[];
  readonly fdb: readonly DesiredFdbEntry[];
  readonly routes: readonly DesiredRoute[];
  readonly blackholes: readonly DesiredBlackhole[];
  readonly sysctls: readonly DesiredSysctl[];
  readonly misses: readonly MissTable[];
}

export const NO_KERNEL_STATE: KernelState = {
  links: [],
  addresses: [],
  neighbours: [],
  fdb: [],
  routes: [],
  blackholes: [],
  sysctls: [],
  misses: [],
};

/** The name of backend udp's TUN device. */
export const UDP_DEVICE = "selvage0";
/** The name of backend ipip's device. */
export const IPIP_DEVICE = "selvage.ipip";
/** Those of vxlan's devices, in the kernel or in user space. */
const VXLAN_DEVICE = /^(selvage(-v6)?|selv[46])\.\d+$/;

/** Whether a device of ours may have this name. */
export function isOwnLinkName(name: string): boolean {
  return name === UDP_DEVICE || name === IPIP_DEVICE || VXLAN_DEVICE.test(name);
}

/**
 * Whether a link of this name and kind is one that a plan of ours had the reconciler make: the
 * kernel forwards through it, and it outlives us.
 */
export function isOwnDevice(name: string, kind: string | null): boolean {
  return (kind === "vxlan" || kind === "ipip") && isOwnLinkName(name);
}
