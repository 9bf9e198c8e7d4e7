/** Three members of an etcd on the first three hosts of a network, and who observes them. */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as pause } from "node:timers/promises";
import { endProcess, spawnInNetns } from "../../src/demo/child.ts";
import {
  base64,
  fromBase64,
  holderOf,
  type LeaseEvent,
  leaseEvent,
  rangeOf,
} from "../etcd/history.ts";
import { type CutNetwork, outerAddress } from "./cut_network.ts";

export const MEMBERS = [1, 2, 3] as const;
const ROOT = "/coreos.com/network/";
const SUBNETS = `${ROOT}subnets/`;
const OBSERVER = resolve("tests/e2e/etcd_observer_child.ts");
const ANSWER_TIMEOUT_MS = 20_000;
const RETRY_MS = 20;

function clientUrl(member: number): string {
  return `http://${outerAddress(member)}:2379`;
}

function peerUrl(member: number): string {
  return `http://${outerAddress(member)}:2380`;
}

/** Of a lease of etcd: there is none of that name. */
function isFinal(error: unknown): boolean {
  return String(error).includes("lease not found");
}

/** A subnet's key as etcd has it. */
export interface HeldKey {
  readonly key: string;
  readonly holder: string;
  /** As etcd's JSON has it. */
  readonly leaseId: string;
}

interface RangeAnswer {
  readonly kvs?: readonly {
    readonly key: string;
    readonly value: string;
    readonly lease?: string;
  }[];
}

export class EtcdCluster {
  readonly #network: CutNetwork;
  readonly #data = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "selvage-"));
  readonly #members = new Map<number, ChildProcess>();
  readonly #observer: ChildProcess;
  readonly #waiting = new Map<number, (answer: { answer?: unknown; error?: string }) => void>();
  #questionCount = 0;
  /** Of the subnets' keys, from the first on, in order. */
  readonly events: LeaseEvent[] = [];
  /** Why that is not all; null: it is. */
  failure: string | null = null;
  /** All up to this revision is in `events`. */
  #seen = 0n;

  constructor(network: CutNetwork) {
    this.#network = network;
    for (const member of MEMBERS) this.start(member);
    const args = ["run", "-A", "--no-check", OBSERVER, ROOT, ...MEMBERS.map(clientUrl)];
    const stdio = ["pipe", "pipe", "inherit"] as const;
    this.#observer = spawnInNetns(network.switch, process.execPath, args, [...stdio]);
    createInterface({ input: this.#observer.stdout! }).on("line", (line) => this.#take(line));
  }

  #take(line: string): void {
    const said = JSON.parse(line);
    if (said.id !== undefined) return this.#waiting.get(said.id)?.(said);
    if (said.failure !== undefined) {
      this.failure = said.failure;
      return;
    }
    this.#seen = BigInt(said.event.revision);
    const event = leaseEvent(ROOT, { ...said.event, revision: this.#seen });
    if (event !== null) this.events.push(event);
  }

  get endpointsFlag(): string {
    return `--etcd-endpoints=${MEMBERS.map(clientUrl).join(",")}`;
  }

  start(member: number): void {
    const child = spawnInNetns(this.#network.host(member), "etcd", [
      ...["--name", `m${member}`, "--data-dir", join(this.#data, String(member))],
      ...["--listen-client-urls", clientUrl(member), "--advertise-client-urls", clientUrl(member)],
      ...["--listen-peer-urls", peerUrl(member)],
      ...["--initial-advertise-peer-urls", peerUrl(member)],
      ...["--initial-cluster", MEMBERS.map((one) => `m${one}=${peerUrl(one)}`).join(",")],
      ...["--heartbeat-interval", "50", "--election-timeout", "500", "--pre-vote"],
      ...["--log-level", "error", "--logger", "zap"],
    ], ["ignore", "ignore", "ignore"]);
    this.#members.set(member, child);
  }

  /** Ends it as a power cut would. */
  async kill(member: number): Promise<void> {
    const child = this.#members.get(member)!;
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  }

  /** One question to a member, or to whichever answers first; rejects if none does in a second. */
  async ask(path: string, body: unknown, member: number | null = null): Promise<unknown> {
    const id = ++this.#questionCount;
    const index = member === null ? null : member - 1;
    const said = new Promise<{ answer?: unknown; error?: string }>((resolve) => {
      this.#waiting.set(id, resolve);
    });
    this.#observer.stdin!.write(`${JSON.stringify({ id, member: index, path, body })}\n`);
    const { answer, error } = await said;
    this.#waiting.delete(id);
    if (error !== undefined) throw new Error(error);
    return answer;
  }

  /** The same, asked until there is an answer; rejects if that says no. */
  async persist(path: string, body: unknown, member: number | null = null): Promise<unknown> {
    const end_ms = performance.now() + ANSWER_TIMEOUT_MS;
    while (true) {
      try {
        return await this.ask(path, body, member);
      } catch (error) {
        if (performance.now() > end_ms || isFinal(error)) throw error;
        await pause(RETRY_MS);
      }
    }
  }

  /** Waits until a member has all that the cluster has: a linearizable read says so. */
  async caughtUp(member: number): Promise<void> {
    await this.persist("/v3/kv/range", { key: base64("none") }, member);
  }

  async setConfig(config: unknown): Promise<void> {
    const value = base64(JSON.stringify(config));
    await this.persist("/v3/kv/put", { key: base64(`${ROOT}config`), value });
  }

  /** The subnets' keys there are. */
  async held(): Promise<HeldKey[]> {
    const { kvs = [] } = await this.persist("/v3/kv/range", rangeOf(SUBNETS)) as RangeAnswer;
    return kvs.map(({ key, value, lease = "0" }) => ({
      key: fromBase64(key).slice(SUBNETS.length),
      holder: holderOf(fromBase64(value)),
      leaseId: lease,
    }));
  }

  /** Ends the lease of etcd under a host's key, as its expiry would; null: it has none. */
  async expire(holder: string): Promise<string | null> {
    const one = (await this.held()).find((held) => held.holder === holder);
    if (one === undefined) return null;
    const body = { ID: one.leaseId };
    await this.persist("/v3/lease/revoke", body).catch(async (error) => {
      // It was done, and the answer is missing; or another has ended it.
      const isThere = (await this.held()).some(({ leaseId }) => leaseId === one.leaseId);
      if (isThere) throw error;
    });
    return one.key;
  }

  /** Drops all history that `events` has. */
  async compact(): Promise<void> {
    await this.ask("/v3/kv/compaction", { revision: String(this.#seen) });
  }

  async close(): Promise<void> {
    await endProcess(this.#observer);
    for (const child of this.#members.values()) {
      if (child.exitCode === null && child.signalCode === null) {
        const gone = once(child, "exit");
        child.kill("SIGKILL");
        await gone;
      }
    }
    rmSync(this.#data, { recursive: true, force: true });
  }
}
