/**
 * Backend `vxlan` with its datapath in user space: frames in VXLAN (RFC 7348) between a TUN device
 * and a UDP socket, for one family or both. Interoperates with the kernel's VXLAN devices; no
 * address is ever learnt from traffic.
 */
import type { NetworkConfig } from "../config/network_config.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import { type KernelState, NO_KERNEL_STATE } from "../kernel/state.ts";
import type { Backend, ForwardingEntry, Plan, PlanInput, Tunnel, VtepMacs } from "./backend.ts";
import { deviceAddress, familiesOf, networkOf, networkRoute } from "./desired.ts";
import { readVxlanOptions, requireUserspaceOptions, VXLAN_OPTION_NAMES } from "./vxlan_options.ts";
import {
  checkOuterMtu,
  checkVxlanLink,
  deviceName,
  mtuOf,
  planVteps,
  type VtepEntry,
  VXLAN_TYPE,
  vxlanAttributes,
  vxlanMtu_bytes,
} from "./vxlan_peers.ts";

function planTunnels(config: NetworkConfig, link: OuterLink, vtepMacs: VtepMacs): Tunnel[] {
  const { vni, port } = readVxlanOptions(config);
  return familiesOf(config).map((family) => ({
    family,
    device: deviceName(family, vni),
    port,
    mtu_bytes: mtuOf(config, link, family),
    encapsulation: { type: "vxlan", vni, vtepMac: vtepMacs[family] },
  }));
}

function planKernel({ config, link, lease, vtepMacs }: PlanInput): KernelState {
  const tunnels = planTunnels(config, link, vtepMacs);
  return {
    ...NO_KERNEL_STATE,
    links: tunnels.map(({ family, device, mtu_bytes }) => ({
      name: device,
      kind: "tun",
      family,
      mtu_bytes,
    })),
    addresses: tunnels.map(({ family, device }) => deviceAddress(lease, family, device)),
    routes: tunnels.map(({ family, device }) => networkRoute(networkOf(config, family), device)),
  };
}

/** What was made of an entry; the forwarding table knows what is new by its identity. */
const withPorts = new WeakMap<VtepEntry, ForwardingEntry>();

function forwardingEntry(entry: VtepEntry, port: number): ForwardingEntry {
  let made = withPorts.get(entry);
  if (made === undefined) {
    made = { ...entry, port };
    withPorts.set(entry, made);
  }
  return made;
}

export const userspaceVxlanBackend: Backend = {
  type: VXLAN_TYPE,
  optionNames: VXLAN_OPTION_NAMES,
  check(config: NetworkConfig, link: OuterLink | null): void {
    requireUserspaceOptions(readVxlanOptions(config));
    checkOuterMtu(config);
    if (link !== null) checkVxlanLink(config, link);
  },
  routesWholeNetwork: () => true,
  tunnels: planTunnels,
  mtu_bytes: vxlanMtu_bytes,
  attributes: vxlanAttributes,
  plan(input: PlanInput): Plan {
    const { entries, skipped } = planVteps(input, true);
    const { port } = readVxlanOptions(input.config);
    const forwarding = entries.map((entry) => forwardingEntry(entry, port));
    return { kernel: planKernel(input), served: entries, forwarding, skipped };
  },
};
