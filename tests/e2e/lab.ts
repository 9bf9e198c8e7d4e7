/**
 * A network of real daemons for the end-to-end tests: the demo's topology, held by descriptors of
 * this process alone, with hosts that a test starts, kills and starts again.
 *
 *     container N --- cni0 [ host N: selvage run ] eth0 198.18.0.N --- switch
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout } from "node:timers/promises";
import { check, libc } from "../../ffi/libc.ts";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import { AF_INET, sockaddrIn } from "../../ffi/socket_address.ts";
import type { Status } from "../../src/agent/status.ts";
import { spawnInNetns } from "../../src/demo/child.ts";
import { DemoHost, type SelfCommand } from "../../src/demo/host.ts";
import { type HostNetwork, Topology } from "../../src/demo/topology.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";

export const EXECUTABLE: SelfCommand = { command: resolve("dist/selvage"), args: [] };
export const UNDER_DENO: SelfCommand = {
  command: process.execPath,
  args: ["run", "-A", resolve("src/main.ts")],
};

/**
 * The words that run the executable, whose path and arguments follow, as a user without rights. It
 * is copied to where this user may execute it: the tree may be root's alone.
 */
export const AS_NOBODY: readonly string[] = [
  "unshare",
  "--mount",
  "sh",
  "-c",
  'mount -t tmpfs tmpfs /mnt && install -m 755 "$1" /mnt/selvage && chmod 755 /mnt && cd / && ' +
  "shift && exec setpriv --reuid=65534 --regid=65534 --clear-groups /mnt/selvage " + '"$@"',
  "sh",
];

const TIMEOUT_MS = 30_000;
const POLL_MS = 20;
/** How long an answered ping may take. */
const ANSWER_MAX_S = 10;
const REGISTRY_PORT = 8286;

interface PingCount {
  readonly sent: number;
  readonly received: number;
}

/** Reads the closing lines of iputils' ping. */
function readPingSummary(text: string): PingCount {
  const match = /(\d+) packets transmitted, (\d+) received/.exec(text);
  assert.ok(match, `ping said: ${text}`);
  return { sent: Number(match[1]), received: Number(match[2]) };
}

/** A ping that runs while a test does something; `end` stops it and counts. */
export class RunningPing {
  #text = "";
  constructor(readonly child: ChildProcess) {
    child.stdout!.setEncoding("utf8").on("data", (part: string) => this.#text += part);
  }

  get #replyCount(): number {
    return this.#text.match(/bytes from/g)?.length ?? 0;
  }

  /** Waits until replies have come in, so that what follows happens to flowing traffic. */
  async flowing(count = 5): Promise<void> {
    const target = this.#replyCount + count;
    // A ping that is not answered says nothing at all.
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    while (this.#replyCount < target) {
      assert.equal(this.child.exitCode, null, `ping ended: ${this.#text}`);
      await once(this.child.stdout!, "data", { signal });
    }
  }

  /** Stops it; returns the numbers of the requests not answered, though later ones were. */
  async endAndListLost(): Promise<number[]> {
    await this.end();
    const answered = new Set(
      Array.from(this.#text.matchAll(/icmp_seq=(\d+) ttl=/g), ([, number]) => Number(number)),
    );
    const all = Array.from({ length: Math.max(0, ...answered) }, (_, i) => i + 1);
    return all.filter((number) => !answered.has(number));
  }

  async end(): Promise<PingCount> {
    // "close", not "exit": the summary may still be in the pipe.
    const gone = once(this.child, "close");
    this.child.kill("SIGINT");
    await gone;
    return readPingSummary(this.#text);
  }
}

/** Listens at a TCP port of loopback, in the calling thread's namespace. The caller closes it. */
export function holdTcpPort(port: number): number {
  const SOCK_STREAM = 1;
  // Else a daemon that is started meanwhile inherits it.
  const SOCK_CLOEXEC = 0o2000000;
  const fd = check(libc.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), "open a TCP socket");
  const name = sockaddrIn(new Uint8Array([127, 0, 0, 1]), port);
  check(libc.bind(fd, name, name.length), "bind");
  check(libc.listen(fd, 1), "listen");
  return fd;
}

export class Lab {
  readonly directory = mkdtempSync(join(tmpdir(), "selvage-test-"));
  readonly topology: Topology;
  /** By host number less one; null: not running. */
  readonly hosts: (DemoHost | null)[] = [];
  readonly containers: (IpAddress | null)[] = [];
  readonly #children: ChildProcess[] = [];
  readonly #signal = new AbortController().signal;
  /** Variables that the daemons get beside this process's own. */
  readonly env: Record<string, string> = {};
  /** By host number: the flags that choose its outer interface, in place of `--iface=eth0`. */
  readonly linkFlags: Record<number, readonly string[]> = {};
  #joinFile: string | null = null;

