/**
 * Backend `vxlan` in the kernel: a VXLAN device a family, whose neighbours, FDB entries and routes
 * say where each peer is. In flannel's three generations, which fill the tables differently and are
 * the same on the wire:
 *
 * - 3: a route, a neighbour and an FDB entry for each peer;
 * - 2: an FDB entry for each peer, one route, and a neighbour for each container in use, made when
 *   the kernel asks for it;
 * - 1: one route; neighbours and FDB entries are both made when the kernel asks for them.
 */
import type { NetworkConfig } from "../config/network_config.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import { reachesDirectly } from "../kernel/outer_link.ts";
import type {
  DesiredFdbEntry,
  DesiredNeighbour,
  DesiredRoute,
  DesiredSysctl,
  DesiredVxlan,
  KernelState,
  MissTable,
} from "../kernel/state.ts";
import { type Family, ofFamily } from "../net/ip.ts";
import type { Backend, Plan, PlanInput, ShownOptions } from "./backend.ts";
import { deviceAddress, directRoute, familiesOf, networkOf, networkRoute } from "./desired.ts";
import {
  readVxlanOptions,
  requireKernelOptions,
  VXLAN_OPTION_NAMES,
  type VxlanOptions,
} from "./vxlan_options.ts";
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

/** flannel's: how often the kernel asks us before it gives up. */
const APP_SOLICIT = "3";

/** The kernel's own: it asks nobody. */
const NO_APP_SOLICIT = "0";

function appSolicit(linkName: string, value: string): DesiredSysctl {
  return { path: `net/ipv4/neigh/${linkName}/app_solicit`, value, isSet: true };
}

/** The tables of one device. */
interface DeviceTables {
  readonly neighbours: readonly DesiredNeighbour[];
  readonly fdb: readonly DesiredFdbEntry[];
  readonly routes: readonly DesiredRoute[];
  readonly misses: readonly MissTable[];
  readonly sysctls: readonly DesiredSysctl[];
}

type DeviceInput = Pick<PlanInput, "config" | "link" | "vtepMacs">;

function planDevice(family: Family, input: DeviceInput): DesiredVxlan {
  const { config, link, vtepMacs } = input;
  const { vni, port, isLearning, isGbp, generation } = readVxlanOptions(config);
  return {
    kind: "vxlan",
    name: deviceName(family, vni),
    mtu_bytes: mtuOf(config, link, family),
    macAddress: vtepMacs[family],
    vni,
    port,
    outerLinkIndex: link.index,
    local: ofFamily(link.addresses, family)!,
    isLearning: isLearning || generation === 1,
    isGbp,
    isProxy: generation === 1,
    isL2Miss: generation === 1,
  };
}

/** One for each VTEP: a host may have several leases. */
function fdbEntries(entries: readonly VtepEntry[], linkName: string): DesiredFdbEntry[] {
  const byMac = new Map<string, DesiredFdbEntry>();
  for (const { key, vtepMac, address } of entries) {
    const mac = `${vtepMac}`;
    if (!byMac.has(mac)) byMac.set(mac, { linkName, macAddress: vtepMac, address, peerKey: key });
  }
  return [...byMac.values()];
}

/** Generation 3: everything is there from the start. The device may have been a generation 2's. */
function planTables(
  entries: readonly VtepEntry[],
  linkName: string,
  family: Family,
): DeviceTables {
  return {
    neighbours: entries.map(({ key, subnet, vtepMac }) => ({
      linkName,
      address: subnet.address,
      macAddress: vtepMac,
      peerKey: key,
    })),
    fdb: fdbEntries(entries, linkName),
    routes: entries.map(({ key, subnet }) => ({
      destination: subnet,
      linkName,
      gateway: subnet.address,
      isOnLink: true,
      peerKey: key,
    })),
    misses: [],
    sysctls: family === 4 ? [appSolicit(linkName, NO_APP_SOLICIT)] : [],
  };
}

/** Generations 2 and 1: the kernel asks. */
function planMissTables(
  entries: readonly VtepEntry[],
  linkName: string,
  { config }: PlanInput,
  isFdbOnMiss: boolean,
): DeviceTables {
  return {
    neighbours: [],
    fdb: isFdbOnMiss ? [] : fdbEntries(entries, linkName),
    routes: [networkRoute(networkOf(config, 4), linkName)],
    misses: [{ linkName, isFdbOnMiss, peers: entries }],
    sysctls: [appSolicit(linkName, APP_SOLICIT)],
  };
}

function planKernel(
  input: PlanInput,
  entries: readonly VtepEntry[],
  { generation, isDirectRouting }: VxlanOptions,
): KernelState {
  const { config, link, lease } = input;
  const isDirect = ({ address }: VtepEntry) => isDirectRouting && reachesDirectly(link, address);
  const devices = familiesOf(config).map((family) => ({
    family,
    device: planDevice(family, input),
  }));
  const tables = devices.map(({ family, device: { name } }) => {
    const behind = entries.filter((entry) => entry.subnet.family === family && !isDirect(entry));
    if (generation === 3) return planTables(behind, name, family);
    return planMissTables(behind, name, input, generation === 1);
  });
  return {
    links: devices.map(({ device }) => device),
    addresses: devices.map(({ family, device }) => deviceAddress(lease, family, device.name)),
    neighbours: tables.flatMap(({ neighbours }) => neighbours),
    fdb: tables.flatMap(({ fdb }) => fdb),
    routes: [
      ...tables.flatMap(({ routes }) => routes),
      ...entries.filter(isDirect).map((entry) => directRoute(entry, link.name)),
    ],
    misses: tables.flatMap(({ misses }) => misses),
    blackholes: [],
    sysctls: tables.flatMap(({ sysctls }) => sysctls),
  };
}

function routesWholeNetwork(config: NetworkConfig): boolean {
  return readVxlanOptions(config).generation !== 3;
}

export const vxlanBackend: Backend = {
  type: VXLAN_TYPE,
  optionNames: VXLAN_OPTION_NAMES,
  check(config: NetworkConfig, link: OuterLink | null): void {
    requireKernelOptions(readVxlanOptions(config), familiesOf(config));
    checkOuterMtu(config);
    if (link !== null) checkVxlanLink(config, link);
  },
  routesWholeNetwork,
  tunnels: () => [],
  devices: (config, link, vtepMacs) =>
    familiesOf(config).map((family) => planDevice(family, { config, link, vtepMacs })),
  mtu_bytes: vxlanMtu_bytes,
  attributes: vxlanAttributes,
  shownOptions(config: NetworkConfig): ShownOptions {
    const { generation, isDirectRouting } = readVxlanOptions(config);
    return { generation, isDirectRouting };
  },
  isDirect: (config) => readVxlanOptions(config).isDirectRouting,
  plan(input: PlanInput): Plan {
    const { entries, skipped } = planVteps(input, routesWholeNetwork(input.config));
    const kernel = planKernel(input, entries, readVxlanOptions(input.config));
    return { kernel, served: entries, forwarding: [], skipped };
  },
};
