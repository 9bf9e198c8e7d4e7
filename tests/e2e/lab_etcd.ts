/** A real etcd on the first host of a lab, where all hosts reach it. */
import assert from "node:assert/strict";
import { type ChildProcess, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { withNetns } from "../../ffi/netns.ts";
import { spawnInNetns } from "../../src/demo/child.ts";
import type { Status } from "../../src/agent/status.ts";
import { EXECUTABLE, type Lab } from "./lab.ts";

const START_TIMEOUT_MS = 20_000;
const COMMAND_TIMEOUT_MS = 30_000;
const RETRY_MS = 100;
const CHILD = resolve("tests/e2e/etcd_child.ts");
export const ETCD_PREFIX = "/coreos.com/network";

export class LabEtcd {
  readonly url: string;
  readonly #data = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "selvage-"));
  #child: ChildProcess | null = null;

  constructor(readonly lab: Lab) {
    this.url = `http://${lab.network(1).outerAddress}:2379`;
  }

  get flag(): string {
    return `--etcd-endpoints=${this.url}`;
  }

  /** Starts it, with what it had; whoever asks it waits until it answers. */
  start(): void {
    const peer = "http://127.0.0.1:2380";
    this.#child = spawnInNetns(this.lab.network(1).host, "etcd", [
      ...["--name", "one", "--data-dir", this.#data, "--log-level", "error", "--logger", "zap"],
      ...["--listen-client-urls", this.url, "--advertise-client-urls", this.url],
      ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
      ...["--initial-cluster", `one=${peer}`],
    ], ["ignore", "ignore", "ignore"]);
  }

  /** Ends it as a power cut would. */
  async kill(): Promise<void> {
    if (this.#child === null) return;
    const gone = once(this.#child, "exit");
    this.#child.kill("SIGKILL");
    await gone;
    this.#child = null;
  }

  /** Stops it, so that it takes connections and answers nothing, or has it go on. */
  signal(signal: "SIGSTOP" | "SIGCONT"): void {
    // Not by child.kill(), which Deno takes for its end.
    process.kill(this.#child!.pid!, signal);
  }

  /** Puts the configuration into force by selvage's own command, once etcd answers. */
  async setConfig(config: unknown): Promise<void> {
    const command = `echo '${JSON.stringify(config)}' | ` +
      `${EXECUTABLE.command} config set --force ${this.flag} -`;
    const end_ms = performance.now() + START_TIMEOUT_MS;
    while (true) {
      const { status, stderr } = this.lab.exec(this.lab.network(1).host, "sh", "-c", command);
      if (status === 0) return;
      assert.ok(performance.now() < end_ms, stderr);
      await pause(RETRY_MS);
    }
  }

  /** Runs a command of selvage on a host, with this etcd's endpoint as its last arguments. */
  run(host: number, ...args: string[]) {
    const env = {
      ...process.env,
      SELVAGE_API_SOCKET: join(this.lab.hostDirectory(host), "api.sock"),
    };
    const options = { encoding: "utf8", timeout: COMMAND_TIMEOUT_MS, env } as const;
    return withNetns(
      this.lab.network(host).host,
      () => spawnSync(EXECUTABLE.command, [...args, this.flag], options),
    );
  }

  #act(...args: string[]): string {
    const all = ["run", "-A", CHILD, this.url, ...args];
    const done = this.lab.exec(this.lab.network(1).host, process.execPath, ...all);
    assert.equal(done.status, 0, done.stderr);
    return done.stdout;
  }

  /** The subnets' keys, without the prefix, and their values. */
  leases(): Map<string, string> {
    const prefix = `${ETCD_PREFIX}/subnets/`;
    const pairs: [string, string][] = JSON.parse(this.#act("list", prefix));
    return new Map(pairs.map(([key, value]) => [key.slice(prefix.length), value]));
  }

  putLease(name: string, value: unknown): void {
    this.#act("put", `${ETCD_PREFIX}/subnets/${name}`, JSON.stringify(value));
  }

  deleteLease(name: string): void {
    this.#act("delete", `${ETCD_PREFIX}/subnets/${name}`);
  }

  /** Ends etcd's lease under it, as its expiry would. */
  expireLease(name: string): void {
    this.#act("expire", `${ETCD_PREFIX}/subnets/${name}`);
  }

  /** What was in the key of a lease, one value after the other; null: it was deleted. */
  leaseHistory(name: string): (string | null)[] {
    return JSON.parse(this.#act("history", `${ETCD_PREFIX}/subnets/${name}`));
  }

  /** Starts these hosts over it, each with a container. */
  async startHosts(hosts: readonly number[], flags: readonly string[] = []): Promise<Status[]> {
    for (const host of hosts) this.lab.launch(host, [this.flag, ...flags]);
    const statuses = await Promise.all(hosts.map((host) => this.lab.ready(host)));
    await this.lab.untilPeers(hosts.length - 1, ...hosts);
    for (const host of hosts) await this.lab.attach(host);
    return statuses;
  }

  async close(): Promise<void> {
    await this.kill();
    rmSync(this.#data, { recursive: true, force: true });
  }
}
