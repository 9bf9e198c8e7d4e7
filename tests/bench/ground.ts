/**
 * The ground that a foreign path is built on: the demo's two hosts and their switch, and what it
 * takes to start programs in them. iproute2 configures what is not ours.
 *
 *     container 1 --- cni0 [ host 1 ] eth0 198.18.0.1 --- switch --- host 2 and container 2 alike
 *     10.210.1.2                        \__ the path: a tunnel, or plain routes __/
 */
import type { ChildProcess } from "node:child_process";
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { withNetns } from "../../ffi/netns.ts";
import { type HostNetwork, Topology } from "../../src/demo/topology.ts";
import { type IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { setTimeout as pause } from "node:timers/promises";
import { spawnMortal } from "./children.ts";
import { endProcessesIn } from "./processes.ts";

/** MTU of the links between the hosts. */
export const OUTER_MTU_BYTES = 1500;
const COMMAND_TIMEOUT_MS = 20_000;
const DEVICE_TIMEOUT_MS = 15_000;
const POLL_MS = 50;
const LOG_CHARACTERS_SHOWN = 600;

export type HostNumber = 1 | 2;
export const HOST_NUMBERS: readonly HostNumber[] = [1, 2];

export function otherHost(host: HostNumber): HostNumber {
  return host === 1 ? 2 : 1;
}

/** The subnet of a host's containers. */
export function subnetOf(host: HostNumber): IpPrefix {
  return IpPrefix.parse(`10.210.${host}.0/24`);
}

/** A host's address inside a tunnel that has addresses of its own. */
export function tunnelAddress(host: HostNumber): string {
  return `10.209.0.${host}`;
}

export class Ground {
  readonly directory = mkdtempSync(join(tmpdir(), "selvage-bench-"));
  readonly #topology: Topology;
  readonly containers: IpAddress[] = [];
  readonly #started: { name: string; child: ChildProcess }[] = [];

  constructor(readonly signal: AbortSignal) {
    try {
      this.#topology = new Topology(2);
    } catch (error) {
      rmSync(this.directory, { recursive: true, force: true });
      throw error;
    }
  }

  network(host: HostNumber): HostNetwork {
    return this.#topology.hosts[host - 1]!;
  }

  /** The address by which the other host reaches this one. */
  outerAddress(host: HostNumber): string {
    return this.network(host).outerAddress.toString();
  }

  /** Where a file of this name is, for a program to read. */
  file(name: string): string {
    return join(this.directory, name);
  }

  /** Runs a program on a host to its end and gives its stdout. Throws what it complained of. */
  run(host: HostNumber, command: string, ...args: string[]): string {
    this.signal.throwIfAborted();
    const result = withNetns(
      this.network(host).host,
      () => spawnSync(command, args, { encoding: "utf8", timeout: COMMAND_TIMEOUT_MS }),
    );
    if (result.status === 0) return result.stdout;
    const why = result.error?.message ?? `${result.stderr}${result.stdout}`.trim();
    throw new Error(`${[command, ...args].join(" ")}: ${why}`);
  }

  ip(host: HostNumber, ...args: string[]): void {
    this.run(host, "ip", ...args);
  }

  /** Starts a daemon on a host; it stays in the foreground and its output goes to a log. */
  start(host: HostNumber, command: string, ...args: string[]): void {
    this.#start(host, command, command, args);
  }

  #start(host: HostNumber, name: string, command: string, args: readonly string[]): void {
    this.signal.throwIfAborted();
    const log = openSync(this.file(`host${host}-${name}.log`), "a", 0o600);
    try {
      const child = spawnMortal(this.network(host).host, command, args, ["ignore", log, log]);
      child.on("error", () => {});
      this.#started.push({ name, child });
    } finally {
      closeSync(log);
    }
  }

  /** The same with a `/run` of its own, for daemons that leave files there under fixed names. */
  startPrivate(host: HostNumber, command: string, ...args: string[]): void {
    const script = 'mount -t tmpfs run /run && exec "$@"';
    const own = ["--mount", "--", "sh", "-c", script, "sh", command, ...args];
    this.#start(host, command, "unshare", own);
  }

  /** Throws if a daemon has ended. */
  #checkAlive(): void {
    for (const { name, child } of this.#started) {
      if (child.exitCode === null && child.signalCode === null) continue;
      throw new Error(`${name} ended with ${child.exitCode ?? child.signalCode}`);
    }
  }

  /** Polls until the condition holds. Throws `what` if it does not in time, or a daemon ended. */
  async until(what: string, isReached: () => boolean): Promise<void> {
    const end_ms = performance.now() + DEVICE_TIMEOUT_MS;
    while (!isReached()) {
      this.signal.throwIfAborted();
      this.#checkAlive();
      if (performance.now() > end_ms) {
        throw new Error(`${what}: not within ${DEVICE_TIMEOUT_MS / 1000} s`);
      }
      await pause(POLL_MS);
    }
  }

  /** Waits until a daemon has made its device. */
  async device(host: HostNumber, name: string): Promise<void> {
    const exists = () => {
      const show = () => spawnSync("ip", ["link", "show", "dev", name], { stdio: "ignore" });
      return withNetns(this.network(host).host, show).status === 0;
    };
    await this.until(`device ${name} of host ${host}`, exists);
  }

  /** Waits until something on the host listens on a TCP port. */
  async listening(host: HostNumber, port: number): Promise<void> {
    await this.until(`port ${port} of host ${host}`, () => {
      return this.run(host, "ss", "-Htln", `sport = :${port}`).trim() !== "";
    });
  }

  /** How many TCP connections stand on a host: its daemon's, since nothing else is there. */
  connectionCount(host: HostNumber): number {
    return this.run(host, "ss", "-Htn", "state", "established").split("\n").length - 1;
  }

  /** Gives a host its container. */
  async attach(host: HostNumber, mtu_bytes: number): Promise<void> {
    this.containers[host - 1] = await this.#topology.attachContainer(
      this.network(host),
      subnetOf(host),
      mtu_bytes,
    );
  }

  /** Sends what is for the other host's containers this way: `dev X`, `via Y`. */
  route(host: HostNumber, ...way: string[]): void {
    this.ip(host, "route", "add", subnetOf(otherHost(host)).toString(), ...way);
  }

  /** The ends of all logs, for when it does not work; on one line. */
  logs(): string {
    const files = readdirSync(this.directory).filter((name) => name.endsWith(".log"));
    return files.sort().map((name) => {
      const text = readFileSync(this.file(name), "utf8").trim().replace(/\s+/g, " ");
      return text === "" ? "" : `${name}: ${text.slice(-LOG_CHARACTERS_SHOWN)}`;
    }).filter((text) => text !== "").join("; ");
  }

  /** Ends everything in the namespaces and lets go of them. */
  async close(): Promise<void> {
    const namespaces = this.#topology.hosts.flatMap(({ host, container }) => [host, container]);
    await endProcessesIn(...namespaces);
    this.#topology.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
