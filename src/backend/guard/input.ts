/** What the guard is planned from, and the names of what it counts. */
import type { NetworkConfig } from "../../config/network_config.ts";
import type { OuterLink } from "../../kernel/outer_link.ts";
import type { DesiredLink } from "../../kernel/state.ts";
import type { Lease } from "../../lease/lease.ts";
import { type Family, IpPrefix } from "../../net/ip.ts";
import type { PeerEntry, Tunnel } from "../backend.ts";

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

export interface GuardInput {
  readonly config: NetworkConfig;
  readonly link: OuterLink;
  readonly lease: Pick<Lease, "subnets">;
  /** Every lease of the network except for our own. */
  readonly peers: readonly Lease[];
  /** The ones to which packets are carried. */
  readonly served: readonly PeerEntry[];
  /** In user space. */
  readonly tunnels: readonly Tunnel[];
  /** The kernel's devices are among them. */
  readonly links: readonly DesiredLink[];
  /** Indexes of the links, by name, as far as they are there already. */
  readonly linkIndexes: ReadonlyMap<string, number>;
  /** Whether packets between nodes may cross the outer link as they are. */
  readonly isDirect: boolean;
  /** As in `RunOptions`, for the kernel's tunnels. */
  readonly trustsUnderlay: boolean;
  readonly allowsOutsideSources: boolean;
  /** The user that this process runs as. */
  readonly uid: number;
}

/** What carries the packets of one family. */
export type KernelCarrier =
  | {
    readonly type: "vxlan";
    readonly device: string;
    readonly port: number;
    readonly vni: number;
  }
  | { readonly type: "ipip"; readonly device: string };

export type Carrier =
  | KernelCarrier
  | { readonly type: "userspace"; readonly device: string; readonly port: number };

/** The facts of one family. */
export interface FamilyInput extends GuardInput {
  /** Whether rules may ask by which interface an address is reached. */
  readonly hasFib: boolean;
  readonly family: Family;
  readonly subnet: IpPrefix;
  /** null: packets are not encapsulated. */
  readonly carrier: Carrier | null;
}

export function isKernels(carrier: Carrier | null): carrier is KernelCarrier {
  return carrier !== null && carrier.type !== "userspace";
}

/** Of IPv4 the highest address of a subnet is its broadcast address (RFC 3021 for the others). */
export function hasBroadcast({ family, subnet }: FamilyInput): boolean {
  return family === 4 && subnet.length <= 30;
}
