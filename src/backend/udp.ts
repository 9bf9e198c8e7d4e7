/**
 * Backend `udp`: every datagram carries one raw IPv4 packet, forwarded in user space between a TUN
 * device and a UDP socket. Interoperates with flannel's backend of the same name.
 */
import { type KernelState, NO_KERNEL_STATE, UDP_DEVICE } from "../kernel/state.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { Lease, LeaseAttributes } from "../lease/lease.ts";
import { ipHeaderBytes, UDP_HEADER_BYTES } from "../net/header_length.ts";
import type { Family } from "../net/ip.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import type { Backend, ForwardingEntry, Plan, PlanInput, Tunnel } from "./backend.ts";
import { portOption } from "./backend_options.ts";
import { deviceAddress, networkOf, networkRoute } from "./desired.ts";
import { ipv4Mtu_bytes, requireIpv4Address, requireIpv4Network } from "./ipv4_alone.ts";
import { planPeers } from "./plan_peers.ts";
import { reachPeer } from "./reach_peer.ts";
import { publishedAddresses } from "./published_addresses.ts";

const UDP_TYPE = "udp";
/** flannel's. */
export const UDP_DEFAULT_PORT = 8285;

function portOf(config: NetworkConfig): number {
  return portOption(config, UDP_DEFAULT_PORT);
}

function mtuOf(link: OuterLink): number {
  return ipv4Mtu_bytes(link, ipHeaderBytes(4) + UDP_HEADER_BYTES);
}

function planKernel({ config, link, lease }: PlanInput): KernelState {
  return {
    ...NO_KERNEL_STATE,
    links: [{ name: UDP_DEVICE, kind: "tun", family: 4, mtu_bytes: mtuOf(link) }],
    addresses: [deviceAddress(lease, 4, UDP_DEVICE)],
    routes: [networkRoute(networkOf(config, 4), UDP_DEVICE)],
  };
}

/** Why this peer cannot be served, or its entry. */
function planPeer(peer: Lease, family: Family, input: PlanInput): ForwardingEntry | string {
  const reach = reachPeer(peer, family, UDP_TYPE, input, true);
  if (typeof reach === "string") return reach;
  return { ...reach, port: portOf(input.config), vtepMac: null };
}

export const udpBackend: Backend = {
  type: UDP_TYPE,
  optionNames: ["Port"],
  routesWholeNetwork: () => true,
  check(config: NetworkConfig, link: OuterLink | null): void {
    requireIpv4Network(config);
    portOf(config);
    if (link === null) return;
    mtuOf(link);
    requireIpv4Address(link);
  },
  tunnels(config: NetworkConfig, link: OuterLink): readonly Tunnel[] {
    return [{
      family: 4,
      device: UDP_DEVICE,
      port: portOf(config),
      mtu_bytes: mtuOf(link),
      encapsulation: { type: "none" },
    }];
  },
  mtu_bytes: (_config, link) => mtuOf(link),
  attributes(config: NetworkConfig, link: OuterLink): LeaseAttributes {
    const publicAddresses = publishedAddresses(config, link);
    return { publicAddresses, backendType: UDP_TYPE, backendData: {} };
  },
  plan(input: PlanInput): Plan {
    const { entries, skipped } = planPeers(input, [4], planPeer);
    return { kernel: planKernel(input), served: entries, forwarding: entries, skipped };
  },
};
