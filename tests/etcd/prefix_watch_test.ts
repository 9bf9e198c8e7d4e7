import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { EtcdStore } from "../../src/etcd/etcd_store.ts";
import { Subscriber } from "../../src/etcd/subscriber.ts";
import { SelvageError } from "../../src/errors.ts";
import { leaseKey } from "../../src/lease/lease.ts";
import { equalLeases, LeaseTable, putChange } from "../../src/lease/lease_table.ts";
import type { StoreState } from "../../src/store/store.ts";
import { lease, nodeNumber, seededRandom } from "../lease/sample.ts";
import { ConfigFollower, Follower, rejectsWith, TTL_MS } from "../store/harness.ts";
import { FakeServer, interleave } from "./fake_etcd.ts";
import { eventually, networkOfEachTest, PREFIX, QUICK_TIMES, TestNetwork } from "./harness.ts";

const valueOf = (n: number) => `{"PublicIP":"192.168.0.${n}","PublicIPv6":null}`;
const ADDRESS = (one: { leases: LeaseTable["leases"] }) =>
  one.leases.map((each) => `${leaseKey(each.subnets)} ${each.publicAddresses}`);

describe("the watch of etcd", () => {
  const start = networkOfEachTest();

  test("goes on from the last event's revision after the stream broke", async () => {
    const there = start();
    const { store, etcd } = there.node();
    const follower = new Follower(store);
    await follower.until((self) => self.batches.length === 1);
    there.putLease("10.5.1.0-24", valueOf(1));
    await follower.until((self) => self.table.size === 1);
    etcd.cutOff(true);
    there.putLease("10.5.2.0-24", valueOf(2));
    there.server.delete(`${PREFIX}/subnets/10.5.1.0-24`);
    there.putLease("10.5.1.0-24", valueOf(3));
    // Other writes make revisions of their own.
    there.server.put("/elsewhere", "x");
    etcd.cutOff(false);
    await follower.until((self) => self.batches.flat().length === 4);
    const seen = follower.batches.flat().map(({ type, key }) => `${type} ${key}`);
    assert.deepEqual(seen, [
      "put 10.5.1.0-24",
      "put 10.5.2.0-24",
      "delete 10.5.1.0-24",
      "put 10.5.1.0-24",
    ]);
    // It asked for no list again.
    assert.equal(etcd.calls.filter((call) => call === "list").length, 1);
    await follower.stop();
  });

  test("gives the events of one response as one batch", async () => {
    const there = start();
    const follower = new Follower(there.store());
    await follower.until((self) => self.batches.length === 1);
    there.server.apply([1, 2, 3].map((n) => {
      return { put: `${PREFIX}/subnets/10.5.${n}.0-24`, value: valueOf(n), leaseId: 0n };
    }));
    await follower.until((self) => self.batches.length === 2);
    assert.equal(follower.batches[1]!.length, 3);
    await follower.stop();
  });

  test("lists anew and gives the difference where the events are compacted away", async () => {
    const there = start();
    const { store, etcd } = there.node();
    for (const n of [1, 2, 3]) there.putLease(`10.5.${n}.0-24`, valueOf(n));
    const follower = new Follower(store);
    await follower.until((self) => self.table.size === 3);
    const before = follower.table.leases;
    etcd.cutOff(true);
    there.server.delete(`${PREFIX}/subnets/10.5.1.0-24`);
    there.putLease("10.5.2.0-24", valueOf(9));
    there.putLease("10.5.4.0-24", valueOf(4));
    there.server.compact();
    etcd.cutOff(false);
    await follower.until((self) => self.batches.length === 2);
    const seen = follower.batches[1]!.map(({ type, key }) => `${type} ${key}`);
    assert.deepEqual(seen, ["delete 10.5.1.0-24", "put 10.5.2.0-24", "put 10.5.4.0-24"]);
    // What did not change is the same object, not an equal one.
    assert.equal(follower.table.get("10.5.3.0-24"), before[2]);
    await follower.stop();
  });

  test("finds out that etcd has lost its data, also when it has got as far again", async () => {
    for (const writeCount of [1, 40]) {
      const there = new TestNetwork();
      const { store, etcd } = there.node();
      for (const n of [1, 2, 3]) there.putLease(`10.5.${n}.0-24`, valueOf(n));
      const follower = new Follower(store);
      await follower.until((self) => self.table.size === 3);
      etcd.cutOff(true);
      there.server.wipe();
      there.setConfig('{"Network":"10.5.0.0/16"}');
      there.putLease("10.5.2.0-24", valueOf(2));
      for (let i = 0; i < writeCount; i++) there.server.put("/elsewhere", "x");
      etcd.cutOff(false);
      await follower.until((self) => self.table.size === 1);
      assert.deepEqual(ADDRESS(follower.table), ["10.5.2.0-24 192.168.0.2"]);
      await there.close();
    }
  });

  test("lists anew now and then, and finds what no event told of", async () => {
    const there = start();
    const times = { ...QUICK_TIMES, relist_ms: 20, relistPerLease_ms: 0 };
    const { store, etcd } = there.node({ times });
    there.putLease("10.5.1.0-24", valueOf(1));
    const follower = new Follower(store);
    await follower.until((self) => self.table.size === 1);
    // A stream that swallows every event.
    const { watch } = etcd;
    etcd.watch = (_prefix, from, signal) => watch.call(etcd, "/silent", from, signal);
    await eventually(() => etcd.calls.filter((call) => call === "list").length > 2);
    there.putLease("10.5.2.0-24", valueOf(2));
    await follower.until((self) => self.table.size === 2);
    await follower.stop();
    assert.equal(there.server.streamCount, 0);
  });

  test("is one for all readers, and asks for nothing while nothing happens", async () => {
    const there = start();
    const { store, etcd } = there.node();
    const followers = [new Follower(store), new Follower(store)];
    for (const one of followers) await one.until((self) => self.batches.length === 1);
    const late = new Follower(store);
    await late.until((self) => self.batches.length === 1);
    for (let n = 0; n < 50; n++) there.putLease(`10.5.${n}.0-24`, valueOf(n));
    for (const one of [...followers, late]) await one.until((self) => self.table.size === 50);
    assert.deepEqual(etcd.calls, ["list", "watch"]);
    assert.equal(there.server.streamCount, 1);
    for (const one of [...followers, late]) await one.stop();
    assert.equal(there.server.streamCount, 0);
    // And it begins again.
    const again = new Follower(store);
    await again.until((self) => self.table.size === 50);
    await again.stop();
  });

  test("skips what is none of flannel's, names it, counts it, and forgets it in time", async () => {
    const there = start();
    there.putLease("10.5.1.0-24", valueOf(1));
    there.putLease("10.5.2.0-24", "garbage");
    there.putLease("not-a-subnet", valueOf(3));
    there.putLease("10.5.9.9-24", valueOf(3));
    there.server.put(`${PREFIX}/other`, "not among the leases");
    const store = there.store();
    const follower = new Follower(store);
    await follower.until((self) => self.table.size === 1);
    assert.equal(store.state().unreadableCount, 3);
    assert.equal((await store.list()).length, 1);
    assert.equal(store.state().unreadableCount, 3);
    const { key, reason } = store.state().unreadable[0]!;
    assert.equal(key, `${PREFIX}/subnets/10.5.2.0-24`);
    assert.match(reason, /not JSON/);
    there.putLease("10.5.2.0-24", valueOf(2));
    await follower.until((self) => self.table.size === 2);
    assert.equal(store.state().unreadableCount, 2);
    // A lease that becomes garbage is no lease any more.
    there.putLease("10.5.1.0-24", '{"PublicIP":"no address"}');
    await follower.until((self) => self.table.size === 1);
    assert.equal(store.state().unreadableCount, 3);
    for (const name of ["not-a-subnet", "10.5.9.9-24", "10.5.1.0-24"]) {
      there.server.delete(`${PREFIX}/subnets/${name}`);
    }
    there.putLease("10.5.3.0-24", valueOf(3));
    await follower.until((self) => self.table.size === 2);
    assert.equal(store.state().unreadableCount, 0);
    assert.deepEqual(ADDRESS(follower.table), [
      "10.5.2.0-24 192.168.0.2",
      "10.5.3.0-24 192.168.0.3",
    ]);
    await follower.stop();
  });

  test("says since when etcd is lost, and why, and when it is back", async () => {
    const there = start();
    const states: StoreState[] = [];
    const { store, etcd } = there.node({ onStateChange: (state) => states.push(state) });
    assert.deepEqual(
      { ...store.state(), since_ms: 0 },
      {
        kind: "etcd",
        location: "fake:2379/coreos.com/network",
        connected: false,
        since_ms: 0,
        lastError: null,
        errorSince_ms: null,
        unreadableCount: 0,
        unreadable: [],
      },
    );
    const follower = new Follower(store);
    await follower.until((self) => self.batches.length === 1);
    assert.equal(store.state().connected, true);
    there.clock.advance(5000);
    there.server.setDown(true);
    await eventually(() => !store.state().connected);
    const lost = store.state();
    assert.match(lost.lastError!, /connection refused/);
    assert.equal(lost.since_ms, there.clock.now_ms());
    await rejectsWith("unavailable", store.list());
    there.clock.advance(5000);
    there.server.setDown(false);
    await eventually(() => store.state().connected);
    assert.deepEqual([store.state().lastError, store.state().since_ms], [
      null,
      there.clock.now_ms(),
    ]);
    assert.deepEqual(states.map((state) => state.connected), [true, false, true]);
    assert.ok(etcd.callCount < 100);
    await follower.stop();
  });

  test("does not take an etcd for found whose watches die as soon as they are open", async () => {
    const there = start();
    const states: boolean[] = [];
    const { store, etcd } = there.node({ onStateChange: (state) => states.push(state.connected) });
    const follower = new Follower(store);
    await follower.until((self) => self.batches.length === 1);
    const { watch } = etcd;
    let openedCount = 0;
    // deno-lint-ignore require-yield
    etcd.watch = async function* () {
      await Promise.resolve();
      openedCount++;
      throw new SelvageError("unavailable", "no watches today");
    };
    there.server.breakWatches();
    await eventually(() => openedCount > 20);
    assert.deepEqual(states, [true, false, true, false]);
    assert.match(store.state().lastError!, /no watches today/);
    etcd.watch = watch;
    there.putLease("10.5.1.0-24", valueOf(1));
    await follower.until((self) => self.table.size === 1);
    assert.deepEqual(states, [true, false, true, false, true]);
    await follower.stop();
  });

  test("tells of a write that fails while the watch goes on, until one succeeds", async () => {
    const there = start();
    const store = there.store();
    const follower = new Follower(store);
    await follower.until((self) => self.batches.length === 1);
    there.server.fault = (call) => call === "grantLease" ? "lost" : null;
    await rejectsWith(
      "unavailable",
      store.acquire({
        attributes: nodeNumber(1),
        previousSubnets: [],
      }),
    );
    there.putLease("10.5.9.0-24", valueOf(9));
    await follower.until((self) => self.table.size === 1);
    await store.list();
    assert.equal(store.state().connected, true);
    assert.match(store.state().lastError!, /connection reset/);
    there.server.fault = () => null;
    await store.acquire({ attributes: nodeNumber(1), previousSubnets: [] });
    assert.equal(store.state().lastError, null);
    await follower.stop();
  });

  for (const seed of [1, 2, 3, 4, 5, 6]) {
    test(`ends with what etcd has, whatever happens on the way (seed ${seed})`, async () => {
      const there = start(seed);
      const random = seededRandom(seed);
      const pick = (count: number) => Math.floor(random() * count);
      there.server.turn = interleave(random);
      there.server.batchRevisionsMax = () => 1 + pick(3);
      const nodes = Array.from({ length: 6 }, () => there.node());
      const followers = nodes.map(({ store }) => new Follower(store));
      const acts: (() => unknown)[] = [
        () => there.putLease(`10.5.${pick(30)}.0-24`, valueOf(pick(200))),
        () => there.putLease(`10.5.${pick(30)}.0-24`, valueOf(pick(200)), 0n),
        () => there.server.delete(`${PREFIX}/subnets/10.5.${pick(30)}.0-24`),
        () => there.putLease(`10.5.${pick(30)}.0-24`, "garbage"),
        () => there.putLease(`foreign-${pick(5)}`, valueOf(1)),
        () => there.clock.advance(TTL_MS / 4),
        () => there.server.expire(),
        () => there.server.compact(),
        () => there.server.breakWatches(),
        () => there.server.setDown(true),
        () => there.server.setDown(false),
        () => nodes[pick(6)]!.etcd.cutOff(true),
        () => nodes[pick(6)]!.etcd.cutOff(false),
        () => there.server.put("/elsewhere", "x"),
      ];
      for (let i = 0; i < 300; i++) {
        acts[pick(acts.length)]!();
        if (random() < 0.3) await new Promise((resolve) => setImmediate(resolve));
      }
      there.server.setDown(false);
      for (const { etcd } of nodes) etcd.cutOff(false);
      const expected = await there.store().list();
      for (const follower of followers) {
        await follower.until(({ table }) =>
          table.size === expected.length &&
          table.leases.every((one, i) => equalLeases(one, expected[i]!))
        );
        await follower.stop();
      }
    });
  }
});

