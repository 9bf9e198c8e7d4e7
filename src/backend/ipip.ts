/**
 * Backend `ipip`: IPv4 in IPv4 (RFC 2003) by one tunnel device of the kernel, which a route's
 * gateway tells the far end. Interoperates with flannel's backend of the same name.
 */
import type { NetworkConfig } from "../config/network_config.ts";
import { SelvageError } from "../errors.ts";
import { type OuterLink, reachesDirectly } from "../kernel/outer_link.ts";
import { type KernelState, NO_KERNEL_STATE } from "../kernel/state.ts";
import type { Lease } from "../lease/lease.ts";
import { ipHeaderBytes } from "../net/header_length.ts";
import { type Family, ofFamily } from "../net/ip.ts";
import type { Backend, PeerEntry, Plan, PlanInput } from "./backend.ts";
import { booleanOption } from "./backend_options.ts";
import { deviceAddress, directRoute } from "./desired.ts";
import { planPeers } from "./plan_peers.ts";
import { reachPeer } from "./reach_peer.ts";

const IPIP_TYPE = "ipip";
const IPIP_DEVICE = "selvage.ipip";
/** RFC 791 section 3.2: what every link must carry. */
const IPV4_MTU_BYTES_MIN = 68;

function mtuOf(link: OuterLink): number {
  const mtu_bytes = link.mtu_bytes - ipHeaderBytes(4);
  if (mtu_bytes >= IPV4_MTU_BYTES_MIN) return mtu_bytes;
  throw new SelvageError(
    "unsupported",
    `interface ${link.name}: an MTU of ${link.mtu_bytes} leaves no room for encapsulation`,
  );
}

/** Why this peer cannot be served, or its entry. */
function planPeer(peer: Lease, family: Family, input: PlanInput): PeerEntry | string {
  return reachPeer(peer, family, IPIP_TYPE, input);
}

function planKernel(input: PlanInput, entries: readonly PeerEntry[]): KernelState {
  const { config, link, lease } = input;
  const isDirectRouting = booleanOption(config, "DirectRouting");
  return {
    ...NO_KERNEL_STATE,
    links: [{
      kind: "ipip",
      name: IPIP_DEVICE,
      mtu_bytes: mtuOf(link),
      outerLinkIndex: link.index,
      local: ofFamily(link.addresses, 4)!,
    }],
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
  check(config: NetworkConfig, link: OuterLink | null): void {
    booleanOption(config, "DirectRouting");
    if (config.ranges.some(({ family }) => family !== 4)) {
      throw new SelvageError("unsupported", "network configuration: ipip carries IPv4 alone", {
        hint: "Set EnableIPv6 to false and EnableIPv4 to true, or choose another backend.",
      });
    }
    if (link === null) return;
    mtuOf(link);
    if (ofFamily(link.addresses, 4) !== undefined) return;
    throw new SelvageError("unsupported", `interface ${link.name} has no IPv4 address`, {
      hint: "Choose another interface with --iface.",
    });
  },
  tunnels: () => [],
  mtu_bytes: (_config, link) => mtuOf(link),
  attributes: (_config, link) => ({
    publicAddresses: link.publicAddresses,
    backendType: IPIP_TYPE,
    backendData: {},
  }),
  shownOptions: (config) => ({
    generation: null,
    isDirectRouting: booleanOption(config, "DirectRouting"),
  }),
  plan(input: PlanInput): Plan {
    const { entries, skipped } = planPeers(input, [4], planPeer);
    return { kernel: planKernel(input, entries), forwarding: [], skipped };
  },
};
