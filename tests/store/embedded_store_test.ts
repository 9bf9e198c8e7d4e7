import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { EmbeddedStore, registryPath } from "../../src/store/embedded_store.ts";
import { EXPIRY_GRACE_MS } from "../../src/store/expiry.ts";
import { IpPrefix } from "../../src/net/ip.ts";
import { leaseKey } from "../../src/lease/lease.ts";
import { nodeNumber, seededRandom } from "../lease/sample.ts";
import { describeLeaseStore } from "./contract.ts";
import { FakeClock, Follower, type HarnessOptions, rejectsWith, TTL_MS } from "./harness.ts";

function open(path: string, options: Partial<HarnessOptions> & { clock?: FakeClock } = {}) {
  const random = options.random ?? seededRandom(7);
  const clock = options.clock ?? new FakeClock();
  return new EmbeddedStore({ ...options, path, ttl_ms: TTL_MS, clock, random });
}

/** Runs with a state directory that is not there yet, and removes it. */
async function withStateDir(work: (stateDir: string) => Promise<void> | void): Promise<void> {
  const parent = mkdtempSync(join(tmpdir(), "selvage-store-"));
  try {
    await work(join(parent, "state"));
  } finally {
    rmSync(parent, { recursive: true });
  }
}

function request(n: number) {
  return { attributes: nodeNumber(n), previousSubnets: [] };
}

// deno-lint-ignore require-await
describeLeaseStore("the embedded store in memory", async (options) => {
  const clock = new FakeClock();
  const store = open(":memory:", { ...options, clock });
  return { store, registry: store, clock, close: () => store.close() };
});

// deno-lint-ignore require-await
describeLeaseStore("the embedded store in a file", async (options) => {
  const parent = mkdtempSync(join(tmpdir(), "selvage-store-"));
  const clock = new FakeClock();
  const store = open(registryPath(join(parent, "state")), { ...options, clock });
  return {
    store,
    registry: store,
    clock,
    async close() {
      await store.close();
      rmSync(parent, { recursive: true });
    },
  };
});

describe("the embedded store's file", () => {
  test("belongs to its owner alone", async () => {
    await withStateDir(async (stateDir) => {
      const store = open(registryPath(stateDir));
      store.setConfig('{"Network": "10.5.0.0/16"}', "test");
      assert.equal(statSync(stateDir).mode & 0o777, 0o700);
      assert.equal(statSync(registryPath(stateDir)).mode & 0o777, 0o600);
      assert.equal(statSync(`${registryPath(stateDir)}-wal`).mode & 0o777, 0o600);
      await store.close();
      chmodSync(registryPath(stateDir), 0o644);
      await open(registryPath(stateDir)).close();
      assert.equal(statSync(registryPath(stateDir)).mode & 0o777, 0o600);
    });
  });

  test("holds everything over a restart: leases, configuration, identity, revisions", async () => {
    await withStateDir(async (stateDir) => {
      const first = open(registryPath(stateDir));
      first.setConfig('{"Network": "10.5.0.0/16", "Backend": {"Type": "VXLAN", "VNI": 3}}', "test");
      const held = await first.acquire(request(1));
      const before = first.snapshot();
      const id = first.registryId;
      await first.close();
      const second = open(registryPath(stateDir));
      assert.equal(second.registryId, id);
      assert.deepEqual(second.snapshot(), before);
      assert.deepEqual((await second.readConfig()).backend, { type: "vxlan", options: { VNI: 3 } });
      const changes = second.changesSince(0);
      assert.equal(changes?.revision, before.revision);
      assert.deepEqual(changes?.changes.map((change) => change.key), [leaseKey(held.subnets)]);
      await second.close();
    });
  });

  test("is held by one store at a time", async () => {
    await withStateDir(async (stateDir) => {
      const store = open(registryPath(stateDir));
      assert.throws(() => open(registryPath(stateDir)), { code: "conflict" });
      await store.close();
      await open(registryPath(stateDir)).close();
    });
  });

  test("of another kind, or of a newer version, is refused by name and left alone", async () => {
    await withStateDir(async (stateDir) => {
      await open(registryPath(stateDir)).close();
      const database = new DatabaseSync(registryPath(stateDir));
      database.exec("PRAGMA user_version = 99");
      database.close();
      assert.throws(() => open(registryPath(stateDir)), (error: Error & { code: string }) => {
        assert.equal(error.code, "unsupported");
        return error.message.includes(registryPath(stateDir));
      });
      writeFileSync(registryPath(stateDir), "not a database, but long enough\n".repeat(100));
      assert.throws(() => open(registryPath(stateDir)), (error: Error & { code: string }) => {
        assert.equal(error.code, "unavailable");
        return error.message.includes(registryPath(stateDir));
      });
      assert.equal(statSync(registryPath(stateDir)).size, 3200);
    });
  });

  test("with a damaged lease in it gives the others", async () => {
    await withStateDir(async (stateDir) => {
      const store = open(registryPath(stateDir));
      store.setConfig('{"Network": "10.5.0.0/16"}', "test");
      await store.acquire(request(1));
      await store.close();
      const database = new DatabaseSync(registryPath(stateDir));
      database.exec("INSERT INTO leases VALUES ('10.5.1.0-24', '{\"PublicIP\": 5}', 1)");
      database.close();
      const again = open(registryPath(stateDir));
      assert.equal((await again.list()).length, 1);
      assert.equal(again.state().unreadableCount, 1);
      const { key, reason } = again.state().unreadable[0]!;
      assert.equal(key, "10.5.1.0-24");
      assert.match(reason, /PublicIP/);
      await again.close();
    });
  });
});

