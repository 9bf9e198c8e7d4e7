/**
 * Backend `udp`: every datagram carries one raw IPv4 packet, forwarded in user space between a TUN
 * device and a UDP socket. Interoperates with flannel's backend of the same name.
 */
import { SelvageError } from "../errors.ts";
import { type KernelState, NO_KERNEL_STATE } from "../kernel/state.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { Lease, LeaseAttributes } from "../lease/lease.ts";
import { ipHeaderBytes, UDP_HEADER_BYTES } from "../net/header_length.ts";
import { type Family, type IpPrefix, ofFamily } from "../net/ip.ts";
import type { NetworkConfig, SubnetRange } from "../config/network_config.ts";
import type { Backend, ForwardingEntry, Plan, PlanInput, Tunnel } from "./backend.ts";
import { portOption } from "./backend_options.ts";
import { networkRoute } from "./desired.ts";
import { planPeers } from "./plan_peers.ts";
import { reachPeer } from "./reach_peer.ts";

const UDP_TYPE = "udp";
const UDP_DEVICE = "selvage0";
const DEFAULT_PORT = 8285;
/** RFC 791 section 3.2: what every link must carry. */
const IPV4_MTU_BYTES_MIN = 68;

function portOf(config: NetworkConfig): number {
  return portOption(config, DEFAULT_PORT);
}

function rangeOf(config: NetworkConfig): SubnetRange {
  const range = ofFamily(config.ranges, 4);
  if (range !== undefined && config.ranges.length === 1) return range;
  throw new SelvageError("unsupported", "network configuration: backend udp carries IPv4 alone", {
    hint: "Set EnableIPv6 to false and EnableIPv4 to true, or choose another backend.",
  });
}

function mtuOf(link: OuterLink): number {
  const mtu_bytes = link.mtu_bytes - ipHeaderBytes(4) - UDP_HEADER_BYTES;
  if (mtu_bytes >= IPV4_MTU_BYTES_MIN) return mtu_bytes;
  throw new SelvageError(
    "unsupported",
    `interface ${link.name}: an MTU of ${link.mtu_bytes} leaves no room for encapsulation`,
  );
}

function subnetOf(lease: Lease): IpPrefix {
  const subnet = ofFamily(lease.subnets, 4);
  if (subnet === undefined) throw new SelvageError("internal", "a udp lease without IPv4 subnet");
  return subnet;
}

function planKernel(input: PlanInput): KernelState {
  const network = rangeOf(input.config).network;
  return {
    ...NO_KERNEL_STATE,
    links: [{ name: UDP_DEVICE, kind: "tun", mtu_bytes: mtuOf(input.link) }],
    addresses: [{
      linkName: UDP_DEVICE,
      address: subnetOf(input.lease).address,
      prefixLength: 32,
    }],
    routes: [networkRoute(network, UDP_DEVICE)],
  };
}

/** Why this peer cannot be served, or its entry. */
function planPeer(peer: Lease, family: Family, input: PlanInput): ForwardingEntry | string {
  const reach = reachPeer(peer, family, UDP_TYPE, input);
  if (typeof reach === "string") return reach;
  return { ...reach, port: portOf(input.config), vtepMac: null };
}

export const udpBackend: Backend = {
  type: UDP_TYPE,
  check(config: NetworkConfig, link: OuterLink | null): void {
    rangeOf(config);
    portOf(config);
    if (link === null) return;
    mtuOf(link);
    if (ofFamily(link.addresses, 4) !== undefined) return;
    throw new SelvageError("unsupported", `interface ${link.name} has no IPv4 address`, {
      hint: "Choose another interface with --iface.",
    });
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
  attributes(_config: NetworkConfig, link: OuterLink): LeaseAttributes {
    return { publicAddresses: link.publicAddresses, backendType: UDP_TYPE, backendData: {} };
  },
  plan(input: PlanInput): Plan {
    const { entries, skipped } = planPeers(input, [4], planPeer);
    return { kernel: planKernel(input), forwarding: entries, skipped };
  },
};
