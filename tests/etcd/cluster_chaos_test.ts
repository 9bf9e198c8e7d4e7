/**
 * A cluster of three members and nodes that come and go, while members die, freeze, forget what was
 * and are cut off. `ETCD_CHAOS_SEED` chooses another course of it.
 */
import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import type { EtcdStore } from "../../src/etcd/etcd_store.ts";
import { type Lease, leaseKey } from "../../src/lease/lease.ts";
import { equalLeases, type LeaseTable } from "../../src/lease/lease_table.ts";
import { nodeNumber, seededRandom } from "../lease/sample.ts";
import { Follower } from "../store/harness.ts";
import { CutLink } from "./cut_link.ts";
import { eventually } from "./harness.ts";
import {
  assertNeverTakenOver,
  History,
  holdersAfter,
  type LeaseEvent,
  leaseEvent,
} from "./history.ts";
import { type EtcdLab, withEtcd } from "./lab.ts";
import { RealNetwork } from "./real_network.ts";

const ACT_COUNT = 100;
const NODE_COUNT_MAX = 16;
const IN_LINE_MS = 2_000;
/** When a table that does not come in line is given up. */
const GIVE_UP_MS = 20_000;
/** Shorter than a real node's, lest the test waits for those that are cut off. */
const CLIENT_TIMES = {
  ...{ deadline_ms: 2_000, attempt_ms: 700, connect_ms: 700 },
  ...{ progress_ms: 1_000, silence_ms: 3_000 },
};

/** Follows until the condition holds; throws what is there where it does not in time. */
async function untilInLine(
  follower: Follower,
  condition: (table: LeaseTable) => boolean,
): Promise<void> {
  const giveUp = AbortSignal.timeout(GIVE_UP_MS);
  const late = new Promise<never>((_, reject) => {
    giveUp.addEventListener("abort", () => {
      const keys = follower.table.leases.map(({ subnets }) => leaseKey(subnets));
      reject(new Error(`not in line: ${keys.join(" ")}`));
    });
  });
  await Promise.race([follower.until(({ table }) => condition(table)), late]);
}

interface Node {
  readonly store: EtcdStore;
  readonly follower: Follower;
  readonly link: CutLink;
  /** Null while it has none. */
  lease: Lease | null;
}

class Chaos {
  readonly #network: RealNetwork;
  readonly #random: () => number;
  readonly #nodes = new Set<Node>();
  readonly #joins = new Set<Promise<void>>();
  readonly judge: EtcdStore;
  /** Of the leases' keys, from the first on. */
  readonly #events: LeaseEvent[] = [];
  readonly #history: History;
  #frozen: number | null = null;
  #nodeCount = 0;
  #isOver = false;

