/** Finds the backend that a network configuration names. */
import { SelvageError } from "../errors.ts";
import { printable } from "../printable.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { allocBackend } from "./alloc.ts";
import type { Surrounding } from "../kernel/surroundings.ts";
import type { Backend } from "./backend.ts";
import { otherOptions } from "./backend_options.ts";
import { extensionBackend, hasCommands, namedCommands } from "./extension.ts";
import { hostGwBackend } from "./host_gw.ts";
import { ipipBackend } from "./ipip.ts";
import { udpBackend } from "./udp.ts";
import { vxlanBackend } from "./vxlan.ts";
import { kernelOnlyOptions, readVxlanOptions } from "./vxlan_options.ts";
import { userspaceVxlanBackend } from "./vxlan_userspace.ts";

/** What the choice depends on besides the configuration. */
export interface HostFeatures {
  /** Whether the kernel can make VXLAN devices; asked only where it matters. */
  hasKernelVxlan(): boolean;
  /** What the host must go on reaching; not given: nothing is known of that. */
  surroundings?(): readonly Surrounding[];
  /** Whether this host allows the network's configuration to run commands (`--allow-extension`). */
  readonly allowsCommands: boolean;
}

/** A configuration that is another program's has many; a few tell as much. */
const WARNING_COUNT_MAX = 20;

/** For whoever only wants to know whether a configuration can be obeyed somewhere. */
export const ANY_HOST: HostFeatures = { hasKernelVxlan: () => true, allowsCommands: true };

export const BACKENDS: readonly Backend[] = [
  udpBackend,
  vxlanBackend,
  hostGwBackend,
  ipipBackend,
  allocBackend,
  extensionBackend,
];

/** `auto` is the kernel's device where it can be made, else user space. */
function selectVxlan(config: NetworkConfig, host: HostFeatures): Backend {
  const options = readVxlanOptions(config);
  if (options.datapath === "userspace") return userspaceVxlanBackend;
  if (host.hasKernelVxlan()) return vxlanBackend;
  const reasons = options.datapath === "kernel" ? ["Datapath"] : kernelOnlyOptions(options);
  if (reasons.length === 0) return userspaceVxlanBackend;
  throw new SelvageError(
    "unsupported",
    `network configuration: Backend.${reasons[0]} needs VXLAN devices, and this kernel has none`,
    { hint: `Load the kernel module (modprobe vxlan), or leave ${reasons[0]} out.` },
  );
}

/**
 * Why vxlan is carried in user space although the configuration does not ask for it; null: it is
 * not, or the configuration asks for it.
 */
export function fallbackNotice(config: NetworkConfig, backend: Backend): string | null {
  if (backend !== userspaceVxlanBackend) return null;
  if (readVxlanOptions(config).datapath === "userspace") return null;
  return "this kernel makes no VXLAN devices, so vxlan is carried in user space, which is " +
    "slower: load the module vxlan (modprobe vxlan) and restart selvage, or set " +
    "Backend.Datapath to userspace";
}

/**
 * The commands by name. They are shown here because a host that refuses to start has no daemon that
 * could be asked for its configuration.
 */
function commandsText(config: NetworkConfig): string {
  return namedCommands(config)
    .map(([name, command]) => `${name} ${printable(JSON.stringify(command))}`).join(", ");
}

/** Throws `permission` if the configuration has commands and this host does not allow them. */
function requireConsent(config: NetworkConfig, { allowsCommands }: HostFeatures): void {
  if (allowsCommands || !hasCommands(config)) return;
  const text = "network configuration: backend extension runs commands of the configuration on " +
    "this host, which does not allow that";
  throw new SelvageError("permission", text, {
    hint: `Read its commands: ${commandsText(config)}. If everyone who can change them may have ` +
      "the rights of this daemon, start selvage run with --allow-extension.",
  });
}

/**
 * Throws `unsupported` for a type that Selvage does not have, or that this host cannot have, and
 * `permission` for one that it does not allow.
 */
export function selectBackend(config: NetworkConfig, host: HostFeatures): Backend {
  const { type } = config.backend;
  const backend = BACKENDS.find((candidate) => candidate.type === type);
  if (backend === vxlanBackend) return selectVxlan(config, host);
  if (backend === extensionBackend) requireConsent(config, host);
  if (backend !== undefined) return backend;
  const known = BACKENDS.map((candidate) => candidate.type).join(", ");
  throw new SelvageError(
    "unsupported",
    `network configuration: Backend.Type "${type}" is not supported`,
    { hint: `This version has: ${known}.` },
  );
}

/** Throws `invalid_argument` if there are any: whoever writes a configuration means all of it. */
export function refuseWarned(warnings: readonly string[]): void {
  if (warnings.length === 0) return;
  throw new SelvageError("invalid_argument", warnings.join("; "), {
    hint: "Nothing was written. Correct the file, or write it nevertheless: " +
      "selvage config set --force, in the API ?force=true.",
  });
}

/**
 * What is odd about a configuration that can be obeyed, one sentence each: keys that mean nothing,
 * and options that its backend does not have. They are no errors, as with flannel.
 */
export function configWarnings(config: NetworkConfig): string[] {
  const passedOver = (key: string, why: string) =>
    `network configuration: ${key.slice(0, 80)} is ignored: ${why}`;
  const keys = config.otherKeys
    .map((key) => passedOver(key, "there is no such key"));
  const backend = BACKENDS.find(({ type }) => type === config.backend.type);
  if (backend === undefined) return keys.slice(0, WARNING_COUNT_MAX);
  const { type, optionNames } = backend;
  const known = optionNames.length === 0 ? "none" : optionNames.join(", ");
  const options = otherOptions(config, optionNames)
    .map((name) => passedOver(`Backend.${name}`, `${type} has no such option (it has ${known})`));
  return [...keys, ...options].slice(0, WARNING_COUNT_MAX);
}
