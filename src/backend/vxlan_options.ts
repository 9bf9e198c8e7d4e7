/** The options of backend `vxlan`: flannel's names and defaults, and `Datapath`, which is ours. */
import type { NetworkConfig } from "../config/network_config.ts";
import { SelvageError } from "../errors.ts";
import type { Family } from "../net/ip.ts";
import { booleanOption, choiceOption, numberOption, portOption } from "./backend_options.ts";

export const VXLAN_DEFAULT_VNI = 1;
/** RFC 7348 section 5: 24 bits. */
const VNI_MAX = 2 ** 24 - 1;
/** Linux's, which flannel uses; IANA's is 4789. */
export const VXLAN_DEFAULT_PORT = 8472;
const MTU_BYTES_MAX = 65_535;

/** Who encapsulates; the first is the default. */
const DATAPATHS = ["auto", "userspace", "kernel"] as const;

/** flannel's today, and as it was before; see `vxlan.ts`. */
const GENERATIONS = [3, 2, 1] as const;

export const VXLAN_OPTION_NAMES = [
  "VNI",
  "Port",
  "MTU",
  "Generation",
  "DirectRouting",
  "GBP",
  "Learning",
  "Datapath",
  // flannel's on Windows.
  "MacPrefix",
] as const;

export interface VxlanOptions {
  readonly datapath: typeof DATAPATHS[number];
  readonly vni: number;
  readonly port: number;
  /** Largest outer packet in bytes; 0: the interface's MTU. */
  readonly outerMtu_bytes: number;
  readonly generation: typeof GENERATIONS[number];
  readonly isLearning: boolean;
  readonly isGbp: boolean;
  /** Whether peers that no gateway lies before are reached without encapsulation. */
  readonly isDirectRouting: boolean;
}

const VNI_RULE = {
  min: 1,
  max: VNI_MAX,
  default: VXLAN_DEFAULT_VNI,
  what: "a VXLAN network identifier",
} as const;
const MTU_RULE = {
  min: 0,
  max: MTU_BYTES_MAX,
  default: 0,
  defaultText: "the interface's",
  what: "an MTU",
} as const;
const GENERATION_RULE = { min: 1, max: 3, default: 3, what: "a generation of vxlan" } as const;

/** What was read already: every peer is judged by the same options. */
const known = new WeakMap<NetworkConfig, VxlanOptions>();

/**
 * Reads and checks the options. Throws `invalid_argument` for a value that is none. `MacPrefix`,
 * which is flannel's on Windows, is passed over.
 */
export function readVxlanOptions(config: NetworkConfig): VxlanOptions {
  let options = known.get(config);
  if (options === undefined) {
    options = parseVxlanOptions(config);
    known.set(config, options);
  }
  return options;
}

function parseVxlanOptions(config: NetworkConfig): VxlanOptions {
  const generation = numberOption(config, "Generation", GENERATION_RULE);
  return {
    datapath: choiceOption(config, "Datapath", DATAPATHS),
    vni: numberOption(config, "VNI", VNI_RULE),
    // flannel's 0 is the kernel's default.
    port: portOption(config, VXLAN_DEFAULT_PORT, { isZeroDefault: true }),
    outerMtu_bytes: numberOption(config, "MTU", MTU_RULE),
    generation: GENERATIONS.find((one) => one === generation) ?? 3,
    isLearning: booleanOption(config, "Learning"),
    isGbp: booleanOption(config, "GBP"),
    isDirectRouting: booleanOption(config, "DirectRouting"),
  };
}

/** The options that only the kernel's VXLAN device has, as far as they are asked for. */
export function kernelOnlyOptions(options: VxlanOptions): string[] {
  return [
    ...(options.isGbp ? ["GBP"] : []),
    ...(options.isLearning ? ["Learning"] : []),
    ...(options.isDirectRouting ? ["DirectRouting"] : []),
    ...(options.generation === 3 ? [] : ["Generation"]),
  ];
}

/** Throws `unsupported` for what the datapath in user space does not do. */
export function requireUserspaceOptions(options: VxlanOptions): void {
  const [name] = kernelOnlyOptions(options);
  if (name === undefined) return;
  throw new SelvageError(
    "unsupported",
    `network configuration: Backend.${name} is not for the userspace datapath of vxlan`,
    { hint: `Leave ${name} out, or have vxlan in the kernel (Datapath "kernel").` },
  );
}

/** Throws `unsupported` for what the kernel's datapath does not do. */
export function requireKernelOptions(
  { generation }: VxlanOptions,
  families: readonly Family[],
): void {
  if (generation === 3 || families.every((family) => family === 4)) return;
  throw new SelvageError(
    "unsupported",
    `network configuration: Generation ${generation} of vxlan carries only IPv4`,
    { hint: "Leave Generation out, or switch IPv6 off." },
  );
}
