/** `selvage demo`: the main job on one machine, start to end, with real daemons. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { selfCommand } from "../../ffi/self_command.ts";
import type { Status } from "../agent/status.ts";
import { requireCapabilities, requireTun } from "../agent/preflight.ts";
import { statusText } from "../cli/status_text.ts";
import type { DemoOptions } from "../cli/context.ts";
import { SelvageError } from "../errors.ts";
import { IpPrefix } from "../net/ip.ts";
import { Container } from "./container.ts";
import { DemoHost, type SelfCommand } from "./host.ts";
import {
  allPairs,
  measurePing,
  measureTransfer,
  type PingReport,
  ringPairs,
  type TransferReport,
} from "./measure.ts";
import { Progress } from "./progress.ts";
import {
  type DemoReport,
  formatFailures,
  formatPings,
  formatSuccess,
  formatTransfers,
} from "./report.ts";
import { type HostNetwork, Topology } from "./topology.ts";

/** How long a daemon may make no progress; one that makes progress is waited for. */
const STUCK_TIMEOUT_MS = 30_000;
const REGISTRY_PORT = 8286;
const NETWORK = "10.210.0.0/16";

/** The configuration that `--backend` and `--generation` stand for. */
function networkConfig({ backend, generation }: DemoOptions) {
  switch (backend) {
    case "vxlan":
      return { Network: NETWORK, Backend: { Type: "vxlan", Generation: generation } };
    case "vxlan-userspace":
      return { Network: NETWORK, Backend: { Type: "vxlan", Datapath: "userspace" } };
    default:
      return { Network: NETWORK, Backend: { Type: backend } };
  }
}

/** What a shell reports of a program that SIGINT ended. */
const EXIT_INTERRUPTED = 130;

/**
 * Runs the demo until it is done or a signal ends it; either way everything is torn down first.
 * Resolves with the exit status. `mainUrl` is the entry module's own URL.
 */
export async function runDemo(options: DemoOptions, mainUrl: string): Promise<number> {
  const ending = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => ending.abort());
  }
  try {
    return await Demo.run(options, selfCommand(mainUrl), ending.signal);
  } catch (error) {
    if (ending.signal.aborted) return EXIT_INTERRUPTED;
    throw error;
  }
}

class Demo {
  readonly #options: DemoOptions;
  readonly #self: SelfCommand;
  readonly #signal: AbortSignal;
  readonly #progress: Progress;
  readonly #directory = mkdtempSync(join(tmpdir(), "selvage-demo-"));
  #topology: Topology | null = null;
  readonly #hosts: DemoHost[] = [];
  readonly #containers: Container[] = [];

  private constructor(options: DemoOptions, self: SelfCommand, signal: AbortSignal) {
    this.#options = options;
    this.#self = self;
    this.#signal = signal;
    this.#progress = new Progress(options.json);
  }

  /**
   * Builds the hosts, runs the measurements and tears everything down, whatever happens. Resolves
   * with the exit status: 0 only if every packet and byte arrived.
   */
  static async run(
    options: DemoOptions,
    self: SelfCommand,
    signal: AbortSignal,
  ): Promise<number> {
    requireCapabilities("selvage demo", "CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_NET_RAW");
    requireTun();
    const demo = new Demo(options, self, signal);
    try {
      return await demo.#run();
    } finally {
      await demo.#tearDown();
    }
  }

