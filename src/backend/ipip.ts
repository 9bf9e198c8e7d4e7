/**
 * Backend `ipip`: IPv4 in IPv4 (RFC 2003) by one tunnel device of the kernel, which a route's
 * gateway tells the far end. Interoperates with flannel's backend of the same name.
 */
import type { NetworkConfig } from "../config/network_config.ts";
import { type OuterLink, reachesDirectly } from "../kernel/outer_link.ts";
import {
  type DesiredIpip,
  IPIP_DEVICE,
  type KernelState,
  NO_KERNEL_STATE,
} from "../kernel/state.ts";
import type { Lease } from "../lease/lease.ts";
import { ipHeaderBytes } from "../net/header_length.ts";
import { type Family, ofFamily } from "../net/ip.ts";
import type { Backend, PeerEntry, Plan, PlanInput } from "./backend.ts";
import { booleanOption } from "./backend_options.ts";
import { deviceAddress, directRoute } from "./desired.ts";
import { ipv4Mtu_bytes, requireIpv4Address, requireIpv4Network } from "./ipv4_alone.ts";
import { planPeers } from "./plan_peers.ts";
import { reachPeer } from "./reach_peer.ts";
import { publishedAddresses } from "./published_addresses.ts";

const IPIP_TYPE = "ipip";

function mtuOf(link: OuterLink): number {
  return ipv4Mtu_bytes(link, ipHeaderBytes(4));
}

/** Why this peer cannot be served, or its entry. */
function planPeer(peer: Lease, family: Family, input: PlanInput): PeerEntry | string {
  return reachPeer(peer, family, IPIP_TYPE, input);
}

function planDevice(link: OuterLink): DesiredIpip {
  return {
    kind: "ipip",
    name: IPIP_DEVICE,
    mtu_bytes: mtuOf(link),
    outerLinkIndex: link.index,
    local: ofFamily(link.addresses, 4)!,
  };
}

function planKernel(input: PlanInput, entries: readonly PeerEntry[]): KernelState {
  const { config, link, lease } = input;
  const isDirectRouting = booleanOption(config, "DirectRouting");
  return {
    ...NO_KERNEL_STATE,
    links: [planDevice(link)],
    addresses: [deviceAddress(lease, 4, IPIP_DEVICE)],
    routes: entries.map((entry) =>
      isDirectRouting && reachesDirectly(link, entry.address)
        ? directRoute(entry, link.name)
        : { ...directRoute(entry, IPIP_DEVICE), isOnLink: true }
    ),
  };
}

export const ipipBackend: Backend = {
  type: IPIP_TYPE,
  optionNames: ["DirectRouting"],
  check(config: NetworkConfig, link: OuterLink | null): void {
    booleanOption(config, "DirectRouting");
    requireIpv4Network(config);
    if (link === null) return;
    mtuOf(link);
    requireIpv4Address(link);
  },
  tunnels: () => [],
  devices: (_config, link) => [planDevice(link)],
  mtu_bytes: (_config, link) => mtuOf(link),
  attributes: (config, link) => ({
    publicAddresses: publishedAddresses(config, link),
    backendType: IPIP_TYPE,
    backendData: {},
  }),
  shownOptions: (config) => ({
    generation: null,
    isDirectRouting: booleanOption(config, "DirectRouting"),
  }),
  isDirect: (config) => booleanOption(config, "DirectRouting"),
  plan(input: PlanInput): Plan {
    const { entries, skipped } = planPeers(input, [4], planPeer);
    const kernel = planKernel(input, entries);
    return { kernel, served: entries, forwarding: [], skipped };
  },
};
