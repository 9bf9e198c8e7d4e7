/** Draws the status snapshot from the parts of a running agent. Pure. */
import type { Tunnel } from "../backend/backend.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import { isAwaitingHost, type Lease, leaseKey } from "../lease/lease.ts";
import type { StoreState } from "../store/store.ts";
import { VERSION } from "../version.ts";
import type { DataPath } from "./data_path.ts";
import { readinessOf } from "./readiness.ts";
import type { ShownProgress } from "./progress.ts";
import type { DeviceStatus, PeerStatus, Status, TunnelStatus } from "./status.ts";

/** What is at hand. */
export interface NodeParts extends ShownProgress {
  readonly started_ms: number;
  readonly link: OuterLink | null;
  readonly config: NetworkConfig | null;
  readonly lease: Lease | null;
  /** All three by this host's clock. */
  readonly expiry_ms: number | null;
  readonly renewal_ms: number | null;
  readonly lostSince_ms: number | null;
  readonly path: DataPath | null;
  /** Why the outer interface is not what it was, or hidden by the subnet; null: all is well. */
  readonly linkProblem: string | null;
  /** Who else publishes our lease; null: nobody. */
  readonly rivalProblem: string | null;
  /** Why the other hosts send to an address that we no longer use; null: they do not. */
  readonly addressProblem: string | null;
  /** Names the peers with another configuration, to which no packets pass; null: none. */
  readonly partedProblem: string | null;
  /** Why a new configuration is not obeyed; null: it is. The node works as before. */
  readonly configProblem: string | null;
  /** What is wrong with the files that the daemon keeps, one sentence each. */
  readonly stateProblems: readonly string[];
  readonly store: StoreState | null;
  readonly registry: Status["registry"];
}

/** With what takes work to find out. */
export interface SnapshotParts extends NodeParts {
  /** What else of the host is not as it should be, one sentence each. */
  readonly hostProblems: readonly string[];
  /** Facts that an operator should know and that are no problems, one sentence each. */
  readonly notices: readonly string[];
  /** Every lease but our own, in the order of the subnets. */
  readonly peers: readonly Lease[];
  readonly listeners: Status["listeners"];
}

const texts = (values: readonly { toString(): string }[]): string[] => values.map(String);

function tunnelStatus({ encapsulation, ...tunnel }: Tunnel): TunnelStatus {
  const isVxlan = encapsulation.type === "vxlan";
  return {
    ...tunnel,
    vni: isVxlan ? encapsulation.vni : null,
    vtepMac: isVxlan ? encapsulation.vtepMac.toString() : null,
  };
}

function deviceStatus(device: DataPath["devices"][number]): DeviceStatus {
  const { name, kind, mtu_bytes } = device;
  const isVxlan = device.kind === "vxlan";
  return {
    name,
    kind,
    vni: isVxlan ? device.vni : null,
    vtepMac: isVxlan ? device.macAddress.toString() : null,
    port: isVxlan ? device.port : null,
    mtu_bytes,
  };
}

function peerStatus(peer: Lease, path: DataPath | null): PeerStatus {
  const key = leaseKey(peer.subnets);
  const counters = path?.peer(key) ?? null;
  return {
    key,
    subnets: texts(peer.subnets),
    publicAddresses: texts(peer.publicAddresses),
    backendType: peer.backendType,
    ...(isAwaitingHost(peer) ? { awaitsHost: true } : {}),
    sentPackets: counters?.sentPackets ?? 0,
    sentBytes: counters?.sentBytes ?? 0,
    receivedPackets: counters?.receivedPackets ?? 0,
    receivedBytes: counters?.receivedBytes ?? 0,
    lastHeard_ms: counters?.lastHeard_ms ?? null,
    pathMtu_bytes: counters?.pathMtu_bytes ?? null,
  };
}

export function leaseStatus(parts: NodeParts): Status["lease"] {
  const { lease, expiry_ms, renewal_ms, lostSince_ms } = parts;
  return lease && { subnets: texts(lease.subnets), expiry_ms, renewal_ms, lostSince_ms };
}

/** `now_ms` is since 1970. */
export function snapshot(parts: SnapshotParts, now_ms: number): Status {
  const { link, config, path } = parts;
  return {
    version: VERSION,
    pid: process.pid,
    now_ms,
    started_ms: parts.started_ms,
    uptime_ms: now_ms - parts.started_ms,
    phase: parts.phase,
    ready: readinessOf(parts, now_ms).ready,
    waitingFor: parts.waitingFor,
    waitingSince_ms: parts.waitingSince_ms,
    interface: link && {
      name: link.name,
      mtu_bytes: link.mtu_bytes,
      addresses: texts(link.addresses),
      publicAddresses: texts(link.publicAddresses),
    },
    network: texts(config?.ranges.map((range) => range.network) ?? []),
    lease: leaseStatus(parts),
    backend: config && path && {
      type: config.backend.type,
      mtu_bytes: path.mtu_bytes,
      ...path.shownOptions,
      tunnels: path.tunnels.map(tunnelStatus),
      devices: path.devices.map(deviceStatus),
      peerCount: path.peerCount,
    },
    peers: parts.peers.map((peer) => peerStatus(peer, path)),
    problems: [
      ...[
        parts.linkProblem,
        parts.rivalProblem,
        parts.addressProblem,
        parts.partedProblem,
        parts.configProblem,
      ]
        .filter((problem) => problem !== null),
      ...parts.stateProblems,
      ...parts.hostProblems,
      ...(path?.problems ?? []),
    ],
    notices: [...parts.notices, ...(path?.notices(now_ms) ?? [])],
    skippedPeers: path?.skipped ?? [],
    store: parts.store,
    dataPlane: path?.status() ?? null,
    guard: path?.guard ?? null,
    listeners: parts.listeners,
    registry: parts.registry,
  };
}