describe("endpoints of which one is of another cluster", () => {
  const start = networkOfEachTest();

  test("who starts at the one without a configuration asks the next", async () => {
    const there = start();
    const stray = new FakeServer();
    const etcd = stray.client([there.server]);
    const store = new EtcdStore({ etcd, prefix: PREFIX, times: QUICK_TIMES });
    await rejectsWith("config_missing", store.readConfig());
    assert.equal((await store.readConfig()).ranges.length, 1);
    await store.readConfig();
    assert.equal(etcd.server, there.server);
    await store.close();
  });

  test("a host that was led there goes back by itself, and loses no peer", async () => {
    const there = start();
    const stray = new FakeServer();
    // It counts further than the right one.
    for (let i = 0; i < 40; i++) stray.put("/elsewhere", "x");
    const { store, etcd } = there.node({}, [stray]);
    for (const n of [1, 2, 3]) there.putLease(`10.5.${n}.0-24`, valueOf(n));
    const follower = new Follower(store);
    await follower.until((self) => self.table.size === 3);
    there.server.setDown(true);
    await eventually(() => store.state().lastError?.includes("lost everything") === true);
    // It asks on, at the one that is there.
    const callCount = etcd.callCount;
    await eventually(() => etcd.callCount > callCount + 5);
    there.server.setDown(false);
    there.server.delete(`${PREFIX}/subnets/10.5.1.0-24`);
    there.putLease("10.5.4.0-24", valueOf(4));
    await eventually(() => store.state().lastError === null);
    assert.equal(store.state().connected, true);
    await follower.until((self) => self.batches.length === 2);
    const seen = follower.batches[1]!.map(({ type, key }) => `${type} ${key}`);
    assert.deepEqual(seen, ["delete 10.5.1.0-24", "put 10.5.4.0-24"]);
    assert.equal(there.server.streamCount, 1);
    assert.equal(stray.streamCount, 0);
    // And is content.
    const calls = etcd.calls.slice();
    there.putLease("10.5.5.0-24", valueOf(5));
    await follower.until((self) => self.table.size === 4);
    assert.deepEqual(etcd.calls, calls);
    await follower.stop();
  });

  test("one that leads nowhere else is left alone", async () => {
    const there = start();
    const { store, etcd } = there.node();
    const configs = new ConfigFollower(store);
    const follower = new Follower(store);
    await follower.until((self) => self.batches.length === 1);
    there.server.wipe();
    await eventually(() => etcd.calls.includes("tryElsewhere"));
    const { length } = etcd.calls;
    there.setConfig('{"Network":"10.6.0.0/16"}');
    await configs.until((self) => self.networks().at(-1) === "10.6.0.0/16");
    assert.ok(etcd.calls.length <= length + 3, etcd.calls.join(" "));
    await Promise.all([follower.stop(), configs.stop()]);
  });
});

describe("a reader that is slow", () => {
  const one = (n: number) => putChange(lease(`10.5.${n}.0-24`, nodeNumber(n), null));

  test("gets every batch as long as they are few, then the difference", () => {
    const reader = new Subscriber(5);
    let all = LeaseTable.EMPTY;
    const happen = (n: number) => {
      all = all.apply([one(n)]);
      reader.push([one(n)]);
    };
    happen(0);
    assert.deepEqual(reader.next(all)?.map(({ key }) => key), ["10.5.0.0-24"]);
    assert.equal(reader.next(all), null);
    happen(1);
    happen(2);
    assert.deepEqual(reader.next(all)?.map(({ key }) => key), ["10.5.1.0-24"]);
    assert.deepEqual(reader.next(all)?.map(({ key }) => key), ["10.5.2.0-24"]);
    for (let n = 3; n < 20; n++) happen(n);
    assert.equal(reader.next(all)?.length, 17);
    assert.equal(reader.next(all), null);
    happen(20);
    assert.deepEqual(reader.next(all)?.map(({ key }) => key), ["10.5.20.0-24"]);
  });
});
