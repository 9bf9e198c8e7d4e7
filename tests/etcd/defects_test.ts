/**
 * flannel's defects of its store over etcd, each by a number. The tenth is of the client, that an
 * authority's file alone was ignored: tests/etcd/client/tls_test.ts.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { leaseKey } from "../../src/lease/lease.ts";
import { IpPrefix } from "../../src/net/ip.ts";
import { lease, nodeNumber, seededRandom } from "../lease/sample.ts";
import { Follower, rejectsWith, TTL_MS } from "../store/harness.ts";
import { interleave } from "./fake_etcd.ts";
import { networkOfEachTest, PREFIX, TestNetwork } from "./harness.ts";

const valueOf = (n: number) => `{"PublicIP":"192.168.0.${n}","PublicIPv6":null}`;
const request = (n: number, ...previous: string[]) => ({
  attributes: nodeNumber(n),
  previousSubnets: previous.map((text) => IpPrefix.parse(text)),
});

describe("flannel's defect", () => {
  const start = networkOfEachTest();

  test("1, a peer missed when two nodes join at the same instant: 200 rounds", async () => {
    for (let seed = 1; seed <= 200; seed++) {
      const there = new TestNetwork(seed);
      const random = seededRandom(seed);
      there.server.turn = interleave(random);
      there.server.batchRevisionsMax = () => 1 + Math.floor(random() * 4);
      const followers = await Promise.all([1, 2].map(async (n) => {
        const store = there.store();
        await store.acquire(request(n));
        return new Follower(store);
      }));
      for (const follower of followers) await follower.until((self) => self.table.size === 2);
      await there.close();
    }
  });

  test("2, a lost race that ends a joiner", async () => {
    const there = start();
    there.server.turn = interleave(seededRandom(2));
    const leases = await Promise.all(
      [1, 2, 3, 4].map((n) => there.store().acquire(request(n, "10.5.7.0/24"))),
    );
    const names = leases.map((one) => leaseKey(one.subnets));
    assert.equal(new Set(names).size, 4);
    assert.ok(names.includes("10.5.7.0-24"));
  });

  test("3, a call for each key of a list, and for each event", async () => {
    const there = start();
    for (let n = 0; n < 250; n++) there.putLease(`10.5.${n}.0-24`, valueOf(n));
    const { store, etcd } = there.node();
    const follower = new Follower(store);
    await follower.until((self) => self.table.size === 250);
    for (let n = 0; n < 250; n++) there.putLease(`10.5.${n}.0-24`, valueOf(n + 1));
    await follower.until((self) => self.batches.slice(1).flat().length === 250);
    assert.deepEqual(etcd.calls, ["list", "watch"]);
    await follower.stop();
  });

  test("4, every peer removed for one key that cannot be read", async () => {
    const there = start();
    for (const n of [1, 2, 3]) there.putLease(`10.5.${n}.0-24`, valueOf(n));
    const follower = new Follower(there.store());
    await follower.until((self) => self.table.size === 3);
    there.putLease("10.5.4.0-24", "\u0000");
    there.putLease("someone-else's", "x");
    there.putLease("10.5.5.0-24", valueOf(5));
    await follower.until((self) => self.table.size === 4);
    assert.deepEqual(follower.batches.flat().filter(({ type }) => type === "delete"), []);
    const other = new Follower(there.store());
    await other.until((self) => self.table.size === 4);
    await Promise.all([follower.stop(), other.stop()]);
  });

  test("5, peers never learnt, or leases never renewed, after a first failure", async () => {
    const there = start();
    there.putLease("10.5.1.0-24", valueOf(1));
    there.server.setDown(true);
    const { store, etcd } = there.node();
    const follower = new Follower(store);
    await rejectsWith("unavailable", store.acquire(request(2)));
    assert.equal(store.state().connected, false);
    there.server.setDown(false);
    await follower.until((self) => self.table.size === 1);
    const held = await store.acquire(request(2));
    await follower.until((self) => self.table.size === 2);
    etcd.cutOff(true);
    await rejectsWith("unavailable", store.renew(held));
    etcd.cutOff(false);
    await store.renew(held);
    await follower.until((self) => self.batches.flat().length === 3);
    await follower.stop();
  });

  test("6, changed attributes ignored after listing anew", async () => {
    const there = start();
    there.putLease("10.5.1.0-24", valueOf(1));
    const { store, etcd } = there.node();
    const follower = new Follower(store);
    await follower.until((self) => self.table.size === 1);
    etcd.cutOff(true);
    there.putLease("10.5.1.0-24", '{"PublicIP":"192.168.0.1","BackendType":"host-gw"}');
    there.server.compact();
    etcd.cutOff(false);
    await follower.until((self) => self.table.leases[0]?.backendType === "host-gw");
    await follower.stop();
  });

  test("7, events skipped by a watcher that was behind when its stream broke", async () => {
    const there = start();
    const { store, etcd } = there.node();
    const follower = new Follower(store);
    await follower.until((self) => self.batches.length === 1);
    // A response holds one of many events; its header would name the last revision of all.
    there.server.batchRevisionsMax = () => 1;
    for (let n = 0; n < 20; n++) there.putLease(`10.5.${n}.0-24`, valueOf(n));
    await follower.until((self) => self.table.size === 3);
    etcd.cutOff(true);
    etcd.cutOff(false);
    there.server.breakWatches();
    await follower.until((self) => self.table.size === 20);
    assert.equal(follower.batches.flat().length, 20);
    assert.equal(etcd.calls.filter((call) => call === "list").length, 1);
    await follower.stop();
  });

  test("8, a renewal that overwrites whoever has taken the subnet", async () => {
    const there = start();
    const [one, other] = [there.store(), there.store()];
    const held = await one.acquire(request(1));
    there.clock.advance(TTL_MS + 1);
    await other.acquire(request(2, String(held.subnets[0])));
    const { revision } = there.server;
    await rejectsWith("lease_lost", one.renew(held));
    assert.equal(there.server.revision, revision);
  });

  test("9, a reservation that becomes a lease of a day", async () => {
    const there = start();
    there.putLease("10.5.1.0-24", valueOf(1), 0n);
    const store = there.store();
    await store.renew(await store.acquire(request(1)));
    await store.renew(lease("10.5.1.0-24", nodeNumber(1)));
    assert.equal(there.server.entry(`${PREFIX}/subnets/10.5.1.0-24`)!.leaseId, 0n);
    there.clock.advance(1000 * TTL_MS);
    assert.deepEqual(there.leaseNames(), ["10.5.1.0-24"]);
  });
});
