/**
 * Real etcd servers on loopback, one or three members, with their data in memory. All of them end
 * with the lab, whatever the test did, and with the process.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EtcdOptions } from "../../src/etcd/client/open_etcd.ts";
import { Authority, type Subject } from "./certificates.ts";

/** How the members speak to clients. */
export interface LabTls {
  /** What is in the servers' certificate. */
  readonly server: Omit<Subject, "name">;
  /** Whether clients must have a certificate of the lab's authority. */
  readonly demandsClientCertificate?: boolean;
}

export interface LabUser {
  readonly username: string;
  readonly password: string;
  /** The user may read and write keys with this prefix. */
  readonly prefix: string;
}

export interface LabOptions {
  readonly memberCount?: 1 | 3;
  readonly tls?: LabTls;
  /** Authentication is switched on, with this user and with root. */
  readonly user?: LabUser;
  readonly tokenTtl_s?: number;
  readonly databaseSizeMax_bytes?: number;
  /** Where the members listen for clients. */
  readonly address?: string;
  /** Beside the environment of this process, as `ETCD_…`. */
  readonly env?: Readonly<Record<string, string>>;
}

const START_TIMEOUT_MS = 30_000;
const LOG_LENGTH_MAX = 20_000;
const ROOT_PASSWORD = "root of the lab";
/** Outside the range from which the kernel takes ports for outgoing connections. */
const PORTS = { first: 20_000, count: 12_000 };

/** Children of this process and their directories, for its end. */
const running = new Set<ChildProcess>();
const directories = new Set<string>();
process.on("exit", () => {
  for (const child of running) sendSignal(child, "SIGKILL");
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

/** `ChildProcess.kill` does nothing the second time under Deno. */
function sendSignal({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid !== undefined) process.kill(pid, signal);
}

/** Whether every thread has stopped (proc_pid_stat(5): the state follows the name). */
function isStopped({ pid }: ChildProcess): boolean {
  const tasks = `/proc/${pid}/task`;
  try {
    return readdirSync(tasks).every((task) => {
      return /\) [Tt] /.test(readFileSync(`${tasks}/${task}/stat`, "utf8"));
    });
  } catch {
    // A thread has ended since.
    return false;
  }
}

function canListen(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = PORTS.first + Math.floor(Math.random() * PORTS.count);
    if (await canListen(port)) ports.add(port);
  }
  return [...ports];
}

export function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

function shown(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}

/** The end of a prefix's range; test prefixes end with a character before the last. */
function endOf(prefix: string): string {
  const last = prefix.charCodeAt(prefix.length - 1);
  return prefix.slice(0, -1) + String.fromCharCode(last + 1);
}

interface MemberPlan {
  readonly name: string;
  readonly arguments: readonly string[];
  readonly dataDirectory: string;
  readonly endpoint: string;
  /** Plain, for the lab alone. */
  readonly adminUrl: string;
  readonly healthUrl: string;
  readonly env: Readonly<Record<string, string>>;
}

/** One etcd server. */
export class EtcdMember {
  #child: ChildProcess | null = null;
  #isPaused = false;
  #log = "";

  constructor(private readonly plan: MemberPlan) {}

  get name(): string {
    return this.plan.name;
  }

  /** For clients. */
  get endpoint(): string {
    return this.plan.endpoint;
  }

  get isRunning(): boolean {
    return this.#child !== null;
  }

  /** What the server has said of late. */
  get log(): string {
    return this.#log;
  }

