/** The store on real etcd servers. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { openEtcd } from "../../src/etcd/client/open_etcd.ts";
import { EtcdStore } from "../../src/etcd/etcd_store.ts";
import { leaseKey } from "../../src/lease/lease.ts";
import type { IpPrefix } from "../../src/net/ip.ts";
import { nodeNumber } from "../lease/sample.ts";
import { describeLeaseStore } from "../store/contract.ts";
import { ConfigFollower, FakeClock, Follower, rejectsWith, TTL_MS } from "../store/harness.ts";
import { persist } from "./faults.ts";
import { eventually } from "./harness.ts";
import { EtcdLab, withEtcd } from "./lab.ts";
import { RealNetwork } from "./real_network.ts";

const NETWORK = '{"Network":"10.5.0.0/16"}';
const request = (n: number, previousSubnets: readonly IpPrefix[] = []) => ({
  attributes: nodeNumber(n),
  previousSubnets,
});

/** How long it took, in words: the median of all rounds, and the worst. */
function inWords(times_ms: readonly number[]): string {
  const sorted = [...times_ms].sort((a, b) => a - b);
  const [median_ms, worst_ms] = [sorted[sorted.length >> 1]!, sorted.at(-1)!];
  return `${times_ms.length} rounds: until each knows all, median ${median_ms.toFixed(0)} ms, ` +
    `worst ${worst_ms.toFixed(0)} ms`;
}

