/** Finds the backend that a network configuration names. */
import { SelvageError } from "../errors.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import type { Backend } from "./backend.ts";
import { udpBackend } from "./udp.ts";
import { vxlanBackend } from "./vxlan.ts";

const BACKENDS: readonly Backend[] = [udpBackend, vxlanBackend];

/** Throws `unsupported` for a type that Selvage does not have. */
export function selectBackend(config: NetworkConfig): Backend {
  const backend = BACKENDS.find((candidate) => candidate.type === config.backend.type);
  if (backend !== undefined) return backend;
  const known = BACKENDS.map((candidate) => candidate.type).join(", ");
  throw new SelvageError(
    "unsupported",
    `network configuration: Backend.Type "${config.backend.type}" is not supported`,
    { hint: `This version has: ${known}.` },
  );
}