  constructor(readonly lab: EtcdLab, seed: number) {
    this.#network = new RealNetwork(lab);
    this.#random = seededRandom(seed);
    this.judge = this.#network.store();
    const root = `${this.#network.prefix}/`;
    const endpoints = lab.members.map(({ endpoint }) => endpoint);
    this.#history = new History(endpoints, root, (event) => {
      const one = leaseEvent(root, event);
      if (one !== null) this.#events.push(one);
    });
  }

  #pick(count: number): number {
    return Math.floor(this.#random() * count);
  }

  #anyNode(): Node | undefined {
    return [...this.#nodes][this.#pick(this.#nodes.size)];
  }

  async join(): Promise<void> {
    if (this.#nodes.size >= NODE_COUNT_MAX) return;
    const n = this.#nodeCount++;
    const link = await CutLink.open(this.lab.members);
    const endpoints = { endpoints: link.endpoints };
    const clientOptions = { ...this.lab.clientOptions, ...endpoints, ...CLIENT_TIMES };
    const { store } = this.#network.node({}, clientOptions);
    const node: Node = { store, link, follower: new Follower(store), lease: null };
    this.#nodes.add(node);
    const joining = this.#acquire(node, n).finally(() => this.#joins.delete(joining));
    this.#joins.add(joining);
  }

  /** As the agent does: for ever. */
  async #acquire(node: Node, n: number): Promise<void> {
    const request = { attributes: nodeNumber(n), previousSubnets: [] };
    while (this.#nodes.has(node) && node.lease === null && !this.#isOver) {
      node.lease = await node.store.acquire(request).catch(() => null);
      if (node.lease === null) await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async leave(): Promise<void> {
    const node = this.#anyNode();
    if (node?.lease === null || node === undefined) return;
    this.#nodes.delete(node);
    node.link.join();
    await node.follower.stop();
    await node.store.release(node.lease).catch(() => {});
    await node.store.close();
    node.link.close();
  }

  async renewAll(): Promise<void> {
    await Promise.all([...this.#nodes].map(({ store, lease }) => {
      return lease === null ? null : store.renew(lease).catch(() => {});
    }));
  }

  /** All members up, and nobody cut off. */
  async mend(): Promise<void> {
    for (const { link } of this.#nodes) link.join();
    await this.#mendMembers();
  }

  async #mendMembers(): Promise<void> {
    if (this.#frozen !== null) this.lab.members[this.#frozen]!.resume();
    this.#frozen = null;
    this.lab.startAll();
    await this.lab.awaitHealth();
  }

  /** One of them at a time, so that there is a majority. */
  async #harm(work: (member: number) => Promise<unknown>): Promise<void> {
    await this.#mendMembers();
    await work(this.#pick(this.lab.members.length));
  }

  readonly acts: readonly (() => Promise<unknown>)[] = [
    () => this.join(),
    () => this.join(),
    () => this.join(),
    () => this.leave(),
    () => this.renewAll(),
    // All but what the history has not yet; refused where nothing was written since the last time.
    () => this.#mendMembers().then(() => this.lab.compact(this.#history.seen)).catch(() => {}),
    () => this.#harm((member) => this.lab.members[member]!.kill()),
    () =>
      this.#harm((member) => {
        this.#frozen = member;
        return this.lab.members[member]!.pause();
      }),
    () => this.#mendMembers().then(() => this.lab.restartAll()),
    () => this.#mendMembers(),
    () => Promise.resolve(this.#anyNode()?.link.cut()),
    () => Promise.resolve(this.#anyNode()?.link.cut()),
    () => this.mend(),
  ];

  async run(): Promise<void> {
    for (let act = 0; act < ACT_COUNT; act++) await this.acts[this.#pick(this.acts.length)]!();
    await this.mend();
    await Promise.all(this.#joins);
  }

  /** That each node has the table that etcd has, and the lease that it thinks it has. */
  async assertInLine(): Promise<void> {
    const start_ms = performance.now();
    const expected = await this.judge.list();
    // A name is one subnet, so two nodes on one would be one entry here.
    const addresses = expected.map((lease) => lease.publicAddresses.join());
    assert.equal(new Set(addresses).size, expected.length);
    for (const { follower, lease, store } of this.#nodes) {
      await untilInLine(follower, (table) =>
        table.size === expected.length &&
        table.leases.every((one, i) => equalLeases(one, expected[i]!)));
      const mine = follower.table.getBySubnets(lease!.subnets);
      assert.equal(mine?.publicAddresses.join(), lease!.publicAddresses.join());
      assert.equal(store.state().unreadableCount, 0);
    }
    const took_ms = performance.now() - start_ms;
    assert.ok(took_ms < IN_LINE_MS, `in line after ${took_ms} ms`);
    assert.ok(this.#nodeCount > 5, `${this.#nodeCount} nodes came`);
  }

  /** That no lease went from one node to another without having ended, by etcd's own history. */
  async assertNeverTakenOver(): Promise<void> {
    const now = (await this.judge.list())
      .map(({ subnets, publicAddresses }) => `${leaseKey(subnets)} ${publicAddresses}`).sort();
    await eventually(() => isDeepStrictEqual(holdersAfter(this.#events), now));
    assert.equal(this.#history.failure, null);
    assertNeverTakenOver(this.#events);
  }

  async close(): Promise<void> {
    this.#isOver = true;
    for (const { link } of this.#nodes) link.join();
    for (const { follower } of this.#nodes) await follower.stop();
    await this.#network.close();
    await this.#history.close();
    for (const { link } of this.#nodes) link.close();
  }
}

const seed = Number(process.env["ETCD_CHAOS_SEED"] ?? 1);

test(`${ACT_COUNT} acts on a cluster and its nodes (ETCD_CHAOS_SEED=${seed})`, () =>
  withEtcd({ memberCount: 3 }, async (lab) => {
    const chaos = new Chaos(lab, seed);
    await chaos.judge.setConfig('{"Network":"10.5.0.0/16"}', "test");
    try {
      await chaos.run();
      await chaos.assertInLine();
      await chaos.assertNeverTakenOver();
    } finally {
      await chaos.close();
    }
  }));
