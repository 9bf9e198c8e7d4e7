/**
 * The contract of a backend: pure functions from leases and the outer link to desired state. No
 * backend talks to the kernel or keeps a timer.
 */
import type { KernelState } from "../kernel/state.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import type { Lease, LeaseAttributes } from "../lease/lease.ts";
import type { IpAddress, IpPrefix } from "../net/ip.ts";

/** One peer of a userspace data plane: packets to `subnet` go to `address`:`port` over UDP. */
export interface ForwardingEntry {
  /** The peer's lease key. */
  readonly key: string;
  readonly subnet: IpPrefix;
  readonly address: IpAddress;
  readonly port: number;
}

/** A peer that cannot be served, and why; all others are. */
export interface SkippedPeer {
  readonly key: string;
  readonly reason: string;
}

export interface PlanInput {
  readonly config: NetworkConfig;
  readonly link: OuterLink;
  readonly lease: Lease;
  /** Every lease of the network but our own. */
  readonly peers: readonly Lease[];
}

export interface Plan {
  readonly kernel: KernelState;
  /** In the order of the subnets; no two overlap. Empty where the kernel forwards. */
  readonly forwarding: readonly ForwardingEntry[];
  readonly skipped: readonly SkippedPeer[];
}

/** The userspace data plane that a backend's packets go through. */
export interface Tunnel {
  readonly device: string;
  /** UDP port that we listen on, and that our peers do. */
  readonly port: number;
}

export interface Backend {
  readonly type: string;
  /** Throws if this backend cannot do what the configuration asks for; null: over any link. */
  check(config: NetworkConfig, link: OuterLink | null): void;
  /** What to forward in user space; null where the kernel does it. */
  tunnel(config: NetworkConfig): Tunnel | null;
  /** Largest inner IP packet in bytes: the outer link's MTU less what encapsulation adds. */
  mtu_bytes(link: OuterLink): number;
  /** What this node publishes. */
  attributes(link: OuterLink): LeaseAttributes;
  plan(input: PlanInput): Plan;
}
