/** What an operator should know of a userspace tunnel's peers, one sentence or two each. */
import type { PeerEntry, Tunnel } from "../backend/backend.ts";
import { IpAddress } from "../net/ip.ts";
import type { SilentPeer } from "./silent_peers.ts";
import type { DataPlaneStatus } from "./status.ts";

/** Older refusals are no longer news. */
const REFUSED_RECENTLY_MS = 10 * 60_000;
/** A few stray datagrams are no reason for a notice. */
const REFUSED_DATAGRAMS_MIN = 3;
/** Of each kind: strangers must not fill the status. */
const NOTICE_COUNT_MAX = 5;

export interface TunnelFacts {
  readonly status: Pick<DataPlaneStatus, "refusedSources">;
  readonly peers: readonly PeerEntry[];
  readonly silent: readonly SilentPeer[];
  readonly tunnels: readonly Tunnel[];
}

export interface TunnelNotice {
  /** Stays the same while the notice is about the same fault. */
  readonly id: string;
  readonly text: string;
}

function bounded(notices: readonly TunnelNotice[], what: string): readonly TunnelNotice[] {
  const left = notices.length - NOTICE_COUNT_MAX;
  if (left <= 0) return notices;
  return [...notices.slice(0, NOTICE_COUNT_MAX), { id: what, text: `${left} more ${what}` }];
}

/** Peers whose packets come from another address than the published one; `now_ms` since 1970. */
function refusedNotices({ status, peers }: TunnelFacts, now_ms: number): readonly TunnelNotice[] {
  if (status.refusedSources.length === 0) return [];
  // A peer of two families publishes an address of each, and its datagrams use both.
  const published = new Map(
    peers.map(({ key, address }) => [`${key} ${address.family}`, String(address)]),
  );
  const bySource = new Map<string, string>();
  for (const { address, datagrams, last_ms, peerKey } of status.refusedSources) {
    const own = published.get(`${peerKey} ${IpAddress.parse(address).family}`);
    const isNews = now_ms - last_ms < REFUSED_RECENTLY_MS && datagrams >= REFUSED_DATAGRAMS_MIN;
    if (own === undefined || !isNews) continue;
    bySource.set(
      `${peerKey} ${address}`,
      `datagrams of peer ${peerKey} come from ${address} and are dropped ` +
        `(ingress_source_not_peer), because the peer's published address is ${own}. ` +
        `If ${address} is that host's own address, start it with --public-ip=${address}. ` +
        "If a router in between translates addresses and you trust the underlay, " +
        "start this host with --trust-underlay.",
    );
  }
  const notices = [...bySource].map(([id, text]) => ({ id, text }));
  return bounded(notices, "peers send from addresses that they did not publish");
}

function silentNotices({ silent, tunnels }: TunnelFacts): readonly TunnelNotice[] {
  const ports = [...new Set(tunnels.map(({ port }) => port))].join(" and ");
  const notices = silent.map(({ key, address, sentPackets, silentFor_ms }) => ({
    id: `silent ${key}`,
    text:
      `${sentPackets} packets were sent to peer ${key} (${address}) and nothing came back for ` +
      `${
        Math.floor(silentFor_ms / 1000)
      } s. Check \`selvage status\` there for dropped packets, and ` +
      `that firewalls let UDP port ${ports} pass both ways.`,
  }));
  return bounded(notices, "peers that packets are sent to are silent");
}

/** `now_ms` is since 1970. */
export function tunnelNotices(facts: TunnelFacts, now_ms: number): readonly TunnelNotice[] {
  return [...refusedNotices(facts, now_ms), ...silentNotices(facts)];
}