  /** Starts the process; `awaitHealth` says when it serves. */
  start(): void {
    if (this.#child !== null) return;
    const child = spawn("etcd", this.plan.arguments, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ...this.plan.env },
    });
    this.#child = child;
    running.add(child);
    const keep = (text: string) => this.#log = (this.#log + text).slice(-LOG_LENGTH_MAX);
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8");
      stream.on("data", keep);
    }
    child.once("error", (error) => keep(String(error)));
    child.once("close", () => {
      running.delete(child);
      if (this.#child === child) this.#child = null;
    });
  }

  /** Waits until it says that it is healthy: it has a leader, and can write. */
  async awaitHealth(): Promise<void> {
    const until_ms = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      if (this.#child === null) throw new Error(`etcd ${this.name} ended:\n${this.#log}`);
      const answer = await fetch(this.plan.healthUrl, { signal: AbortSignal.timeout(2_000) })
        .then((response) => response.text(), () => "");
      if (answer.includes('"true"')) return;
      if (performance.now() > until_ms) {
        throw new Error(`etcd ${this.name} is not healthy (${answer}):\n${this.#log}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
  }

  /** The sum of a metric of the server, over its labels. */
  async metric(name: string): Promise<number> {
    const response = await fetch(this.plan.healthUrl.replace(/health$/, "metrics"));
    const lines = (await response.text()).split("\n").filter((line) => {
      return line.startsWith(`${name} `) || line.startsWith(`${name}{`);
    });
    if (lines.length === 0) throw new Error(`etcd has no metric ${name}`);
    return lines.reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    const closed = once(child, "close");
    sendSignal(child, signal);
    await closed;
  }

  /** SIGKILL, and waits for its end. */
  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  /** SIGTERM, and waits for its end. */
  terminate(): Promise<void> {
    return this.#end("SIGTERM");
  }

  /** SIGSTOP: its sockets stand, and nothing answers. Waits until all its threads have stopped. */
  async pause(): Promise<void> {
    const child = this.#child;
    if (child === null) return;
    this.#isPaused = true;
    sendSignal(child, "SIGSTOP");
    while (this.#isPaused && this.#child === child && !isStopped(child)) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** SIGCONT. */
  resume(): void {
    this.#isPaused = false;
    if (this.#child !== null) sendSignal(this.#child, "SIGCONT");
  }

  async restart(): Promise<void> {
    await this.kill();
    this.start();
    await this.awaitHealth();
  }

  /** Throws its data away; only while it does not run. */
  wipe(): void {
    rmSync(this.plan.dataDirectory, { recursive: true, force: true });
  }

  /** A call of etcd's JSON gateway: `/v3/kv/put` and the like. */
  async admin(path: string, body: unknown, token?: string): Promise<Record<string, unknown>> {
    const response = await fetch(`${this.plan.adminUrl}${path}`, {
      method: "POST",
      body: JSON.stringify(body),
      headers: token === undefined ? {} : { authorization: token },
      signal: AbortSignal.timeout(10_000),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
    return JSON.parse(text) as Record<string, unknown>;
  }
}

export class EtcdLab {
  #token: string | undefined;

  private constructor(
    readonly directory: string,
    readonly members: readonly EtcdMember[],
    /** Who signs the lab's certificates; null: no TLS. */
    readonly authority: Authority | null,
    private readonly options: LabOptions,
  ) {}

  /** Starts the servers and waits until they serve. */
  static async start(options: LabOptions = {}): Promise<EtcdLab> {
    for (let tryCount = 1;; tryCount++) {
      const lab = await EtcdLab.#plan(options);
      try {
        lab.startAll();
        await lab.awaitHealth();
        if (options.user !== undefined) await lab.#enableAuthentication(options.user);
        return lab;
      } catch (error) {
        await lab.stop();
        // Another test may have taken a port since it was found free.
        if (tryCount === 3 || !String(error).includes("address already in use")) throw error;
      }
    }
  }

  static async #plan(options: LabOptions): Promise<EtcdLab> {
    const { memberCount = 1, address = "127.0.0.1", tls } = options;
    const parent = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
    const directory = mkdtempSync(join(parent, "selvage-etcd-"));
    directories.add(directory);
    const authority = tls === undefined ? null : await Authority.make(directory);
    const tlsFlags: string[] = [];
    if (authority !== null) {
      const { certfile, keyfile } = await authority.issue({ name: "server", ...tls!.server });
      tlsFlags.push("--cert-file", certfile, "--key-file", keyfile);
      if (tls!.demandsClientCertificate === true) {
        tlsFlags.push("--client-cert-auth", "--trusted-ca-file", authority.cafile);
      }
    }
    const ports = await freePorts(4 * memberCount);
    const plans = Array.from({ length: memberCount }, (_, i) => {
      const [client, peer, admin, health] = ports.slice(4 * i, 4 * i + 4);
      const scheme = tls === undefined ? "http" : "https";
      return {
        name: `m${i}`,
        endpoint: `${scheme}://${shown(address)}:${client}`,
        peerUrl: `http://127.0.0.1:${peer}`,
        adminUrl: `http://127.0.0.1:${admin}`,
        healthUrl: `http://127.0.0.1:${health}`,
      };
    });
    const cluster = plans.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(",");
    const members = plans.map((plan) => {
      const dataDirectory = join(directory, plan.name);
      const flags = [
        ...["--name", plan.name, "--data-dir", dataDirectory],
        ...["--listen-client-urls", `${plan.endpoint},${plan.adminUrl}`],
        ...["--advertise-client-urls", plan.endpoint],
        ...["--listen-peer-urls", plan.peerUrl, "--initial-advertise-peer-urls", plan.peerUrl],
        ...["--initial-cluster", cluster, "--listen-metrics-urls", plan.healthUrl],
        ...["--heartbeat-interval", "50", "--election-timeout", "500"],
        ...["--log-level", "warn", "--logger", "zap", ...tlsFlags],
        ...flag("--auth-token-ttl", options.tokenTtl_s),
        ...flag("--quota-backend-bytes", options.databaseSizeMax_bytes),
      ];
      return new EtcdMember({
        name: plan.name,
        arguments: flags,
        dataDirectory,
        endpoint: plan.endpoint,
        adminUrl: plan.adminUrl,
        healthUrl: `${plan.healthUrl}/health`,
        env: options.env ?? {},
      });
    });
    return new EtcdLab(directory, members, authority, options);
  }

  /** What a client needs to be let in. */
  get clientOptions(): EtcdOptions {
    const { user } = this.options;
    return {
      endpoints: this.members.map((member) => member.endpoint),
      cafile: this.authority?.cafile ?? null,
      certfile: null,
      keyfile: null,
      username: user?.username ?? null,
      password: user?.password ?? null,
    };
  }

  /** Starts those that do not run. */
  startAll(): void {
    for (const member of this.members) member.start();
  }

  async awaitHealth(): Promise<void> {
    await Promise.all(this.members.map((member) => member.awaitHealth()));
  }

  async killAll(): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill()));
  }

  async restartAll(): Promise<void> {
    await this.killAll();
    this.startAll();
    await this.awaitHealth();
  }

  /** A call of the JSON gateway at a member that runs, as root where there is authentication. */
  async admin(path: string, body: unknown): Promise<Record<string, unknown>> {
    const member = this.members.find((one) => one.isRunning);
    if (member === undefined) throw new Error("no member runs");
    if (this.options.user !== undefined && this.#token === undefined) {
      const root = { name: "root", password: ROOT_PASSWORD };
      const answer = await member.admin("/v3/auth/authenticate", root).catch(() => ({}));
      this.#token = (answer as { token?: string }).token;
    }
    try {
      return await member.admin(path, body, this.#token);
    } finally {
      // It may be gone by the next time.
      this.#token = undefined;
    }
  }

  async #enableAuthentication({ username, password, prefix }: LabUser): Promise<void> {
    const permission = {
      permType: "READWRITE",
      key: base64(prefix),
      range_end: base64(endOf(prefix)),
    };
    await this.admin("/v3/auth/user/add", { name: "root", password: ROOT_PASSWORD });
    await this.admin("/v3/auth/user/grant", { user: "root", role: "root" }).catch(() => null);
    await this.admin("/v3/auth/user/add", { name: username, password });
    await this.admin("/v3/auth/role/add", { name: "lab" });
    await this.admin("/v3/auth/role/grant", { name: "lab", perm: permission });
    await this.admin("/v3/auth/user/grant", { user: username, role: "lab" });
    await this.admin("/v3/auth/enable", {});
  }

  /** The revision that the cluster is at. */
  async revision(): Promise<bigint> {
    const answer = await this.admin("/v3/kv/range", { key: base64("none") });
    return BigInt((answer["header"] as { revision: string }).revision);
  }

  async put(key: string, value: string, leaseId = 0n): Promise<void> {
    const body = { key: base64(key), value: base64(value), lease: String(leaseId) };
    await this.admin("/v3/kv/put", body);
  }

  async delete(key: string): Promise<void> {
    await this.admin("/v3/kv/deleterange", { key: base64(key) });
  }

  /** Drops the history before this revision; before the newest if none is given. */
  async compact(revision?: bigint): Promise<void> {
    const at = revision ?? await this.revision();
    await this.admin("/v3/kv/compaction", { revision: String(at), physical: true });
  }

  /** Ends the servers and removes their data. */
  async stop(): Promise<void> {
    for (const member of this.members) member.resume();
    await this.killAll();
    rmSync(this.directory, { recursive: true, force: true });
    directories.delete(this.directory);
  }
}

function flag(name: string, value: number | undefined): string[] {
  return value === undefined ? [] : [name, String(value)];
}

/** Runs `work` with a lab of its own, which ends with it. */
export async function withEtcd<T>(
  options: LabOptions,
  work: (lab: EtcdLab) => Promise<T>,
): Promise<T> {
  const lab = await EtcdLab.start(options);
  try {
    return await work(lab);
  } finally {
    await lab.stop();
  }
}