  constructor(hostCount: number, readonly self: SelfCommand = EXECUTABLE) {
    this.topology = new Topology(hostCount);
  }

  network(host: number): HostNetwork {
    return this.topology.hosts[host - 1]!;
  }

  host(host: number): DemoHost {
    const running = this.hosts[host - 1];
    assert.ok(running, `host${host} is not running`);
    return running;
  }

  hostDirectory(host: number): string {
    const directory = join(this.directory, `host${host}`);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    return directory;
  }

  /** Starts a daemon with these flags, without waiting for it. */
  launch(host: number, flags: readonly string[], self: SelfCommand = this.self): DemoHost {
    const directory = this.hostDirectory(host);
    const started = DemoHost.start(
      self,
      this.network(host),
      directory,
      flags,
      this.env,
      this.linkFlags[host],
    );
    this.hosts[host - 1] = started;
    return started;
  }

  /** Starts host 1 with the registry, without waiting for it. */
  launchRegistry(config: unknown, flags: readonly string[] = [], self = this.self): void {
    const file = join(this.directory, "net-conf.json");
    writeFileSync(file, JSON.stringify(config));
    const listen = `${this.network(1).outerAddress}:${REGISTRY_PORT}`;
    this.launch(1, [`--net-config=${file}`, `--registry-listen=${listen}`, ...flags], self);
  }

  /** Starts host 1 with the registry and waits until it is ready. */
  async startRegistry(
    config: unknown = { Network: "10.210.0.0/16" },
    flags: readonly string[] = [],
    self = this.self,
  ): Promise<Status> {
    this.launchRegistry(config, flags, self);
    return await this.ready(1);
  }

