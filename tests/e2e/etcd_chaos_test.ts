/**
 * A cluster of three members and daemons that come and go, each in a namespace of its own, while
 * members and daemons are killed, cut off and stopped, history is compacted and leases expire under
 * who cannot know it. `ETCD_CHAOS_SEED` chooses another course of it: all that is drawn follows
 * from it, but how quick the machine is decides what an act meets.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import type { Status } from "../../src/agent/status.ts";
import { Random } from "../dataplane/random.ts";
import { ChaosHost } from "./chaos_host.ts";
import { CutNetwork } from "./cut_network.ts";
import { assertNeverTakenOver, holdersAfter, type LeaseEvent } from "../etcd/history.ts";
import { EtcdCluster, type HeldKey, MEMBERS } from "./etcd_cluster.ts";

const ACT_COUNT = 100;
const HOSTS = [4, 5, 6, 7, 8, 9] as const;
const FIRST_COUNT = 4;
/** One subnet more than there are hosts, so that one that is lost is soon another's. */
const CONFIG = {
  Network: "10.210.0.0/16",
  SubnetMin: "10.210.1.0",
  SubnetMax: "10.210.7.0",
  Backend: { Type: "udp" },
};
/** For the tables to come in line, and for a revocation to be told. */
const IN_LINE_MS = 2_000;
/** When that is not waited for any longer, so that it is known how late it was. */
const GIVE_UP_MS = 30_000;
const POLL_MS = 25;
/** How often each host is asked throughout. */
const WATCH_MS = 100;
/** How long an act lasts, and the wait before the next. */
const HOLD_MS = { least: 50, most: 3_000 } as const;
const PAUSE_MAX_MS = 600;
/** For how long a host stays away until another has got what it has lost. */
const THEFT_MAX_MS = 3_000;

/** How often a key's next holder was another than its last. */
function countMoves(events: readonly LeaseEvent[]): number {
  const last = new Map<string, string>();
  let count = 0;
  for (const { key, holder } of events) {
    if (holder === null) continue;
    if ((last.get(key) ?? holder) !== holder) count++;
    last.set(key, holder);
  }
  return count;
}

function keyOf(status: Status | null): string | null {
  return status?.lease?.subnets[0]?.replace("/", "-") ?? null;
}

/** What a host says that is not what etcd has; null: nothing. */
function outOfLine(host: ChaosHost, status: Status | null, held: readonly HeldKey[]) {
  if (status?.phase !== "ready") return `${status?.phase}: ${status?.waitingFor}`;
  const own = held.filter(({ holder }) => holder === host.address).map(({ key }) => key);
  if (own.join() !== keyOf(status)) return `holds ${keyOf(status)}, and in etcd ${own}`;
  const theirs = held.filter(({ holder }) => holder !== host.address)
    .map(({ key, holder }) => `${key} ${holder}`).sort().join(", ");
  const peers = status.peers.map(({ key, publicAddresses }) => `${key} ${publicAddresses}`)
    .sort().join(", ");
  if (peers !== theirs) return `has peers ${peers}, and etcd ${theirs}`;
  const { peerCount } = status.backend!;
  return peerCount === status.peers.length ? null : `forwards to ${peerCount} of ${peers}`;
}

class Chaos {
  readonly #random: Random;
  readonly #network: CutNetwork;
  readonly #directory = mkdtempSync(join(tmpdir(), "selvage-chaos-"));
  readonly #start_ms = performance.now();
  readonly cluster: EtcdCluster;
  readonly hosts: readonly ChaosHost[];
  readonly #cutMembers = new Set<number>();
  readonly #deadMembers = new Set<number>();
  /** Since when all members have all that the cluster has; Infinity: one has not. */
  #membersCalm_ms = 0;
  #memberTroubles = 0;
  readonly #running = new Set<Promise<void>>();
  readonly #failures: unknown[] = [];
  /** When two hosts were first seen with one subnet, by their names. */
  readonly #clashes = new Map<string, number>();
  longestClash_ms = 0;
  readonly counts = new Map<string, number>();
  /** What was done, for who looks for what went wrong. */
  readonly course: string[] = [];
  #isOver = false;
  readonly #watching: Promise<void>[];