describe("a disk that takes a change no more", () => {
  test("is told to the caller and the state, and nothing is changed", async () => {
    await withStateDir(async (stateDir) => {
      await open(registryPath(stateDir)).close();
      const database = new DatabaseSync(registryPath(stateDir));
      database.exec(`
        CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.key = '10.5.66.0-24'
        BEGIN SELECT RAISE(ABORT, 'disk full'); END`);
      database.close();
      const store = open(registryPath(stateDir));
      store.setConfig('{"Network": "10.5.0.0/16"}', "test");
      const held = await store.acquire(request(1));
      const follower = new Follower(store);
      await follower.until((self) => self.table.size === 1);
      const before = store.snapshot();
      const wanted = { ...request(2), previousSubnets: [IpPrefix.parse("10.5.66.0/24")] };
      const error = await rejectsWith("unavailable", store.acquire(wanted));
      assert.match(error.message, /registry\.db: disk full/);
      assert.deepEqual([store.state().connected, store.state().lastError], [false, error.message]);
      assert.deepEqual(store.snapshot(), before);
      assert.equal(store.state().connected, true);
      await store.release(held);
      await follower.until((self) => self.table.size === 0);
      assert.deepEqual(follower.batches.flat().map((change) => change.type), ["put", "delete"]);
      await follower.stop();
      await store.close();
    });
  });
});

