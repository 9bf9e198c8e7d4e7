/** The options of backend `vxlan`: flannel's names and defaults, and `Datapath`, which is ours. */
import type { NetworkConfig } from "../config/network_config.ts";
import { SelvageError } from "../errors.ts";
import { booleanOption, choiceOption, numberOption, portOption } from "./backend_options.ts";

const DEFAULT_VNI = 1;
/** RFC 7348 section 5: 24 bits. */
const VNI_MAX = 2 ** 24 - 1;
/** Linux's, which flannel uses; IANA's is 4789. */
const DEFAULT_PORT = 8472;
const MTU_BYTES_MAX = 65_535;

/** Who encapsulates; the first is the default. */
const DATAPATHS = ["auto", "userspace", "kernel"] as const;

/** What only the kernel's VXLAN device does. */
const KERNEL_ONLY = ["GBP", "Learning", "DirectRouting"] as const;

export interface VxlanOptions {
  readonly vni: number;
  readonly port: number;
  /** Largest outer packet in bytes; 0: the interface's MTU. */
  readonly outerMtu_bytes: number;
}

/**
 * Reads and checks the options. Throws `invalid_argument` for a value that is none, `unsupported`
 * for what the datapath in user space does not do. `MacPrefix`, which is flannel's on Windows, is
 * passed over.
 */
export function readVxlanOptions(config: NetworkConfig): VxlanOptions {
  if (choiceOption(config, "Datapath", DATAPATHS) === "kernel") {
    throw new SelvageError(
      "unsupported",
      'network configuration: Backend.Datapath "kernel" is not in this version',
      { hint: 'Leave Datapath out, or give "userspace"; peers may be kernel VXLAN either way.' },
    );
  }
  for (const name of KERNEL_ONLY) {
    if (!booleanOption(config, name)) continue;
    throw new SelvageError(
      "unsupported",
      `network configuration: Backend.${name} is not for the userspace datapath of vxlan`,
      { hint: `Set ${name} to false, or leave it out.` },
    );
  }
  const vniRule = {
    min: 1,
    max: VNI_MAX,
    default: DEFAULT_VNI,
    what: "a VXLAN network identifier",
  };
  const mtuRule = { min: 0, max: MTU_BYTES_MAX, default: 0, what: "an MTU" };
  return {
    vni: numberOption(config, "VNI", vniRule),
    port: portOption(config, DEFAULT_PORT),
    outerMtu_bytes: numberOption(config, "MTU", mtuRule),
  };
}