  constructor(seed: number) {
    this.#random = new Random(seed);
    this.#network = new CutNetwork(MEMBERS.length + HOSTS.length);
    this.cluster = new EtcdCluster(this.#network);
    const flags = [this.cluster.endpointsFlag, "--release-on-exit"];
    this.hosts = HOSTS.map((number) =>
      new ChaosHost(this.#network, number, this.#directory, flags)
    );
    this.#watching = this.hosts.map((host) => this.#watch(host));
  }

  #note(what: string): void {
    this.course.push(`${((performance.now() - this.#start_ms) / 1000).toFixed(2)} s ${what}`);
  }

  /** Asks a host again and again, and holds against what the others have said last. */
  async #watch(host: ChaosHost): Promise<void> {
    while (!this.#isOver) {
      await host.ask();
      for (const other of this.hosts) if (other !== host) this.#compare(host, other);
      await pause(WATCH_MS);
    }
  }

  /** Two that could know it say for long that they hold one subnet: that must not be. */
  #compare(...pair: [ChaosHost, ChaosHost]): void {
    const name = pair.map((host) => host.name).sort().join(" and ");
    const [key, other] = pair.map(({ lastStatus }) => keyOf(lastStatus));
    const calm_ms = Math.max(this.#membersCalm_ms, ...pair.map((host) => host.calm_ms));
    if (key === null || key !== other || calm_ms === Infinity) {
      this.#clashes.delete(name);
      return;
    }
    const first_ms = this.#clashes.get(name) ?? performance.now();
    this.#clashes.set(name, first_ms);
    const lasts_ms = performance.now() - Math.max(first_ms, calm_ms);
    this.longestClash_ms = Math.max(this.longestClash_ms, lasts_ms);
    if (lasts_ms < IN_LINE_MS || this.#failures.length > 0) return;
    this.#failures.push(new Error(`${name} both hold ${key}, for ${lasts_ms} ms`));
  }

  #some<T>(all: readonly T[]): T | null {
    return all.length === 0 ? null : this.#random.pick(all);
  }

  /** Of a drawn length, as often short as long. */
  #hold(): Promise<void> {
    const { least, most } = HOLD_MS;
    const hold_ms = least * (most / least) ** (this.#random.below(1_000) / 1_000);
    return pause(hold_ms);
  }

  /** Something that members take time to get over. */
  async #trouble(member: number, work: () => Promise<void>): Promise<void> {
    this.#memberTroubles++;
    this.#membersCalm_ms = Infinity;
    await work();
    if (!this.#deadMembers.has(member) && !this.#cutMembers.has(member)) {
      await this.cluster.caughtUp(member);
    }
    if (--this.#memberTroubles === 0) this.#membersCalm_ms = performance.now();
  }