describe("the embedded store's expiry", () => {
  test("leaves ten minutes to renew after the registry was down", async () => {
    await withStateDir(async (stateDir) => {
      const clock = new FakeClock();
      const first = open(registryPath(stateDir), { clock });
      first.setConfig('{"Network": "10.5.0.0/16"}', "test");
      const [kept, gone] = [await first.acquire(request(1)), await first.acquire(request(2))];
      await first.close();
      clock.advance(3 * TTL_MS);
      const second = open(registryPath(stateDir), { clock });
      clock.advance(EXPIRY_GRACE_MS - 1);
      assert.equal((await second.list()).length, 2);
      await second.renew(kept);
      clock.advance(1);
      const left = (await second.list()).map((lease) => leaseKey(lease.subnets));
      assert.deepEqual(left, [leaseKey(kept.subnets)]);
      await rejectsWith("lease_lost", second.renew(gone));
      await second.close();
    });
  });

  test("leaves ten minutes to renew after the time of day was set", async () => {
    const clock = new FakeClock();
    const store = open(":memory:", { clock });
    store.setConfig('{"Network": "10.5.0.0/16"}', "test");
    await store.acquire(request(1));
    clock.jump(50 * 365 * 24 * 60 * 60 * 1000);
    assert.equal((await store.list()).length, 1);
    clock.advance(EXPIRY_GRACE_MS - 1);
    assert.equal((await store.list()).length, 1);
    clock.advance(1);
    assert.equal((await store.list()).length, 0);
    await store.close();
  });

  test("is not put off by a time of day that was ahead, and was set right", async () => {
    await withStateDir(async (stateDir) => {
      const years_ms = 10 * 365 * 24 * 60 * 60 * 1000;
      const clock = new FakeClock();
      const store = open(registryPath(stateDir), { clock });
      store.setConfig('{"Network": "10.5.0.0/16"}', "test");
      clock.jump(years_ms);
      await store.acquire(request(1));
      clock.jump(-years_ms);
      await store.acquire(request(2));
      assert.equal((await store.list()).length, 2);
      clock.advance(TTL_MS + EXPIRY_GRACE_MS);
      assert.deepEqual(await store.list(), []);
      // The same where the clock is set right while the registry is down.
      clock.jump(years_ms);
      await store.acquire(request(3));
      await store.close();
      clock.jump(-years_ms);
      const second = open(registryPath(stateDir), { clock });
      assert.equal((await second.list()).length, 1);
      clock.advance(TTL_MS + EXPIRY_GRACE_MS);
      assert.deepEqual(await second.list(), []);
      await second.close();
    });
  });

  test("happens by itself, by the timer", async () => {
    const store = new EmbeddedStore({
      path: ":memory:",
      ttl_ms: 50,
      // The grace lies behind it; from here on it is the system's clock.
      clock: clockPastGrace(),
    });
    store.setConfig('{"Network": "10.5.0.0/16"}', "test");
    const follower = new Follower(store);
    await store.acquire(request(1));
    // Nothing else calls the store; an unref'd timer alone would let the process end.
    const alive = setInterval(() => {}, 1000);
    await follower.until((self) => self.batches.flat().some((change) => change.type === "delete"));
    clearInterval(alive);
    await follower.stop();
    await store.close();
  });
});

/** The system's clocks, but the first look at them is eleven minutes in the past. */
function clockPastGrace() {
  let back_ms = EXPIRY_GRACE_MS + 60_000;
  const start_ms = Date.now();
  return {
    now_ms: () => Date.now() - back_ms,
    monotonic_ms: () => {
      const monotonic_ms = Date.now() - start_ms - back_ms;
      back_ms = 0;
      return monotonic_ms;
    },
  };
}

describe("the embedded store's log", () => {
  test("forgets old events, and a watcher that fell behind gets the difference", async () => {
    const store = open(":memory:", { eventCountMax: 5 });
    store.setConfig('{"Network": "10.5.0.0/16"}', "test");
    const watch = store.watch(new AbortController().signal)[Symbol.asyncIterator]();
    const gone = await store.acquire(request(0));
    assert.equal((await watch.next()).value.length, 1);
    for (let n = 1; n < 20; n++) await store.acquire(request(n));
    await store.release(gone);
    assert.equal(store.changesSince(1), null);
    const { value } = await watch.next();
    const kinds = value.map((change: { type: string }) => change.type).sort();
    assert.deepEqual(kinds, ["delete", ...new Array(19).fill("put")]);
    await store.close();
  });

  test("gives the changes after each revision, from memory and from the file alike", async () => {
    const store = open(":memory:");
    store.setConfig('{"Network": "10.0.0.0/8"}', "test");
    const keys: string[] = [];
    for (let n = 0; n < 2100; n++) keys.push(leaseKey((await store.acquire(request(n))).subnets));
    const seen: string[] = [];
    let revision = 1;
    for (;;) {
      const next = store.changesSince(revision);
      assert.ok(next !== null);
      if (next.revision === revision) break;
      revision = next.revision;
      seen.push(...next.changes.map((change) => change.key));
    }
    assert.deepEqual(seen, keys);
    assert.equal(store.changesSince(revision + 1), null);
    await store.close();
  });
});