  /** The file with the join string, made at the first call. */
  async joinFile(): Promise<string> {
    if (this.#joinFile !== null) return this.#joinFile;
    const created = this.run(1, ["token", "create"]);
    assert.equal(created.status, 0, created.stderr);
    this.#joinFile = join(this.directory, "join");
    writeFileSync(this.#joinFile, created.stdout, { mode: 0o600 });
    return await Promise.resolve(this.#joinFile);
  }

  async startJoined(host: number, flags: readonly string[] = []): Promise<Status> {
    this.launch(host, [`--join=@${await this.joinFile()}`, ...flags]);
    return await this.ready(host);
  }

  ready(host: number): Promise<Status> {
    return this.until(host, "not ready", (status) => status.phase === "ready");
  }

  until(host: number, what: string, isReached: (status: Status) => boolean): Promise<Status> {
    return this.host(host).until(what, isReached, TIMEOUT_MS, this.#signal);
  }

  /** Waits until these hosts forward to this many peers. */
  async untilPeers(count: number, ...hosts: number[]): Promise<void> {
    await Promise.all(
      hosts.map((host) =>
        this.until(host, `not ${count} peers`, (status) => status.backend?.peerCount === count)
      ),
    );
  }

  async attach(host: number): Promise<IpAddress> {
    const status = await this.ready(host);
    const subnet = IpPrefix.parse(status.lease!.subnets[0]!);
    const mtu_bytes = status.backend!.mtu_bytes;
    const address = await this.topology.attachContainer(this.network(host), subnet, mtu_bytes);
    this.containers[host - 1] = address;
    return address;
  }

  /** Starts this many hosts, the first with the registry, each with a container. */
  async startAll(): Promise<void> {
    const count = this.topology.hosts.length;
    const numbers = Array.from({ length: count }, (_, i) => i + 1);
    await this.startRegistry();
    await this.joinFile();
    await Promise.all(numbers.slice(1).map((host) => this.startJoined(host)));
    await this.untilPeers(count - 1, ...numbers);
    for (const host of numbers) await this.attach(host);
  }

  /** Runs a command of selvage against a host's socket, to its end. */
  run(host: number, args: readonly string[]) {
    const socket = join(this.hostDirectory(host), "api.sock");
    const env = { ...process.env, SELVAGE_API_SOCKET: socket };
    const all = [...this.self.args, ...args];
    return spawnSync(this.self.command, all, { encoding: "utf8", env, timeout: TIMEOUT_MS });
  }

  /** Runs any program in a namespace, to its end. */
  exec(netns: Netns, command: string, ...args: string[]) {
    return withNetns(
      netns,
      () => spawnSync(command, args, { encoding: "utf8", timeout: TIMEOUT_MS }),
    );
  }

  /** Sends one ping from a host's container; whether it was answered within `wait_s`. */
  ping(from: number, to: IpAddress, wait_s: number, ...flags: string[]): boolean {
    const args = ["-n", "-c", "1", "-W", String(wait_s), ...flags, String(to)];
    return this.exec(this.network(from).container, "ping", ...args).status === 0;
  }

  /**
   * Has three pings from a host's container answered. One at a time: of several in a row ping waits
   * for the last only twice as long as for those before it, which on a busy machine is too short.
   */
  assertAnswered(from: number, to: IpAddress, ...flags: string[]): void {
    for (let i = 1; i <= 3; i++) {
      const isAnswered = this.ping(from, to, ANSWER_MAX_S, ...flags);
      assert.ok(isAnswered, `ping ${i} from host${from} to ${to} was not answered`);
    }
  }

  /** The same on each of these ways between containers. */
  assertPings(...ways: readonly (readonly [from: number, to: number])[]): void {
    for (const [from, to] of ways) this.assertAnswered(from, this.containers[to - 1]!);
  }

  /** Waits until a ping from a host's container is answered; `end_ms` is of `performance.now`. */
  async untilAnswered(from: number, to: IpAddress, end_ms: number): Promise<void> {
    while (!this.ping(from, to, 1)) {
      assert.ok(performance.now() < end_ms, `host${from} does not reach ${to}: ${this.log(from)}`);
      await setTimeout(POLL_MS);
    }
  }

  /** The same between containers. */
  async untilPing(from: number, to: number, end_ms = performance.now() + TIMEOUT_MS) {
    await this.untilAnswered(from, this.containers[to - 1]!, end_ms);
  }

  /** Starts a ping every 10 ms from container to container. */
  startPing(from: number, to: number): RunningPing {
    const args = ["-n", "-i", "0.01", String(this.containers[to - 1])];
    const child = spawnInNetns(this.network(from).container, "ping", args, [
      "ignore",
      "pipe",
      "inherit",
    ]);
    this.#children.push(child);
    return new RunningPing(child);
  }

  /** Sends a signal to a daemon; not by child.kill(), which Deno takes for its end. */
  signal(host: number, signal: "SIGSTOP" | "SIGCONT"): void {
    process.kill(this.host(host).pid, signal);
  }

  /** Ends a daemon as a power cut would, and waits until it is gone. */
  async kill(host: number): Promise<void> {
    const { process: child } = this.host(host);
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
    this.hosts[host - 1] = null;
  }

  async stop(host: number): Promise<void> {
    const running = this.host(host);
    this.hosts[host - 1] = null;
    await running.stop();
    const { exitCode, signalCode } = running.process;
    assert.equal(exitCode ?? signalCode, 0, `host${host}: ${running.logTail()}`);
  }

  log(host: number): string {
    return readFileSync(join(this.hostDirectory(host), "log"), "utf8");
  }

  /** Ends everything that still runs, and lets go of the namespaces. */
  async close(): Promise<void> {
    for (const child of this.#children) child.kill("SIGKILL");
    await Promise.all(this.hosts.map((host) => host?.stop()));
    this.topology.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Runs a test in a lab of its own, which is torn down whatever happens. */
export async function withLab(
  hostCount: number,
  run: (lab: Lab) => Promise<void>,
  self: SelfCommand = EXECUTABLE,
): Promise<void> {
  const lab = new Lab(hostCount, self);
  try {
    await run(lab);
  } catch (error) {
    for (let host = 1; host <= hostCount; host++) {
      try {
        console.error(`--- log of host${host}\n${lab.log(host)}`);
      } catch {
        // It was never started.
      }
    }
    throw error;
  } finally {
    await lab.close();
  }
}