  #killMember(): Promise<void> | null {
    const member = this.#some(MEMBERS.filter((one) => !this.#deadMembers.has(one)));
    if (member === null) return null;
    this.#note(`member ${member} is killed`);
    this.#deadMembers.add(member);
    const hold = this.#hold();
    return this.#trouble(member, async () => {
      await this.cluster.kill(member);
      await hold;
      this.cluster.start(member);
      this.#deadMembers.delete(member);
      this.#note(`member ${member} starts`);
    });
  }

  #cutMember(): Promise<void> | null {
    const member = this.#some(MEMBERS.filter((one) => !this.#cutMembers.has(one)));
    if (member === null) return null;
    this.#note(`member ${member} is cut off`);
    this.#cutMembers.add(member);
    this.#network.cut(member);
    const hold = this.#hold();
    return this.#trouble(member, async () => {
      await hold;
      this.#network.join(member);
      this.#cutMembers.delete(member);
      this.#note(`member ${member} is joined`);
    });
  }

  async #compact(): Promise<void> {
    this.#note("compaction");
    // It is refused where nothing was written since the last time, or nobody leads.
    await this.cluster.compact().catch(() => {});
  }

  /** A host cut off or stopped for a while; what is done to it then is `work`. */
  #away(work: (host: ChaosHost) => Promise<void>): Promise<void> | null {
    const isCut = this.#random.below(2) === 0;
    const host = this.#some(
      this.hosts.filter((one) => isCut ? !one.isCut : one.isUp && !one.isStopped),
    );
    if (host === null) return null;
    this.#note(`${host.name} is ${isCut ? "cut off" : "stopped"}`);
    const end = isCut ? (host.cut(), () => host.join()) : host.stop();
    const hold = this.#hold();
    return (async () => {
      await work(host);
      await hold;
      end();
      this.#note(`${host.name} is ${isCut ? "joined" : "woken"}`);
    })();
  }

  #killHost(): Promise<void> | null {
    const host = this.#some(this.hosts.filter((one) => one.isUp));
    if (host === null) return null;
    this.#note(`${host.name} is killed`);
    const hold = this.#hold();
    return (async () => {
      await host.kill();
      await hold;
      this.#note(`${host.name} starts`);
      if (host.isDown) host.start();
    })();
  }

  #leave(): Promise<void> | null {
    // Before it serves a signal ends it where it stands.
    const up = this.hosts.filter((one) => one.isServing);
    const host = up.length <= FIRST_COUNT ? null : this.#some(up);
    if (host === null) return null;
    this.#note(`${host.name} leaves`);
    return host.leave().then(() => this.#note(`${host.name} has left`));
  }

  #join(): Promise<void> | null {
    const host = this.#some(this.hosts.filter((one) => one.isDown));
    if (host === null) return null;
    this.#note(`${host.name} is new`);
    host.startNewly(null);
    return Promise.resolve();
  }

  #expire(): Promise<void> | null {
    const host = this.#some(this.hosts.filter(({ lastStatus }) => keyOf(lastStatus) !== null));
    return host && this.#expireUnder(host).then(() => {});
  }

  async #expireUnder(host: ChaosHost): Promise<string | null> {
    const key = await this.cluster.expire(host.address);
    this.#note(`the lease of ${host.name} (${key}) expires`);
    return key;
  }

  /** A lease expires under who cannot know it, and another asks for its subnet. */
  #steal(): Promise<void> | null {
    return this.#away(async (host) => {
      const key = await this.#expireUnder(host);
      const thief = this.hosts.find((one) => one !== host && one.isDown) ??
        this.#some(this.hosts.filter((one) => one.isServing && one.calm_ms < Infinity));
      if (key === null || thief === null) return;
      if (thief.isServing) await thief.leave();
      if (!thief.isDown) return;
      this.#note(`${thief.name} is new and wants ${key}`);
      thief.startNewly(key);
      const end_ms = performance.now() + THEFT_MAX_MS;
      while (keyOf(thief.lastStatus) === null && performance.now() < end_ms) await pause(POLL_MS);
    });
  }

  readonly #acts: readonly (readonly [name: string, act: () => Promise<unknown> | null])[] = [
    ["kill a member", () => this.#killMember()],
    ["kill a member", () => this.#killMember()],
    ["cut a member off", () => this.#cutMember()],
    ["cut a member off", () => this.#cutMember()],
    ["compact", () => this.#compact()],
    ["cut off or stop a host", () => this.#away(() => Promise.resolve())],
    ["cut off or stop a host", () => this.#away(() => Promise.resolve())],
    ["cut off or stop a host", () => this.#away(() => Promise.resolve())],
    ["kill a host", () => this.#killHost()],
    ["kill a host", () => this.#killHost()],
    ["end a host", () => this.#leave()],
    ["end a host", () => this.#leave()],
    ["end a host", () => this.#leave()],
    ["a new host", () => this.#join()],
    ["expire", () => this.#expire()],
    ["expire", () => this.#expire()],
    ["expire under an absent host", () => this.#steal()],
    ["expire under an absent host", () => this.#steal()],
    ["expire under an absent host", () => this.#steal()],
  ];

  /** Begins one that can be done now. */
  #begin(): void {
    while (true) {
      const [name, act] = this.#random.pick(this.#acts);
      const doing = act();
      if (doing === null) continue;
      this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
      const running: Promise<void> = doing.then(
        () => {},
        (error) => void this.#failures.push(error),
      )
        .finally(() => this.#running.delete(running));
      this.#running.add(running);
      return;
    }
  }

  /** Does all acts, which overlap, and waits until the last is over. */
  async run(): Promise<void> {
    await this.cluster.setConfig(CONFIG);
    for (const host of this.hosts.slice(0, FIRST_COUNT)) host.start();
    for (let act = 0; act < ACT_COUNT && this.#failures.length === 0; act++) {
      this.#begin();
      await pause(this.#random.below(PAUSE_MAX_MS));
    }
    await Promise.all(this.#running);
    this.#note("the last act is over");
  }

  /** What is not yet as etcd has it. */
  async #outOfLine(): Promise<string[]> {
    const held = await this.cluster.held();
    const statuses = await Promise.all(this.hosts.map((host) => host.ask()));
    return this.hosts.flatMap((host, i) => {
      const fault = host.isUp ? outOfLine(host, statuses[i]!, held) : null;
      return fault === null ? [] : [`${host.name} ${fault}`];
    });
  }

  /**
   * Waits until each host has what etcd has; returns how long that took. The time counts from when
   * each member has what the cluster has: until they have a leader again nobody can know anything.
   */
  async untilInLine(): Promise<number> {
    await Promise.all(MEMBERS.map((member) => this.cluster.caughtUp(member)));
    const start_ms = performance.now();
    while (true) {
      const faults = await this.#outOfLine();
      const took_ms = performance.now() - start_ms;
      if (faults.length === 0) return took_ms;
      if (took_ms > IN_LINE_MS) this.#note(`not in line: ${faults.join("; ")}`);
      assert.ok(took_ms < GIVE_UP_MS, faults.join("\n"));
      await pause(POLL_MS);
    }
  }

  get #holders(): string[] {
    return holdersAfter(this.cluster.events);
  }

  async assertSound(): Promise<void> {
    assert.deepEqual(this.#failures, []);
    const held = await this.cluster.held();
    const now = held.map(({ key, holder }) => `${key} ${holder}`).sort();
    // The history is told a moment later.
    const end_ms = performance.now() + GIVE_UP_MS;
    while (performance.now() < end_ms && !isDeepStrictEqual(this.#holders, now)) {
      await pause(POLL_MS);
    }
    assert.deepEqual(this.#holders, now);
    assert.equal(this.cluster.failure, null);
    assertNeverTakenOver(this.cluster.events);
    const holders = held.map(({ holder }) => holder);
    assert.equal(new Set(holders).size, holders.length, `one host has two keys: ${holders}`);
    for (const host of this.hosts) {
      assert.deepEqual(host.ownEnds, [], `${host.name} ended by itself`);
      assert.doesNotMatch(host.log, /\b(uncaught|unhandled):/, host.name);
    }
  }

  tell(t: TestContext, tookInLine_ms: number): void {
    const counts = [...this.counts].map(([name, count]) => `${name} ${count}`).sort().join(", ");
    t.diagnostic(
      `${counts}; ${countMoves(this.cluster.events)} subnets went to another host, two held one ` +
        `for ${this.longestClash_ms.toFixed(0)} ms at most; ` +
        `in line after ${tookInLine_ms.toFixed(0)} ms`,
    );
  }

  async close(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.hosts.map((host) => host.close()));
    await Promise.all(this.#watching);
    await this.cluster.close();
    this.#network.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** All there is to know. */
  story(): string {
    const logs = this.hosts.map((host) => `--- log of ${host.name}\n${host.log}`);
    const events = this.cluster.events.map(({ key, holder, revision }) =>
      `${revision} ${key} ${holder ?? "deleted"}`
    );
    return [...this.course, "--- etcd", ...events, ...logs].join("\n");
  }
}

const seed = Number(process.env["ETCD_CHAOS_SEED"] ?? 1);

test(`${ACT_COUNT} acts on a cluster and daemons (ETCD_CHAOS_SEED=${seed})`, async (t) => {
  const chaos = new Chaos(seed);
  try {
    await chaos.run();
    assertNeverTakenOver(chaos.cluster.events);
    const took_ms = await chaos.untilInLine();
    chaos.tell(t, took_ms);
    await chaos.assertSound();
    assert.ok(took_ms < IN_LINE_MS, `in line after ${took_ms} ms`);
  } catch (error) {
    console.error(chaos.story());
    throw error;
  } finally {
    await chaos.close();
  }
});
