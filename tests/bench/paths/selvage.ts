/** Selvage's own paths: real daemons that find each other through a registry. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EXECUTABLE, Lab } from "../../e2e/lab.ts";
import { takeLeases, vxlanLeaseValue } from "../../e2e/simulated_peers.ts";
import { IpAddress } from "../../../src/net/ip.ts";
import { errorText } from "../../../src/errors.ts";
import { endProcessesIn } from "../processes.ts";
import type { BenchPath } from "./path.ts";

const LOG_LINES_SHOWN = 3;

interface OwnPath {
  readonly id: string;
  readonly title: string;
  readonly note: string;
  /** The network configuration's `Backend`. */
  readonly backend: Readonly<Record<string, unknown>>;
  readonly flags: readonly string[];
  /** So many peers more, which have leases and nothing else; left out: none. */
  readonly morePeers?: number;
  readonly isOnDemand?: boolean;
}

/** Wide enough for thousands of subnets. */
const WIDE_NETWORK = "10.64.0.0/10";
/** The addresses of simulated peers: of RFC 2544's network, where no host of a lab is. */
const FIRST_SIMULATED = IpAddress.parse("198.19.0.1");

/** Takes leases for peers that are not there, as flannel's vxlan backend does. */
async function simulatePeers(lab: Lab, count: number): Promise<void> {
  const hexByte = (value: number) => value.toString(16).padStart(2, "0");
  const values = Array.from({ length: count }, (_, i) => {
    const mac = `02:53:00:00:${hexByte(i >>> 8)}:${hexByte(i & 0xff)}`;
    return vxlanLeaseValue(`${FIRST_SIMULATED.add(BigInt(i))}`, mac);
  });
  await takeLeases(lab, values);
}

/** Runs one command of the executable and gives what it said on either stream. */
function ask(...args: string[]): { text: string; ok: boolean } {
  const { stdout, stderr, status } = spawnSync(EXECUTABLE.command, args, { encoding: "utf8" });
  return { text: `${stdout}${stderr}`, ok: status === 0 };
}

/** Why the executable cannot run this path, or null: it is asked, not its version. */
function findObstacle(path: OwnPath): string | null {
  const help = ask("run", "--help").text;
  const missing = path.flags.map((flag) => flag.split("=")[0]!).filter((flag) => {
    return !new RegExp(`${flag}\\b`).test(help);
  });
  if (missing.length > 0) return `this version of selvage run has no ${missing.join(", ")}`;
  const directory = mkdtempSync(join(tmpdir(), "selvage-bench-"));
  try {
    const file = join(directory, "net-conf.json");
    writeFileSync(file, JSON.stringify({ Network: "10.210.0.0/16", Backend: path.backend }));
    const { ok, text } = ask("config", "check", file);
    return ok ? null : `this version refuses its configuration: ${text.trim()}`;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** What a daemon said when it ended, or the end of its log; empty if it was never started. */
function lastWords(lab: Lab, host: number): string {
  try {
    const lines = lab.log(host).trim().split("\n");
    const farewell = lines.findLastIndex((line) => line.startsWith("selvage: "));
    return `host${host}: ${lines.slice(farewell < 0 ? -LOG_LINES_SHOWN : farewell).join(" ")}`;
  } catch {
    return "";
  }
}

/** Ends what a failed start left, and the lab. */
async function closeLab(lab: Lab): Promise<void> {
  const namespaces = lab.topology.hosts.flatMap(({ host, container }) => [host, container]);
  await endProcessesIn(...namespaces);
  await lab.close();
}

/** A path of Selvage's. */
function ownPath(path: OwnPath): BenchPath {
  return {
    ...path,
    packages: {},
    obstacle: () => findObstacle(path),
    setUp: async (signal) => {
      const lab = new Lab(2);
      try {
        const { morePeers = 0, backend } = path;
        const network = morePeers > 0 ? WIDE_NETWORK : "10.210.0.0/16";
        await lab.startRegistry({ Network: network, Backend: backend }, path.flags);
        if (morePeers > 0) await simulatePeers(lab, morePeers);
        signal.throwIfAborted();
        await lab.startJoined(2, path.flags);
        signal.throwIfAborted();
        await lab.untilPeers(1 + morePeers, 1, 2);
        for (const host of [1, 2]) await lab.attach(host);
      } catch (error) {
        const logs = [1, 2].map((host) => lastWords(lab, host)).filter((text) => text !== "");
        await closeLab(lab);
        signal.throwIfAborted();
        throw new Error(logs.length > 0 ? logs.join("; ") : errorText(error));
      }
      return {
        hosts: lab.topology.hosts.slice(),
        containers: lab.containers.flatMap((address) => address ?? []),
        close: () => closeLab(lab),
      };
    },
  };
}

export const udp = ownPath({
  id: "udp",
  title: "Selvage udp",
  note: "the udp backend as it comes",
  backend: { Type: "udp" },
  flags: [],
});

export const udpWithoutOffload = ownPath({
  id: "udp-no-offload",
  title: "Selvage udp, --offload=off",
  note: "the same with one packet a system call's buffer",
  backend: { Type: "udp" },
  flags: ["--offload=off"],
});

export const userspaceVxlan = ownPath({
  id: "userspace-vxlan",
  title: "Selvage VXLAN in user space",
  note: 'the vxlan backend with "Datapath": "userspace"',
  backend: { Type: "vxlan", Datapath: "userspace" },
  flags: [],
});

export const kernelVxlanOfOurs = ownPath({
  id: "selvage-vxlan-kernel",
  title: "Selvage VXLAN in the kernel",
  note: 'the vxlan backend with "Datapath": "kernel"',
  backend: { Type: "vxlan", Datapath: "kernel" },
  flags: [],
});

/** How many peers the guard's sets have. */
const GUARDED_PEERS = 5_000;

export const guardOn = ownPath({
  id: "guard-on",
  title: "Selvage VXLAN in the kernel, 5,000 peers, guarded",
  note: "the guard's rules ask sets of 5,000 peers",
  backend: { Type: "vxlan", Datapath: "kernel" },
  flags: [],
  morePeers: GUARDED_PEERS,
  isOnDemand: true,
});

export const guardOff = ownPath({
  id: "guard-off",
  title: "Selvage VXLAN in the kernel, 5,000 peers, --guard=false",
  note: "the same without the guard's rules",
  backend: { Type: "vxlan", Datapath: "kernel" },
  flags: ["--guard=false"],
  morePeers: GUARDED_PEERS,
  isOnDemand: true,
});

export const hostGw = ownPath({
  id: "selvage-host-gw",
  title: "Selvage host-gw",
  note: "the host-gw backend",
  backend: { Type: "host-gw" },
  flags: [],
});

export const udpTwoWorkers = ownPath({
  id: "udp-workers-2",
  title: "Selvage udp, --workers=2",
  note: "the same with two queue pairs, as on a machine with more cores",
  backend: { Type: "udp" },
  flags: ["--workers=2"],
});
