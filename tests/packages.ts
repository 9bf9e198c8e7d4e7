/** The programs that tests use as independent witnesses, and the Debian packages that have them. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

const PACKAGES: Readonly<Record<string, string>> = {
  ip: "iproute2",
  ping: "iputils-ping",
};

function isInstalled(program: string): boolean {
  const path = `${process.env["PATH"] ?? ""}:/usr/sbin:/sbin`;
  return path.split(":").some((directory) => existsSync(`${directory}/${program}`));
}

function run(command: string, ...args: string[]): boolean {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  return spawnSync(command, args, { stdio: "inherit", env }).status === 0;
}

/**
 * Installs what is missing where that is possible (Debian or a relative of it, as root), and else
 * names it and what to do. Returns whether everything is there.
 */
export function preparePackages(): boolean {
  const missing = Object.keys(PACKAGES).filter((program) => !isInstalled(program));
  if (missing.length === 0) return true;
  const packages = missing.map((program) => PACKAGES[program]!);
  if (isInstalled("apt-get") && process.getuid?.() === 0) {
    console.log(`Installing ${packages.join(", ")} for the tests`);
    const install = () => run("apt-get", "install", "-y", "--no-install-recommends", ...packages);
    // The package lists of a fresh machine are empty.
    if (install() || (run("apt-get", "update") && install())) return true;
  }
  console.error(
    `The tests need ${missing.join(", ")}; install the packages that have them ` +
      `(Debian: ${packages.join(" ")}) and run the tests again.`,
  );
  return false;
}
