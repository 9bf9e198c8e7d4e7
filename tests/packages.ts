/** The programs that tests use as independent witnesses, and the Debian packages that have them. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

/** Packages by the program that is wanted of them. */
export type Packages = Readonly<Record<string, string>>;

export const TEST_PACKAGES: Packages = {
  etcd: "etcd-server",
  faketime: "faketime",
  "iptables-nft": "iptables",
  ip: "iproute2",
  iptables: "iptables",
  nft: "nftables",
  ping: "iputils-ping",
  setpriv: "util-linux",
  systemctl: "systemd",
};

/** What the benchmarks need beside that; they call for it themselves. */
export const BENCH_PACKAGES: Packages = {
  ...TEST_PACKAGES,
  iperf3: "iperf3",
};

function isInstalled(program: string): boolean {
  const path = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
  return path.split(":").some((directory) => existsSync(`${directory}/${program}`));
}

/** Runs a program whose output is progress, not a result. */
function run(command: string, ...args: string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  return spawnSync(command, args, { stdio: ["inherit", 2, 2], env }).status === 0;
}

/** The programs of these packages that are not there. */
export function missingPrograms(packages: Packages): string[] {
  return Object.keys(packages).filter((program) => !isInstalled(program));
}

/**
 * Installs what is missing where that is possible: Debian or a relative of it, as root. Returns
 * what is still missing.
 */
export function installMissing(packages: Packages): string[] {
  const missing = missingPrograms(packages);
  const canInstall = isInstalled("apt-get") && process.getuid?.() === 0;
  if (missing.length === 0 || !canInstall) return missing;
  const names = [...new Set(missing.map((program) => packages[program]!))];
  console.error(`Installing ${names.join(", ")}`);
  const install = () => run("apt-get", "install", "-y", "--no-install-recommends", ...names);
  // The package lists of a fresh machine are empty.
  if (!install() && run("apt-get", "update")) install();
  return missingPrograms(packages);
}

/**
 * Installs what is missing where that is possible, and else names it and what to do. Returns
 * whether everything is there.
 */
export function preparePackages(packages: Packages = TEST_PACKAGES): boolean {
  const missing = installMissing(packages);
  if (missing.length === 0) return true;
  console.error(
    `Missing: ${missing.join(", ")}. Install the packages that have them ` +
      `(Debian: ${missing.map((program) => packages[program]!).join(" ")}) and run this again.`,
  );
  return false;
}
