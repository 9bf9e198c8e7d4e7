/** The one snapshot from which the API, the CLI and whatever shows a node's state are drawn. */
import { DROP_REASONS } from "../dataplane/counters.ts";
import type { StoreState } from "../store/store.ts";

/**
 * Drop reasons that are no fault: kernels and containers send such packets to announce themselves.
 */
export const HARMLESS_DROPS: ReadonlySet<string> = new Set(
  DROP_REASONS.filter(({ isHarmless }) => isHarmless).map(({ name }) => name),
);

/** Where start-up has got to; "ready" once it is through and subnet.env is written. */
export type Phase =
  | "starting"
  | "waiting_for_store"
  | "waiting_for_config"
  | "waiting_for_lease"
  | "ready"
  | "stopping";

/** Texts of addresses and prefixes; times in ms since 1970; sizes in bytes. */
export interface Status {
  readonly version: string;
  readonly pid: number;
  /** When this status was drawn. All its times are by the same clock, as it is set now. */
  readonly now_ms: number;
  readonly started_ms: number;
  /** Also right after the time of day was set, and with the machine's sleep. */
  readonly uptime_ms: number;
  readonly phase: Phase;
  /** As `/readyz` has it: it has started, and nothing is in the way of its work. */
  readonly ready: boolean;
  /** What it waits for, in one sentence; null once it has started. */
  readonly waitingFor: string | null;
  /** Since when it waits, for one thing or another; null if it does not. */
  readonly waitingSince_ms: number | null;
  readonly interface: {
    readonly name: string;
    readonly mtu_bytes: number;
    readonly addresses: readonly string[];
    readonly publicAddresses: readonly string[];
  } | null;
  readonly network: readonly string[];
  readonly lease: {
    readonly subnets: readonly string[];
    readonly expiry_ms: number | null;
    readonly renewal_ms: number | null;
    /** Since when the store says that it is not ours; null: it is ours. */
    readonly lostSince_ms: number | null;
  } | null;
  readonly backend: {
    readonly type: string;
    /** Of a packet that every family carries. */
    readonly mtu_bytes: number;
    /** Generation of vxlan in the kernel; else null. */
    readonly generation: number | null;
    readonly isDirectRouting: boolean;
    readonly tunnels: readonly TunnelStatus[];
    readonly devices: readonly DeviceStatus[];
    /** How many peers packets are carried to, in the kernel or in user space. */
    readonly peerCount: number;
  } | null;
  readonly peers: readonly PeerStatus[];
  /** What is not as it should be, one sentence each; what can be mended is tried again. */
  readonly problems: readonly string[];
  /** Facts that an operator should know and that are no problems, one sentence each. */
  readonly notices: readonly string[];
  readonly skippedPeers: readonly { readonly key: string; readonly reason: string }[];
  readonly store: StoreState | null;
  readonly dataPlane: DataPlaneStatus | null;
  /** What keeps others out of the tunnel; null: there is no tunnel, or nothing to guard. */
  readonly guard: GuardStatus | null;
  readonly listeners: readonly ListenerStatus[];
  readonly registry: { readonly listen: string; readonly fingerprint: string } | null;
}

/** A listener of this host's, and how full it is; counts are since it began to listen. */
export interface ListenerStatus {
  readonly name: "socket" | "api" | "health" | "registry";
  /** A path, a URL, or ADDRESS:PORT. */
  readonly location: string;
  readonly connectionCount: number;
  readonly connectionCountMax: number;
  /** Connections that were closed to make room for others. */
  readonly shedCount: number;
  /** Connections that were closed at once for lack of room. */
  readonly refusedCount: number;
  /** Requests that were refused for lack of a valid token. */
  readonly unauthorizedCount: number;
}

/** One userspace tunnel; there is one a family at most. */
export interface TunnelStatus {
  readonly family: 4 | 6;
  readonly device: string;
  readonly port: number;
  readonly mtu_bytes: number;
  /** Both null without VXLAN. */
  readonly vni: number | null;
  readonly vtepMac: string | null;
}

/** One device of ours that the kernel forwards through. */
export interface DeviceStatus {
  readonly name: string;
  readonly kind: "vxlan" | "ipip";
  /** The next three of vxlan alone; else null. */
  readonly vni: number | null;
  readonly vtepMac: string | null;
  readonly port: number | null;
  readonly mtu_bytes: number;
}

export interface PeerStatus {
  readonly key: string;
  readonly subnets: readonly string[];
  readonly publicAddresses: readonly string[];
  readonly backendType: string;
  /** Only there for a reservation whose host has not come yet: no packets are carried to it. */
  readonly awaitsHost?: true;
  readonly sentPackets: number;
  readonly sentBytes: number;
  readonly receivedPackets: number;
  readonly receivedBytes: number;
  /** When a packet last came from it; null if none has. */
  readonly lastHeard_ms: number | null;
  /** Of the largest inner packet, where the path to it carries less than the tunnel; else null. */
  readonly pathMtu_bytes: number | null;
}

export interface GuardStatus {
  /** `missing`: this host cannot have it; a notice says why. */
  readonly state: "on" | "off" | "missing";
  /** Packets dropped since the rules were put in place, by reason, also those at 0. */
  readonly drops: Readonly<Record<string, number>>;
}

export interface DataPlaneStatus {
  readonly running: boolean;
  /** How often the loops were started anew after a failure. */
  readonly restartCount: number;
  readonly sentPackets: number;
  readonly sentBytes: number;
  readonly receivedPackets: number;
  readonly receivedBytes: number;
  /** Packets dropped, by reason; every reason is listed, also those at 0. */
  readonly drops: Readonly<Record<string, number>>;
  readonly peerCount: number;
  readonly peerCountMax: number;
  /** The kernel's offloads in use, by the names of `--offload`. */
  readonly offloads: readonly string[];
  /** Queues of each tunnel's device, each with a pair of loops (`--workers`). */
  readonly queueCount: number;
  /** Datagrams are accepted from any outer address (`--trust-underlay`). */
  readonly trustsUnderlay: boolean;
  /** Packets may come from outside the network (`--allow-outside-sources`). */
  readonly allowsOutsideSources: boolean;
  /**
   * Outer addresses whose datagrams were refused because no peer has them; at most 16 for each pair
   * of loops. `peerKey`: the peer whose subnet held the inner source of the last one, if any.
   */
  readonly refusedSources: readonly {
    readonly address: string;
    readonly datagrams: number;
    readonly last_ms: number;
    readonly peerKey: string | null;
  }[];
}
