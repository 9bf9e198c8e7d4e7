import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Lease, leaseKey } from "../../src/lease/lease.ts";
import { IpPrefix } from "../../src/net/ip.ts";
import { nodeNumber, seededRandom } from "../lease/sample.ts";
import { rejectsWith, TTL_MS } from "../store/harness.ts";
import { interleave } from "./fake_etcd.ts";
import { failWrite, FATES, persist } from "./faults.ts";
import { eventually, networkOfEachTest, PREFIX, TestNetwork } from "./harness.ts";

const request = (n: number, previous: string[] = []) => ({
  attributes: nodeNumber(n),
  previousSubnets: previous.map((text) => IpPrefix.parse(text)),
});

const nameOf = (lease: Lease) => leaseKey(lease.subnets);
const valueOf = (n: number) => `{"PublicIP":"192.168.0.${n}","PublicIPv6":null}`;

describe("taking a lease in etcd", () => {
  const start = networkOfEachTest();

  for (const seed of [1, 2, 3, 4, 5]) {
    test(`64 nodes at the same instant all get one of 64 subnets (seed ${seed})`, async () => {
      // 64 subnets that are given out, so the last ones must find what the others left.
      const there = start(seed, '{"Network":"10.9.0.0/16","SubnetMax":"10.9.64.0"}');
      there.server.turn = interleave(seededRandom(seed));
      const previous = ["10.9.7.0/24"];
      const leases = await Promise.all(
        Array.from({ length: 64 }, (_, n) => there.store().acquire(request(n, previous))),
      );
      assert.equal(new Set(leases.map(nameOf)).size, 64);
      assert.deepEqual(there.leaseNames().sort(), leases.map(nameOf).sort());
      for (const lease of leases) {
        const held = there.server.entry(`${PREFIX}/subnets/${nameOf(lease)}`)!;
        assert.match(held.value, new RegExp(`"${lease.publicAddresses[0]}"`));
        assert.equal(there.server.findLease(held.leaseId)!.ttl_s, TTL_MS / 1000);
      }
      // Those of tries that were lost are ended.
      assert.equal(there.server.grantIds.length, 64);
    });
  }

  test("takes few calls, the watch that follows among them", async () => {
    const there = start();
    for (let n = 1; n < 50; n++) there.putLease(`10.5.${n}.0-24`, valueOf(n));
    const { store, etcd } = there.node();
    await store.readConfig();
    await store.acquire(request(60));
    const stopping = new AbortController();
    for await (const changes of store.watch(stopping.signal)) {
      assert.equal(changes.length, 50);
      break;
    }
    assert.deepEqual(etcd.calls, ["get", "list", "grantLease", "transact", "list", "watch"]);
  });

  test("a host that starts anew leaves none of its earlier leases of etcd behind", async () => {
    const there = start();
    for (let run = 0; run < 3; run++) {
      const { store } = there.node();
      const lease = await store.acquire(request(1));
      const { leaseId } = there.server.entry(`${PREFIX}/subnets/${nameOf(lease)}`)!;
      await eventually(() => there.server.grantIds.length === 1);
      assert.deepEqual(there.server.grantIds, [leaseId]);
      await store.close();
    }
  });

  test("nor does one whose key was deleted", async () => {
    const there = start();
    const store = there.store();
    for (let round = 0; round < 3; round++) {
      const lease = await store.acquire(request(1));
      await eventually(() => there.server.grantIds.length === 1);
      there.server.delete(`${PREFIX}/subnets/${nameOf(lease)}`);
    }
  });

  test("what hangs on the earlier lease of etcd besides keeps it", async () => {
    const there = start();
    const shared = there.server.grant(100);
    there.putLease("10.5.7.0-24", valueOf(1), shared);
    there.server.put("/someone/else", "", shared);
    const { store, etcd } = there.node();
    assert.equal(nameOf(await store.acquire(request(1))), "10.5.7.0-24");
    await eventually(() => etcd.calls.includes("findLease"));
    await store.list();
    assert.deepEqual(there.server.findLease(shared)?.keyCount, 1);
  });

  test("is done again under a configuration that came in between", async () => {
    const there = start();
    const store = there.store();
    there.server.fault = (call) => {
      if (call === "grantLease") there.setConfig('{"Network":"10.6.0.0/16"}');
      return null;
    };
    assert.match(nameOf(await store.acquire(request(1))), /^10\.6\./);
    assert.equal(there.server.grantIds.length, 1);
  });

  test("deletes own leases that no longer fit, in the same step", async () => {
    const there = start();
    there.putLease("10.7.1.0-24", valueOf(1));
    there.putLease("10.5.1.0-24&fc00::-64", valueOf(1));
    there.putLease("10.5.2.0-24", valueOf(2));
    const revision = there.server.revision;
    assert.equal(nameOf(await there.store().acquire(request(1))), "10.5.1.0-24");
    assert.deepEqual(there.leaseNames(), ["10.5.1.0-24", "10.5.2.0-24"]);
    assert.equal(there.server.revision, revision + 1n);
  });

  test("of more own leases than a transaction takes leaves one", async () => {
    const there = start();
    for (let n = 0; n < 100; n++) there.putLease(`10.7.${n}.0-24`, valueOf(1));
    const lease = await there.store().acquire(request(1));
    assert.deepEqual(there.leaseNames(), [nameOf(lease)]);
  });

  test("keeps off subnets whose value, or node, is unknown", async () => {
    const there = start(1, '{"Network":"10.9.9.0/28"}');
    there.putLease("10.9.9.4-30", "garbage");
    const store = there.store();
    const [one, two] = [await store.acquire(request(1)), await store.acquire(request(2))];
    assert.deepEqual([nameOf(one), nameOf(two)].sort(), ["10.9.9.12-30", "10.9.9.8-30"]);
    assert.match((await rejectsWith("out_of_subnets", store.acquire(request(3)))).message, /all 3/);
    assert.equal(store.state().unreadableCount, 1);
    assert.equal(there.server.grantIds.length, 3);
  });

  test("keeps off subnets of another size, also when they come at the same moment", async () => {
    const there = start(
      1,
      '{"Network":"10.5.0.0/16","SubnetMin":"10.5.8.0","SubnetMax":"10.5.9.0"}',
    );
    const store = there.store();
    let isDone = false;
    there.server.fault = (call, args) => {
      // Between our list and our put.
      const puts = call === "transact" && JSON.stringify(args[1], (_, one) => `${one}`).length > 2;
      if (puts && !isDone) {
        isDone = true;
        there.putLease("10.5.8.0-23", valueOf(9));
      }
      return null;
    };
    await rejectsWith("out_of_subnets", store.acquire(request(1)));
    assert.equal(isDone, true);
    assert.deepEqual(there.leaseNames(), ["10.5.8.0-23"]);
    assert.equal(there.server.grantIds.length, 1);
  });

  test("gives up an own lease that overlaps an older one", async () => {
    const there = start();
    there.putLease("10.5.8.0-23", valueOf(9));
    there.putLease("10.5.8.0-24", valueOf(1));
    const lease = await there.store().acquire(request(1, ["10.5.8.0/24"]));
    assert.notEqual(nameOf(lease), "10.5.8.0-24");
    assert.deepEqual(there.leaseNames().sort(), ["10.5.8.0-23", nameOf(lease)].sort());
    // The older one's holder stays.
    const other = await there.store().acquire(request(9));
    assert.notEqual(nameOf(other), "10.5.8.0-23");
  });

  test("of a reservation gives it no end", async () => {
    const there = start();
    there.putLease("10.5.8.0-24", valueOf(1), 0n);
    const lease = await there.store().acquire(request(1));
    assert.deepEqual([nameOf(lease), lease.expiry_ms], ["10.5.8.0-24", null]);
    assert.equal(there.server.entry(`${PREFIX}/subnets/10.5.8.0-24`)!.leaseId, 0n);
    assert.deepEqual(there.server.grantIds, []);
  });

  test("waits for a configuration, and names what is wrong with it", async () => {
    const there = start(1, null);
    const store = there.store();
    const missing = await rejectsWith("config_missing", store.acquire(request(1)));
    assert.match(missing.message, /\/coreos\.com\/network\/config/);
    there.setConfig("no JSON");
    const broken = await rejectsWith("invalid_argument", store.acquire(request(1)));
    assert.match(broken.message, /etcd key \/coreos\.com\/network\/config: not JSON/);
    assert.equal(store.state().connected, true);
    assert.deepEqual(there.server.grantIds, []);
  });

  test("ends after its time where others are always faster, and says so", async () => {
    const there = start();
    const store = there.store({ raceLimit_ms: 50 });
    there.server.fault = (call) => {
      if (call === "grantLease" || call === "transact") {
        there.setConfig('{"Network":"10.5.0.0/16"}');
      }
      return null;
    };
    const error = await rejectsWith("unavailable", store.acquire(request(1)));
    assert.match(error.message, /taking a subnet: others were faster \d+ times/);
    assert.deepEqual(there.server.grantIds, []);
  });

  test("outlives a grant that ran out while the process stood still", async () => {
    const there = start();
    let isPaused = true;
    there.server.fault = (call) => {
      if (call === "transact" && isPaused) {
        isPaused = false;
        there.clock.advance(2 * TTL_MS);
        there.server.expire();
      }
      return null;
    };
    const lease = await there.store().acquire(request(1));
    assert.deepEqual(there.leaseNames(), [nameOf(lease)]);
    assert.equal(lease.expiry_ms, there.clock.now_ms() + TTL_MS);
  });
});

