/** Devices of others that are in the way of those that a backend makes. Pure. */
import { readVxlanOptions, VXLAN_DEFAULT_PORT } from "../backend/vxlan_options.ts";
import { deviceName } from "../backend/vxlan_peers.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { IPIP_DEVICE, isOwnDevice, UDP_DEVICE } from "../kernel/state.ts";
import type { Family } from "../net/ip.ts";
import type { Link } from "../netlink/link.ts";
import type { DeviceClash } from "./facts.ts";
import type { BackendName } from "./report.ts";
import { valueOr } from "./trial.ts";

const VXLAN: readonly BackendName[] = ["vxlan (userspace)", "vxlan (kernel)"];
/** The kinds that devices of ours have; one of them may be a running selvage's. */
const OWN_KINDS: readonly (string | null)[] = ["tun", "vxlan", "ipip"];

/** Where no configuration says another. */
const DEFAULT_VNI = 1;

interface Wanted {
  readonly name: string;
  readonly backends: readonly BackendName[];
}

/** VNI, port and families of the kernel's VXLAN devices; bad values are the backend's to report. */
function vxlanOf(config: NetworkConfig | null) {
  const byDefault = { vni: DEFAULT_VNI, port: VXLAN_DEFAULT_PORT };
  if (config === null) return { ...byDefault, families: [4] as readonly Family[] };
  const families = config.ranges.map(({ family }) => family);
  return { ...valueOr(() => readVxlanOptions(config), byDefault), families };
}

/** What the backends in question would make. */
function wantedDevices(config: NetworkConfig | null): Wanted[] {
  const isAsked = (type: string) => config === null || config.backend.type === type;
  const { vni, families } = vxlanOf(config);
  return [
    ...(isAsked("udp") ? [{ name: UDP_DEVICE, backends: ["udp"] as const }] : []),
    ...(isAsked("vxlan") ? families : []).map((family) => ({
      name: deviceName(family, vni),
      backends: VXLAN,
    })),
    ...(isAsked("ipip") ? [{ name: IPIP_DEVICE, backends: ["ipip"] as const }] : []),
  ];
}

/** The kernel has one VXLAN device a VNI, port and family. */
function vniClashes(config: NetworkConfig | null, links: readonly Link[]): DeviceClash[] {
  if (config !== null && config.backend.type !== "vxlan") return [];
  const { vni, port, families } = vxlanOf(config);
  return links.flatMap(({ name, kind, vxlan }) => {
    if (vxlan?.vni !== vni || vxlan.port !== port || isOwnDevice(name, kind)) return [];
    if (!families.includes((vxlan.local ?? vxlan.remote)?.family ?? 4)) return [];
    return [{ type: "vni" as const, name, vni, port, backends: ["vxlan (kernel)"] as const }];
  });
}

/** `config` null: all backends with their defaults. */
export function findClashes(config: NetworkConfig | null, links: readonly Link[]): DeviceClash[] {
  const byName = wantedDevices(config).flatMap(({ name, backends }) => {
    const link = links.find((one) => one.name === name);
    if (link === undefined || OWN_KINDS.includes(link.kind)) return [];
    return [{ type: "name" as const, name, kind: link.kind ?? "hardware", backends }];
  });
  return [...byName, ...vniClashes(config, links)];
}
