import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Lease, leaseKey, parseLeaseKey } from "../../src/lease/lease.ts";
import { lease as leaseOf, nodeNumber } from "../lease/sample.ts";
import { rejectsWith, TTL_MS } from "../store/harness.ts";
import { failWrite, FATES, isWrite, persist } from "./faults.ts";
import { networkOfEachTest, PREFIX, TestNetwork } from "./harness.ts";

const request = (n: number) => ({ attributes: nodeNumber(n), previousSubnets: [] });
const valueOf = (n: number) => `{"PublicIP":"192.168.0.${n}","PublicIPv6":null}`;
const NAME = "10.5.8.0-24";
const KEY = `${PREFIX}/subnets/${NAME}`;

const start = networkOfEachTest();

describe("renewing a lease in etcd", () => {
  test("moves the key to a new grant of the whole time, and ends the old one", async () => {
    const there = start();
    const { store, etcd } = there.node();
    const held = await store.acquire(request(1));
    const key = `${PREFIX}/subnets/${leaseKey(held.subnets)}`;
    const before = there.server.entry(key)!;
    there.clock.advance(TTL_MS / 2);
    etcd.calls.length = 0;
    const renewed = await store.renew(held);
    const after = there.server.entry(key)!;
    assert.notEqual(after.leaseId, before.leaseId);
    assert.equal(after.createRevision, before.createRevision);
    assert.equal(there.server.findLease(after.leaseId)!.ttl_s, TTL_MS / 1000);
    assert.equal(renewed.expiry_ms, there.clock.now_ms() + TTL_MS);
    assert.deepEqual(there.server.grantIds, [after.leaseId]);
    assert.deepEqual(etcd.calls, [
      "transact",
      "grantLease",
      "transact",
      "findLease",
      "revokeLease",
    ]);
  });

  test("leaves a grant alone that another has made, whatever may hang on it", async () => {
    const there = start();
    const grant = there.server.grant(TTL_MS / 1000);
    there.putLease(NAME, valueOf(1), grant);
    there.server.put("/elsewhere", "x", grant);
    await there.store().renew(leaseOf(NAME, nodeNumber(1)));
    assert.notEqual(there.server.entry(KEY)!.leaseId, grant);
    assert.equal(there.server.entry("/elsewhere")!.leaseId, grant);
  });

  test("is refused to a node that slept past its end, whoever holds the subnet now", async () => {
    const there = start();
    const [sleeper, other] = [there.store(), there.store()];
    const held = await sleeper.acquire(request(1));
    there.clock.advance(TTL_MS + 1);
    const nobody = await rejectsWith("lease_lost", sleeper.renew(held));
    assert.match(nobody.message, /nobody holds it now/);
    const taken = await other.acquire({ ...request(2), previousSubnets: held.subnets });
    assert.deepEqual(leaseKey(taken.subnets), leaseKey(held.subnets));
    const before = there.server.entries;
    const lost = await rejectsWith("lease_lost", sleeper.renew(held));
    assert.match(lost.message, /192\.168\.0\.2 holds it now/);
    await sleeper.release(held);
    assert.deepEqual(there.server.entries, before);
    // And so it takes another one.
    const next = await sleeper.acquire({ ...request(1), previousSubnets: held.subnets });
    assert.notEqual(leaseKey(next.subnets), leaseKey(held.subnets));
  });

  test("does not overwrite what another put between the look and the write", async () => {
    const there = start();
    const store = there.store();
    const held = await store.acquire(request(1));
    const key = `${PREFIX}/subnets/${leaseKey(held.subnets)}`;
    there.server.fault = (call) => {
      if (call === "grantLease") there.server.put(key, valueOf(2));
      return null;
    };
    await rejectsWith("lease_lost", store.renew(held));
    assert.equal(there.server.entry(key)!.value, valueOf(2));
    // The grant that it asked for is not left behind.
    assert.equal(there.server.grantIds.length, 1);
  });

  test("of what became a reservation meanwhile leaves it one", async () => {
    const there = start();
    const store = there.store();
    const held = await store.acquire(request(1));
    const key = `${PREFIX}/subnets/${leaseKey(held.subnets)}`;
    let isDone = false;
    there.server.fault = (call) => {
      if (call === "grantLease" && !isDone) {
        isDone = true;
        there.server.put(key, there.server.entry(key)!.value, 0n);
      }
      return null;
    };
    assert.equal((await store.renew({ ...held, backendType: "vxlan" })).expiry_ms, null);
    assert.equal(there.server.entry(key)!.leaseId, 0n);
    assert.match(there.server.entry(key)!.value, /vxlan/);
  });

  test("of a key whose value is damaged is refused", async () => {
    const there = start();
    there.putLease(NAME, "garbage");
    const error = await rejectsWith(
      "lease_lost",
      there.store().renew(leaseOf(NAME, nodeNumber(1))),
    );
    assert.match(error.message, /cannot be read \(value: not JSON/);
  });

  test("goes on while the configuration is missing or broken", async () => {
    const there = start();
    const store = there.store();
    const held = await store.acquire(request(1));
    there.setConfig("{");
    await store.renew(held);
    there.server.delete(`${PREFIX}/config`);
    await store.renew(held);
    assert.equal(there.leaseNames().length, 1);
  });
});

describe("an answer that is missing, while a lease is held,", () => {
  interface Act {
    readonly leaseId: bigint | null;
    act(store: ReturnType<TestNetwork["store"]>, lease: Lease): Promise<unknown>;
    check(network: TestNetwork, what: string): void;
  }
  const isHeld = (there: TestNetwork, what: string) => {
    const entry = there.server.entry(KEY);
    assert.ok(entry !== null, what);
    assert.match(entry.value, /"vxlan"/, what);
    assert.ok(there.server.findLease(entry.leaseId)!.ttl_s > TTL_MS / 1000 - 10, what);
  };
  const isGone = (there: TestNetwork, what: string) => {
    assert.deepEqual(there.leaseNames(), [], what);
  };
  const isReserved = (there: TestNetwork, what: string) => {
    assert.equal(there.server.entry(KEY)?.leaseId, 0n, what);
  };
  const acts: Record<string, Act> = {
    "renew": {
      leaseId: null,
      act: (store, lease) => store.renew({ ...lease, backendType: "vxlan" }),
      check: isHeld,
    },
    "renew a reservation": {
      leaseId: 0n,
      act: (store, lease) => store.renew({ ...lease, backendType: "vxlan" }),
      check: isReserved,
    },
    "release": { leaseId: null, act: (store, lease) => store.release(lease), check: isGone },
    "revoke": {
      leaseId: null,
      act: async (store) => {
        await store.revoke(NAME).catch((error) => {
          // It was done, and the caller did not hear of it.
          if (error.code !== "not_found") throw error;
        });
      },
      check: isGone,
    },
    "reserve": {
      leaseId: null,
      act: (store) => store.reserve(parseLeaseKey(NAME), nodeNumber(1)),
      check: isReserved,
    },
    "reserve what is free": {
      leaseId: -1n,
      act: (store) => store.reserve(parseLeaseKey(NAME), nodeNumber(1)),
      check: isReserved,
    },
  };
  for (const [name, { leaseId, act, check }] of Object.entries(acts)) {
    test(`is resolved: ${name}`, async () => {
      let count = 0;
      for (const fate of FATES) {
        for (const delay of fate === "late" ? [1, 2, 3, 99] : [1]) {
          for (let n = 0;; n++) {
            const there = new TestNetwork();
            const store = there.store();
            if (leaseId === 0n) there.putLease(NAME, valueOf(1), 0n);
            // Taken by the store itself, so that the grant is its own.
            const held = leaseId === null
              ? await store.acquire({ ...request(1), previousSubnets: parseLeaseKey(NAME) })
              : leaseOf(NAME, nodeNumber(1), null);
            there.clock.advance(TTL_MS / 2);
            const what = `write ${n} is ${fate}, delivered after ${delay}`;
            const fault = failWrite(there.server, n, fate, delay);
            await persist(() => act(store, held));
            there.server.deliverLate();
            check(there, what);
            await there.close();
            if (!fault.hasHappened) break;
            count++;
          }
        }
      }
      assert.ok(count >= 4, `${count} faults`);
    });
  }
});

test("a grant is not ended while the key may hang on it", async () => {
  for (const fate of ["unanswered", "late"] as const) {
    for (const act of ["renew", "acquire"] as const) {
      const there = new TestNetwork();
      const { store } = there.node();
      const held = await store.acquire(request(1));
      const names = there.leaseNames();
      let isSent = false;
      there.server.fault = (call, args) => {
        if (call === "revokeLease" || call === "grantLease") return null;
        if (isSent) return "lost";
        isSent = isWrite(call, args);
        return isSent ? fate : null;
      };
      const acted = act === "renew" ? store.renew(held) : store.acquire(request(1));
      await rejectsWith("unavailable", acted);
      there.server.deliverLate();
      assert.deepEqual(there.leaseNames(), names, `${act}, ${fate}`);
      there.server.fault = () => null;
      await store.renew(held);
      assert.deepEqual(there.leaseNames(), names, `${act}, ${fate}`);
      await there.close();
    }
  }
});

test("a caller that gives up in the middle does not wait, and loses no lease", async () => {
  for (const act of ["renew", "acquire"] as const) {
    const there = new TestNetwork();
    const store = there.store();
    const held = await store.acquire(request(1));
    const names = there.leaseNames();
    const giving = new AbortController();
    const reason = new Error("enough");
    // It is done, and the caller is gone before the answer.
    there.server.fault = (call, args) => {
      if (call === "transact" && isWrite(call, args)) giving.abort(reason);
      return null;
    };
    const acted = act === "renew"
      ? store.renew(held, giving.signal)
      : store.acquire(request(1), giving.signal);
    await assert.rejects(acted, reason);
    await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(there.leaseNames(), names, act);
    await there.close();
  }
});

describe("administering leases in etcd", () => {
  test("a reservation keeps what its node has written, to the byte", async () => {
    const there = start();
    const value = '{"PublicIP": "192.168.0.1", "Later":1, "BackendType":"vxlan"}';
    there.putLease(NAME, value);
    const lease = await there.store().reserve(parseLeaseKey(NAME), nodeNumber(1));
    assert.equal(lease.backendType, "vxlan");
    assert.equal(there.server.entry(KEY)!.value, value);
    assert.equal(there.server.entry(KEY)!.leaseId, 0n);
    // The end of the grant that it hung on does not take it along.
    there.clock.advance(2 * TTL_MS);
    assert.deepEqual(there.leaseNames(), [NAME]);
  });

  test("a reservation gives way to a lease that overlaps it and came first", async () => {
    const there = start();
    const store = there.store();
    let isDone = false;
    there.server.fault = (call, args) => {
      const puts = call === "transact" && (args[1] as unknown[]).length > 0;
      if (puts && !isDone) there.putLease("10.5.8.0-24", valueOf(9));
      isDone ||= puts;
      return null;
    };
    const reserved = store.reserve(parseLeaseKey("10.5.8.0-23"), nodeNumber(1));
    const error = await rejectsWith("conflict", reserved);
    assert.match(error.message, /10\.5\.8\.0-23 overlaps 10\.5\.8\.0-24 of 192\.168\.0\.9/);
    assert.deepEqual(there.leaseNames(), ["10.5.8.0-24"]);
  });

  test("a reservation of what is taken, by whom is not known, is refused", async () => {
    const there = start();
    there.putLease(NAME, "garbage");
    const reserved = there.store().reserve(parseLeaseKey(NAME), nodeNumber(1));
    assert.match(
      (await rejectsWith("conflict", reserved)).message,
      /is taken: it is leased to an unknown host/,
    );
  });

  test("a reservation gives way to one for the same node that came first", async () => {
    const there = start();
    let isDone = false;
    there.server.fault = (call, args) => {
      const puts = call === "transact" && (args[1] as unknown[]).length > 0;
      if (puts && !isDone) there.putLease("10.5.9.0-24", valueOf(1), 0n);
      isDone ||= puts;
      return null;
    };
    const reserved = there.store().reserve(parseLeaseKey("10.5.8.0-24"), nodeNumber(1));
    const error = await rejectsWith("conflict", reserved);
    assert.match(error.message, /192\.168\.0\.1 has a reservation already: 10\.5\.9\.0-24/);
    assert.deepEqual(there.leaseNames(), ["10.5.9.0-24"]);
  });

  test("by force it takes a lease that came at the same moment, and ends its grant", async () => {
    const there = start();
    const grant = there.server.grant(TTL_MS / 1000);
    let isDone = false;
    there.server.fault = (call, args) => {
      const puts = call === "transact" && (args[1] as unknown[]).length > 0;
      if (puts && !isDone) there.putLease("10.5.8.0-24", valueOf(9), grant);
      isDone ||= puts;
      return null;
    };
    const key = parseLeaseKey("10.5.8.0-23");
    const { replaced } = await there.store().reserveByForce(key, nodeNumber(1));
    assert.deepEqual(replaced.map((one) => leaseKey(one.subnets)), ["10.5.8.0-24"]);
    assert.deepEqual(there.leaseNames(), ["10.5.8.0-23"]);
    assert.equal(there.server.entry(`${KEY.replace(NAME, "")}10.5.8.0-23`)!.leaseId, 0n);
    assert.equal(await there.server.findLease(grant), null);
  });

  test("a revoked lease takes its grant with it, unless others hang on it", async () => {
    const there = start();
    const store = there.store();
    const grant = there.server.grant(TTL_MS / 1000);
    there.putLease("10.5.1.0-24", valueOf(1), grant);
    there.putLease("10.5.2.0-24", valueOf(2), grant);
    there.putLease("10.5.3.0-24", "garbage");
    await store.revoke("10.5.1.0/24");
    assert.deepEqual(there.leaseNames(), ["10.5.2.0-24", "10.5.3.0-24"]);
    await store.revoke("10.5.2.0-24");
    // What cannot be read can be revoked.
    await store.revoke("10.5.3.0-24");
    assert.deepEqual(there.leaseNames(), []);
    assert.deepEqual(there.server.grantIds, []);
  });
});