describe("on a real etcd", () => {
  let lab: EtcdLab;
  before(async () => {
    lab = await EtcdLab.start();
  });
  after(() => lab.stop());

  // deno-lint-ignore require-await
  describeLeaseStore("the etcd store", async ({ random }) => {
    const network = new RealNetwork(lab);
    const clock = new FakeClock();
    const store = network.store({ random, clock, ttl_ms: TTL_MS });
    return { store, registry: store, clock, close: () => network.close() };
  }, {
    endsAreUnknown: "etcd would have to be asked for each",
    leasesDoNotEnd: "the clock of a real etcd is its own",
  });

  test("a lease ends by etcd's clock, and its sleeping node does not get it back", async () => {
    const network = new RealNetwork(lab);
    const [sleeper, other] = [network.store({ ttl_ms: 1000 }), network.store({ ttl_ms: TTL_MS })];
    await other.setConfig(NETWORK, "test");
    const follower = new Follower(other);
    const held = await sleeper.acquire(request(1));
    await follower.until((self) => self.table.size === 1);
    const reserved = await other.reserve(
      (await other.acquire(request(3))).subnets,
      nodeNumber(3),
    );
    await follower.until((self) => self.table.get(leaseKey(held.subnets)) === undefined);
    await rejectsWith("lease_lost", sleeper.renew(held));
    const taken = await other.acquire(request(2, held.subnets));
    assert.equal(leaseKey(taken.subnets), leaseKey(held.subnets));
    const lost = await rejectsWith("lease_lost", sleeper.renew(held));
    assert.match(lost.message, /192\.168\.0\.2 holds it now/);
    const next = await sleeper.acquire(request(1, held.subnets));
    assert.notEqual(leaseKey(next.subnets), leaseKey(held.subnets));
    // Renewed in time it lives on; a reservation does so anyway.
    for (let i = 0; i < 4; i++) {
      await new Promise((resolve) => setTimeout(resolve, 400));
      await sleeper.renew(next);
      await sleeper.renew(reserved);
    }
    assert.deepEqual(
      (await other.list()).map((lease) => lease.publicAddresses.join()).sort(),
      ["192.168.0.1", "192.168.0.2", "192.168.0.3"],
    );
    await follower.stop();
    await network.close();
  });

  test("64 nodes at once get 64 subnets, and each knows all in 2 s, 20 times", async (t) => {
    const afterAcquire_ms: number[] = [];
    const afterStart_ms: number[] = [];
    for (let round = 0; round < 20; round++) {
      const network = new RealNetwork(lab);
      const nodes = Array.from({ length: 64 }, () => network.store());
      await nodes[0]!.setConfig('{"Network":"10.5.0.0/16","SubnetMax":"10.5.80.0"}', "test");
      const followers: Follower[] = [];
      const joined_ms = performance.now();
      const leases = await Promise.all(nodes.map(async (store, n) => {
        const lease = await store.acquire(request(n));
        followers.push(new Follower(store));
        return lease;
      }));
      const start_ms = performance.now();
      assert.equal(new Set(leases.map((lease) => leaseKey(lease.subnets))).size, 64);
      for (const follower of followers) await follower.until(({ table }) => table.size === 64);
      afterAcquire_ms.push(performance.now() - start_ms);
      afterStart_ms.push(performance.now() - joined_ms);
      await network.close();
    }
    t.diagnostic(`64 nodes, from when the last has its subnet, ${inWords(afterAcquire_ms)}`);
    t.diagnostic(`64 nodes, from when all ask for one, ${inWords(afterStart_ms)}`);
    assert.ok(Math.max(...afterAcquire_ms) < 2000, inWords(afterAcquire_ms));
  });

  test("two nodes at the same instant never miss each other, 200 rounds", async (t) => {
    const times_ms: number[] = [];
    const network = new RealNetwork(lab);
    const stores = [network.store(), network.store()];
    await stores[0]!.setConfig(NETWORK, "test");
    for (let round = 0; round < 200; round++) {
      const start_ms = performance.now();
      const pair = await Promise.all(stores.map(async (store, n) => {
        const lease = await store.acquire(request(n + 1));
        const follower = new Follower(store);
        await follower.until(({ table }) => table.size === 2);
        return { store, lease, follower };
      }));
      times_ms.push(performance.now() - start_ms);
      for (const { follower } of pair) await follower.stop();
      for (const { store, lease } of pair) await store.release(lease);
    }
    t.diagnostic(`two nodes, from when both ask for a subnet, ${inWords(times_ms)}`);
    assert.ok(Math.max(...times_ms) < 2000, inWords(times_ms));
    await network.close();
  });

  test("a watch that begins behind a compaction lists anew", async () => {
    const network = new RealNetwork(lab);
    const [late, other] = [network.store(), network.store()];
    await other.setConfig(NETWORK, "test");
    await late.acquire(request(1));
    const gone = await other.acquire(request(2));
    await other.acquire(request(3));
    await other.release(gone);
    await lab.compact();
    const follower = new Follower(late);
    await follower.until(({ table }) => table.size === 2);
    await other.acquire(request(4));
    await follower.until(({ table }) => table.size === 3);
    assert.equal(late.state().lastError, null);
    await follower.stop();
    await network.close();
  });

  test("what a hanging etcd does with a write, or does not, leaves one lease", async () => {
    const network = new RealNetwork(lab);
    await network.store().setConfig(NETWORK, "test");
    for (let round = 0; round < 8; round++) {
      const etcd = openEtcd({ ...lab.clientOptions, deadline_ms: 150 });
      let writeCount = 0;
      // It hangs after the first, second, … call was sent, and comes back while we ask again.
      const hang = () => {
        if (writeCount++ !== round % 4) return;
        setImmediate(() => lab.members[0]!.pause());
        setTimeout(() => lab.members[0]!.resume(), 200 + 40 * round);
      };
      const { transact, grantLease } = etcd;
      etcd.transact = (...args) => (hang(), transact.apply(etcd, args));
      etcd.grantLease = (...args) => (hang(), grantLease.apply(etcd, args));
      const store = new EtcdStore({ etcd, prefix: network.prefix });
      const held = await persist(() => store.acquire(request(round)));
      const renewed = await persist(() => store.renew({ ...held, backendType: "vxlan" }));
      const mine = (await persist(() => store.list()))
        .filter((lease) => lease.publicAddresses.join() === held.publicAddresses.join());
      assert.deepEqual(mine.map(({ subnets }) => leaseKey(subnets)), [leaseKey(renewed.subnets)]);
      assert.equal(mine[0]!.backendType, "vxlan");
      lab.members[0]!.resume();
      await store.close();
    }
    await network.close();
  });

  test("a node joins 2,000 others in few calls", async () => {
    const network = new RealNetwork(lab);
    const { store, etcd } = network.node();
    await store.setConfig('{"Network":"10.0.0.0/8"}', "test");
    const { etcd: filler } = network.node();
    for (let block = 0; block < 20; block++) {
      const puts = Array.from({ length: 100 }, (_, i) => ({
        put: `${network.prefix}/subnets/10.${block + 1}.${i}.0-24`,
        value: `{"PublicIP":"192.168.${block}.${i}","PublicIPv6":null}`,
        leaseId: 0n,
      }));
      await filler.transact([], puts, []);
    }
    const before = etcd.callCount;
    await store.readConfig();
    await store.acquire({
      attributes: nodeNumber(60_000),
      previousSubnets: [],
    });
    const follower = new Follower(store);
    await follower.until(({ table }) => table.size === 2001);
    await eventually(() => etcd.callCount - before >= 6);
    assert.ok(etcd.callCount - before <= 10, `${etcd.callCount - before} calls`);
    await follower.stop();
    await network.close();
  });
});

