/**
 * Backend `udp`: every datagram carries one raw IPv4 packet, forwarded in user space between a TUN
 * device and a UDP socket. Interoperates with flannel's backend of the same name.
 */
import { SelvageError } from "../errors.ts";
import type { KernelState } from "../kernel/state.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { Lease, LeaseAttributes } from "../lease/lease.ts";
import { leaseKey } from "../lease/lease.ts";
import { ipHeaderBytes, UDP_HEADER_BYTES } from "../net/header_length.ts";
import { type Family, type IpPrefix, ofFamily } from "../net/ip.ts";
import type { NetworkConfig, SubnetRange } from "../config/network_config.ts";
import type { Backend, ForwardingEntry, Plan, PlanInput, Tunnel } from "./backend.ts";
import { planPeers } from "./plan_peers.ts";

const UDP_TYPE = "udp";
const UDP_DEVICE = "selvage0";
const DEFAULT_PORT = 8285;
/** RFC 791 section 3.2: what every link must carry. */
const IPV4_MTU_BYTES_MIN = 68;

/** The `Port` of the backend's options; flannel matches names without regard to case. */
function portOf(config: NetworkConfig): number {
  const entry = Object.entries(config.backend.options).find(([k]) => k.toLowerCase() === "port");
  const port = entry?.[1] ?? DEFAULT_PORT;
  if (typeof port === "number" && Number.isInteger(port) && port >= 1 && port <= 65535) return port;
  throw new SelvageError(
    "invalid_argument",
    `network configuration: Backend.Port ${JSON.stringify(port)} is not a port`,
    { hint: "Give a number from 1 to 65535, or leave Port out for 8285." },
  );
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
    links: [{ name: UDP_DEVICE, kind: "tun", mtu_bytes: mtuOf(input.link) }],
    addresses: [{
      linkName: UDP_DEVICE,
      address: subnetOf(input.lease).address,
      prefixLength: 32,
    }],
    routes: [{ destination: network, linkName: UDP_DEVICE, gateway: null }],
  };
}

/** Why this peer cannot be served, or its entry. */
function planPeer(peer: Lease, family: Family, input: PlanInput): ForwardingEntry | string {
  const subnet = ofFamily(peer.subnets, family);
  const address = ofFamily(peer.publicAddresses, family);
  const ownAddress = ofFamily(input.link.publicAddresses, family);
  if (peer.backendType !== UDP_TYPE) return `its backend is ${peer.backendType}, ours is udp`;
  if (subnet === undefined || address === undefined) return "it has no IPv4 subnet or address";
  if (ownAddress?.equals(address)) return `it has our public address ${address}`;
  if (!address.isHost()) {
    return `its public address ${address} is not a host's`;
  }
  const { network } = rangeOf(input.config);
  // Its datagrams would be routed into the tunnel, and each into another, without end.
  if (network.contains(address)) return `its public address ${address} lies in the network`;
  if (!network.containsPrefix(subnet)) return "it lies outside the network";
  if (subnet.overlaps(subnetOf(input.lease))) return "its subnet overlaps ours";
  return { key: leaseKey(peer.subnets), subnet, address, port: portOf(input.config) };
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
  tunnel(config: NetworkConfig): Tunnel {
    return { device: UDP_DEVICE, port: portOf(config) };
  },
  mtu_bytes: mtuOf,
  attributes(link: OuterLink): LeaseAttributes {
    return { publicAddresses: link.publicAddresses, backendType: UDP_TYPE, backendData: {} };
  },
  plan(input: PlanInput): Plan {
    return { kernel: planKernel(input), ...planPeers(input, [4], planPeer) };
  },
};