describe("an answer that is missing", () => {
  /** What stands before, by name. */
  const grounds: Record<string, (network: TestNetwork) => void> = {
    "a new lease": () => {},
    "a lease held before": (network) => network.putLease("10.5.8.0-24", valueOf(1)),
    "a lease that no longer fits": (network) => network.putLease("10.7.8.0-24", valueOf(1)),
    "a reservation": (network) => network.putLease("10.5.8.0-24", valueOf(1), 0n),
  };
  for (const [ground, prepare] of Object.entries(grounds)) {
    test(`leaves one lease and no doubt: ${ground}`, async () => {
      let count = 0;
      for (const fate of FATES) {
        for (const delay of fate === "late" ? [1, 2, 3, 4, 99] : [1]) {
          for (let n = 0;; n++) {
            const network = new TestNetwork(n + 1);
            prepare(network);
            const what = `${ground}: write ${n} is ${fate}, delivered after ${delay}`;
            const fault = failWrite(network.server, n, fate, delay);
            const store = network.store();
            const lease = await persist(() => store.acquire(request(1)));
            network.server.deliverLate();
            assert.deepEqual(network.leaseNames(), [nameOf(lease)], what);
            const entry = network.server.entry(`${PREFIX}/subnets/${nameOf(lease)}`)!;
            assert.equal(entry.leaseId === 0n, lease.expiry_ms === null, what);
            if (entry.leaseId !== 0n) {
              assert.ok(network.server.findLease(entry.leaseId)!.ttl_s > 0, what);
            }
            // A later renewal finds it in order.
            network.server.fault = () => null;
            await store.renew(lease);
            await network.close();
            if (!fault.hasHappened) break;
            count++;
          }
        }
      }
      assert.ok(count >= 8, `${count} faults`);
    });
  }
});