  async #run(): Promise<number> {
    const start_ms = performance.now();
    const { hosts: hostCount } = this.#options;
    this.#topology = await this.#step(
      `a switch, ${hostCount} hosts, a container on each`,
      () => new Topology(hostCount),
    );
    await this.#step("selvage run on host1, with the registry", () => this.#startFirst());
    await this.#step(
      hostCount === 2 ? "host2 joins" : `host2 to host${hostCount} join`,
      () => this.#startOthers(),
    );
    const statuses = await this.#step(
      "every host knows every other",
      () => this.#untilAllKnown(),
    );
    await this.#step("containers attached", () => this.#attachContainers(statuses));
    const pings = await this.#step("pings, all pairs, both ways", () => this.#pingAll());
    const transfers = await this.#step(
      "TCP transfers, both ways, hashed at both ends",
      () => this.#transferAll(),
    );
    const report = this.#report(statuses, pings, transfers, performance.now() - start_ms);
    await this.#show(report);
    if (this.#options.keep) await this.#stay();
    return report.ok ? 0 : 1;
  }

  /** One step of the run; an interruption ends it at once, for the tear-down to follow. */
  #step<T>(text: string, work: () => T | Promise<T>): Promise<T> {
    this.#signal.throwIfAborted();
    const interrupted = new Promise<never>((_, reject) =>
      this.#signal.addEventListener("abort", () => reject(this.#signal.reason), { once: true })
    );
    return this.#progress.step(text, () => Promise.race([work(), interrupted]));
  }

  #startHost(network: HostNetwork, flags: readonly string[]): DemoHost {
    this.#signal.throwIfAborted();
    const directory = join(this.#directory, network.name);
    mkdirSync(directory, { mode: 0o700 });
    // The resolvers of the machine are of no use in the demo's network, wherever they are.
    const all = [...flags, "--allow-network-overlap"];
    const host = DemoHost.start(this.#self, network, directory, all);
    this.#hosts.push(host);
    return host;
  }

  #untilReady(host: DemoHost): Promise<Status> {
    return this.#until(host, "not ready", (status) => status.phase === "ready");
  }

  #until(host: DemoHost, what: string, isReached: (status: Status) => boolean): Promise<Status> {
    const onLate = (text: string) => this.#progress.late(text);
    return host.untilStuck(what, isReached, STUCK_TIMEOUT_MS, this.#signal, onLate);
  }

  async #startFirst(): Promise<void> {
    const network = this.#topology!.hosts[0]!;
    const file = join(this.#directory, "net-conf.json");
    writeFileSync(file, JSON.stringify(networkConfig(this.#options)));
    const host = this.#startHost(network, [
      `--net-config=${file}`,
      `--registry-listen=${network.outerAddress}:${REGISTRY_PORT}`,
    ]);
    await this.#untilReady(host);
  }

  async #startOthers(): Promise<void> {
    const first = this.#hosts[0]!;
    const json = { scope: "join" as const, description: "selvage demo" };
    const response = await first.client.v1.tokens.$post({ json });
    if (!response.ok) {
      throw new SelvageError("unavailable", `no join token: HTTP status ${response.status}`);
    }
    const { secret } = await response.json();
    const file = join(this.#directory, "join");
    writeFileSync(file, `${secret}\n`, { mode: 0o600 });
    const hosts = this.#topology!.hosts.slice(1);
    const started = hosts.map((network) => this.#startHost(network, [`--join=@${file}`]));
    await Promise.all(started.map((host) => this.#untilReady(host)));
  }

  #untilAllKnown(): Promise<Status[]> {
    const peerCount = this.#options.hosts - 1;
    const knowsAll = (status: Status) => status.backend?.peerCount === peerCount;
    return Promise.all(
      this.#hosts.map((host) => this.#until(host, "peers missing", knowsAll)),
    );
  }

  async #attachContainers(statuses: readonly Status[]): Promise<void> {
    const addresses = await Promise.all(this.#topology!.hosts.map((network, i) => {
      const status = statuses[i]!;
      const subnet = IpPrefix.parse(status.lease!.subnets[0]!);
      return this.#topology!.attachContainer(network, subnet, status.backend!.mtu_bytes);
    }));
    for (const [i, network] of this.#topology!.hosts.entries()) {
      this.#containers.push(new Container(this.#self, network, addresses[i]!));
    }
    await Promise.all(this.#containers.map((container) => container.ready()));
  }

  /** Generation 1 drops the packet by which the kernel finds out that it knows no way. */
  get #losesFirst(): boolean {
    return this.#options.backend === "vxlan" && this.#options.generation === 1;
  }

  async #pingAll(): Promise<PingReport[]> {
    // A probe does one thing at a time; the probes of several containers run side by side.
    const rows = await Promise.all(this.#containers.map(async (from) => {
      const row: PingReport[] = [];
      for (const [source, to] of allPairs(this.#containers)) {
        if (source === from) row.push(await measurePing(from, to, this.#losesFirst));
      }
      return row;
    }));
    return rows.flat();
  }

  async #transferAll(): Promise<TransferReport[]> {
    const reports: TransferReport[] = [];
    for (const [from, to] of ringPairs(this.#containers)) {
      this.#signal.throwIfAborted();
      reports.push(await measureTransfer(from, to, this.#options.size_bytes));
      this.#progress.detail(`${reports.length} done`);
    }
    return reports;
  }

  #report(
    statuses: readonly Status[],
    pings: PingReport[],
    transfers: TransferReport[],
    duration_ms: number,
  ): DemoReport {
    return {
      ok: [...pings, ...transfers].every((one) => one.ok),
      hostCount: this.#options.hosts,
      backend: this.#options.backend,
      duration_ms: Math.round(duration_ms),
      hosts: this.#topology!.hosts.map((network, i) => ({
        name: network.name,
        outerAddress: network.outerAddress.toString(),
        subnet: statuses[i]!.lease!.subnets[0]!,
        container: this.#containers[i]!.address.toString(),
      })),
      pings,
      transfers,
    };
  }

  async #show(report: DemoReport): Promise<void> {
    if (this.#options.json) {
      process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
      return;
    }
    const status = await this.#hosts[0]!.status();
    const names = report.hosts.map((host) => host.name);
    const parts = [
      formatPings(names, report.pings),
      formatTransfers(report.transfers),
      formatFailures(report),
      "selvage status, on host1:",
      status === null ? "(no answer)" : statusText(status, { verbose: false }),
      report.ok
        ? `${formatSuccess(report)} ` +
          "To try it on your own hosts, see: selvage run --help"
        : "FAILED: not everything arrived as sent.",
    ];
    process.stdout.write(
      `\n${parts.map((part) => part.trimEnd()).filter((part) => part !== "").join("\n\n")}\n`,
    );
  }

  /** Says how to look around, and waits to be interrupted. */
  async #stay(): Promise<void> {
    const lines = this.#hosts.map((host) =>
      `  ${host.network.name}: nsenter --net=/proc/${host.pid}/ns/net    ` +
      `selvage status --api-socket=${host.socketPath}`
    );
    this.#progress.say(["", "The hosts stay up; look around:", ...lines, "Ctrl-C ends it."]);
    await new Promise<void>((resolve) => {
      if (this.#signal.aborted) resolve();
      this.#signal.addEventListener("abort", () => resolve(), { once: true });
      // An abort listener alone does not keep the process alive.
      const timer = setInterval(() => {}, 2 ** 30);
      this.#signal.addEventListener("abort", () => clearInterval(timer), { once: true });
    });
  }

  /** Ends all processes, and then the namespaces, whatever becomes of any of them. */
  async #tearDown(): Promise<void> {
    await Promise.allSettled(this.#containers.map((container) => container.stop()));
    await Promise.allSettled(this.#hosts.map((host) => host.stop()));
    this.#topology?.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
