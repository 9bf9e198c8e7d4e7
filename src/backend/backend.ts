/**
 * The contract of a backend: pure functions from leases and the outer link to desired state. No
 * backend talks to the kernel or keeps a timer.
 */
import type { DesiredLink, KernelState } from "../kernel/state.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { Surrounding } from "../kernel/surroundings.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import type { Lease, LeaseAttributes } from "../lease/lease.ts";
import type { Family, IpAddress, IpPrefix } from "../net/ip.ts";
import type { MacAddress } from "../net/mac_address.ts";

/** Where a peer's subnet of one family is reached. */
export interface PeerEntry {
  /** The peer's lease key. */
  readonly key: string;
  readonly subnet: IpPrefix;
  readonly address: IpAddress;
}

/** One peer of a userspace data plane: packets to `subnet` go to `address`:`port` over UDP. */
export interface ForwardingEntry extends PeerEntry {
  readonly port: number;
  /** The peer's VTEP, where packets are encapsulated in frames; else null. */
  readonly vtepMac: MacAddress | null;
}

/** One peer for the user's commands, identified by its IPv4 subnet, or by its only subnet. */
export interface CommandPeer extends PeerEntry {
  /** Its IPv6 subnet, where that is not the only one; null: it has none. */
  readonly ipv6: PeerEntry | null;
  /** What its PreStartupCommand printed; empty where it has none. */
  readonly data: string;
}

/** What backend `extension` has run, by `sh -c`; null: nothing. */
export interface ExtensionCommands {
  readonly preStartup: string | null;
  readonly postStartup: string | null;
  readonly shutdown: string | null;
  readonly subnetAdd: string | null;
  readonly subnetRemove: string | null;
}

/** What of the options the status shows. */
export interface ShownOptions {
  /** Of backend vxlan; else null. */
  readonly generation: number | null;
  readonly isDirectRouting: boolean;
}

/** What lies between the UDP header and an inner packet. */
export type Encapsulation =
  | { readonly type: "none" }
  | { readonly type: "vxlan"; readonly vni: number; readonly vtepMac: MacAddress };

/** The addresses of our own VTEPs, by the family of the tunnel; the same after a restart. */
export type VtepMacs = Readonly<Record<Family, MacAddress>>;

/** A peer that cannot be served, and why; all others are. */
export interface SkippedPeer {
  readonly key: string;
  readonly reason: string;
}

export interface PlanInput {
  readonly config: NetworkConfig;
  readonly link: OuterLink;
  readonly vtepMacs: VtepMacs;
  readonly lease: Lease;
  /** Every lease of the network but our own. */
  readonly peers: readonly Lease[];
  /** What a peer's route must not cut off; not given: nothing. */
  readonly surroundings?: readonly Surrounding[];
}

export interface Plan {
  readonly kernel: KernelState;
  /** Peers to which packets are carried; empty if the user's commands do that. */
  readonly served: readonly PeerEntry[];
  /** In the order of the subnets; no two overlap. Empty where the kernel forwards. */
  readonly forwarding: readonly ForwardingEntry[];
  /** Whom the user's commands see to, in the order of the subnets; none without commands. */
  readonly commandPeers?: readonly CommandPeer[];
  readonly skipped: readonly SkippedPeer[];
}

/** One userspace tunnel that a backend's packets go through, of one family inside and outside. */
export interface Tunnel {
  readonly family: Family;
  readonly device: string;
  /** UDP port that we listen on, and that our peers do. */
  readonly port: number;
  /** Largest inner IP packet in bytes. */
  readonly mtu_bytes: number;
  readonly encapsulation: Encapsulation;
}

export interface Backend {
  /** As the network configuration names it. */
  readonly type: string;
  /** What of `Backend` it, or flannel's of the same name, reads beside `Type`. */
  readonly optionNames: readonly string[];
  /** It has no part in where packets go. */
  readonly carriesNothing?: true;
  /**
   * Whether one route sends the whole network into a tunnel; else each peer's subnet has a route of
   * its own. Left out: it has not.
   */
  routesWholeNetwork?(config: NetworkConfig): boolean;
  /** Whether packets between nodes may cross the outer link as they are; not given: never. */
  isDirect?(config: NetworkConfig): boolean;
  /** Throws if this backend cannot do what the configuration asks for; null: over any link. */
  check(config: NetworkConfig, link: OuterLink | null): void;
  /** What to forward in user space, at most one a family; empty where the kernel does it. */
  tunnels(config: NetworkConfig, link: OuterLink, vtepMacs: VtepMacs): readonly Tunnel[];
  /** The devices that the kernel is to make, as in every plan; left out: there are none. */
  devices?(config: NetworkConfig, link: OuterLink, vtepMacs: VtepMacs): readonly DesiredLink[];
  /** Largest inner IP packet in bytes that every family carries. */
  mtu_bytes(config: NetworkConfig, link: OuterLink): number;
  /** What this node publishes. */
  attributes(config: NetworkConfig, link: OuterLink, vtepMacs: VtepMacs): LeaseAttributes;
  /** The user's commands, of a backend that has some. */
  commands?(config: NetworkConfig): ExtensionCommands;
  /** Left out by a backend that has nothing to show. */
  shownOptions?(config: NetworkConfig): ShownOptions;
  plan(input: PlanInput): Plan;
}