test("a user who may only see the network's keys needs no more", async () => {
  const user = { username: "router", password: "secret", prefix: "/mine/" };
  await withEtcd({ user }, async (lab) => {
    const etcd = openEtcd(lab.clientOptions);
    const store = new EtcdStore({ etcd, prefix: "/mine" });
    await store.setConfig(NETWORK, "test");
    const follower = new Follower(store);
    const lease = await store.acquire(request(1));
    await store.renew(lease);
    await follower.until(({ table }) => table.size === 1);
    await follower.stop();
    await store.close();
    const other = new EtcdStore({ etcd: openEtcd(lab.clientOptions), prefix: "/others" });
    await rejectsWith("forbidden", other.readConfig());
    assert.equal(other.state().connected, true);
    assert.match(other.state().lastError!, /the user may not do this/);
    await other.close();
  });
});

test("an etcd that lost its data is noticed, and a new configuration told", async () => {
  await withEtcd({}, async (lab) => {
    const network = new RealNetwork(lab);
    const store = network.store();
    await store.setConfig(NETWORK, "test");
    const held = await store.acquire(request(1));
    for (let n = 2; n < 9; n++) await store.acquire(request(n));
    const follower = new Follower(store);
    const configs = new ConfigFollower(store, await store.readConfig());
    await follower.until(({ table }) => table.size === 8);
    await lab.killAll();
    lab.members[0]!.wipe();
    await eventually(() => !store.state().connected);
    await lab.restartAll();
    await configs.until((self) => self.told.length === 1);
    assert.match(configs.networks()[0]!, /no network configuration/);
    await rejectsWith("lease_lost", store.renew(held));
    // Until there is a network again no node is parted from the peers that it had.
    assert.equal(follower.table.size, 8);
    assert.match(
      store.state().lastError!,
      /lost everything under .*going on with the last known leases/,
    );
    await store.setConfig('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}', "test");
    await configs.until((self) => self.told.length === 2);
    await follower.until(({ table }) => table.size === 0);
    assert.equal(store.state().lastError, null);
    const again = await store.acquire(request(1, held.subnets));
    assert.equal(leaseKey(again.subnets), leaseKey(held.subnets));
    await follower.until(({ table }) => table.size === 1);
    await Promise.all([follower.stop(), configs.stop()]);
    await network.close();
  });
});

test("an endpoint of another cluster is left as soon as others answer", async () => {
  await withEtcd({}, async (stray) => {
    await withEtcd({}, async (lab) => {
      const network = new RealNetwork(lab);
      const at = (labs: readonly EtcdLab[]) => ({
        ...lab.clientOptions,
        endpoints: labs.flatMap(({ clientOptions }) => clientOptions.endpoints),
      });
      await network.store().setConfig(NETWORK, "test");
      const { store, etcd } = network.node({}, at([lab, stray]));
      const held = await store.acquire(request(1));
      const follower = new Follower(store);
      await follower.until(({ table }) => table.size === 1);
      await lab.killAll();
      await eventually(() => store.state().lastError?.includes("lost everything") === true);
      const open = () => stray.members[0]!.metric("process_open_fds");
      const [openBefore, callsBefore, before_ms] = [
        await open(),
        etcd.callCount,
        performance.now(),
      ];
      await eventually(() => etcd.callCount >= callsBefore + 4);
      assert.ok(performance.now() - before_ms > 2_500, "it asks once a second");
      // The scrape has one of its own.
      assert.ok(await open() <= openBefore + 1, `${openBefore} descriptors, then ${await open()}`);
      await lab.restartAll();
      const whole_ms = performance.now();
      await eventually(() => store.state().lastError === null);
      assert.ok(performance.now() - whole_ms < 4_000, `${performance.now() - whole_ms} ms`);
      assert.equal(etcd.location, lab.members[0]!.endpoint);
      await network.store().acquire(request(2));
      await follower.until(({ table }) => table.size === 2);
      assert.equal(leaseKey((await store.renew(held)).subnets), leaseKey(held.subnets));
      await follower.stop();
      // One that starts asks each second.
      const late = network.node({}, at([stray, lab])).store;
      await rejectsWith("config_missing", late.readConfig());
      await late.readConfig();
      await network.close();
    });
  });
});
