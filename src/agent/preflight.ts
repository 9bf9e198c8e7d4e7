/** What must be there before anything is changed. */
import { existsSync, readFileSync } from "node:fs";
import { SelvageError } from "../errors.ts";

/** Bit numbers of `linux/capability.h`. */
const CAPABILITIES = { CAP_NET_ADMIN: 12, CAP_NET_RAW: 13, CAP_SYS_ADMIN: 21 } as const;
export type Capability = keyof typeof CAPABILITIES;

const TUN_PATH = "/dev/net/tun";

/** The process's effective capabilities as a bit set. */
function effectiveCapabilities(): bigint {
  const line = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"));
  return line === null ? 0n : BigInt(`0x${line[1]}`);
}

/** Whether the process may use the capability now. */
export function hasCapability(name: Capability): boolean {
  return ((effectiveCapabilities() >> BigInt(CAPABILITIES[name])) & 1n) !== 0n;
}

/** Throws `permission` if the process lacks one of them; `what` is the command, for the error. */
export function requireCapabilities(
  what: string,
  ...names: Capability[]
): void {
  const missing = names.filter((name) => !hasCapability(name));
  if (missing.length === 0) return;
  throw new SelvageError("permission", `${what}: ${missing.join(" and ")} missing`, {
    hint: "Run it as root, or give it the capability.",
  });
}

/**
 * Throws `unsupported` if this host has no TUN device file. `isFallback`: the kernel makes no VXLAN
 * devices, which would do as well.
 */
export function requireTun(isFallback = false, path = TUN_PATH): void {
  if (existsSync(path)) return;
  const device = "load the kernel module (modprobe tun), or give the container this device";
  if (!isFallback) {
    throw new SelvageError("unsupported", `${path} is not there`, {
      hint: `${device[0]!.toUpperCase()}${device.slice(1)}.`,
    });
  }
  throw new SelvageError(
    "unsupported",
    `vxlan can be carried neither by the kernel nor in user space: this kernel makes no VXLAN ` +
      `devices, and ${path} is not there`,
    { hint: `Load the kernel module vxlan (modprobe vxlan); or, for user space, ${device}.` },
  );
}
