/** What must be there before anything is changed. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { SelvageError } from "../errors.ts";

/** Bit numbers of `linux/capability.h`. */
const CAPABILITIES = { CAP_NET_ADMIN: 12, CAP_NET_RAW: 13, CAP_SYS_ADMIN: 21 } as const;
export type Capability = keyof typeof CAPABILITIES;

const TUN_PATH = "/dev/net/tun";

const STATUS_PATH = "/proc/self/status";

/** The process's effective capabilities as a bit set. Throws `unsupported` without `/proc`. */
function effectiveCapabilities(): bigint {
  const status = existsSync(STATUS_PATH) ? readFileSync(STATUS_PATH, "utf8") : "";
  const line = /^CapEff:\s*([0-9a-f]+)$/m.exec(status);
  if (line !== null) return BigInt(`0x${line[1]}`);
  const text = `${STATUS_PATH} cannot be read, so this process does not know its rights`;
  throw new SelvageError("unsupported", text, {
    hint: "Mount the kernel's file system: mount -t proc proc /proc.",
  });
}

/** Throws `unsupported` without `/proc`. */
export function requireProc(): void {
  effectiveCapabilities();
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
 * Throws `permission` if the state directory is there and another user than this process's could
 * read or change what is in it: tokens, keys, and who has which subnet.
 */
export function requirePrivateStateDir(path: string): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isDirectory()) return;
  const userId = process.geteuid!();
  const refuse = (why: string, command: string) => {
    throw new SelvageError("permission", `state directory ${path}: ${why}`, {
      hint: `Let only this user access it: ${command}`,
    });
  };
  if (stat.uid !== userId) {
    refuse(`it belongs to user ${stat.uid}, not to ${userId}`, `chown -R ${userId} ${path}`);
  }
  const mode = (stat.mode & 0o777).toString(8).padStart(4, "0");
  if ((stat.mode & 0o066) !== 0) {
    refuse(`its mode ${mode} lets other users read or change it`, `chmod 700 ${path}`);
  }
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
    `vxlan works neither in the kernel nor in user space: this kernel makes no VXLAN ` +
      `devices, and ${path} is not there`,
    { hint: `Load the kernel module vxlan (modprobe vxlan); or, for user space, ${device}.` },
  );
}
