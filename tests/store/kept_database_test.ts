import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tokensPath, TokenStore } from "../../src/registry/tokens.ts";
import { EmbeddedStore, registryPath } from "../../src/store/embedded_store.ts";
import { nodeNumber } from "../lease/sample.ts";
import { FakeClock, rejectsWith, TTL_MS } from "./harness.ts";

function request(n: number) {
  return { attributes: nodeNumber(n), previousSubnets: [] };
}

/** Runs a test with a registry and tokens in a state directory of their own. */
async function withState(
  run: (stateDir: string, store: EmbeddedStore, tokens: TokenStore) => Promise<void>,
  parent = mkdtempSync(join(tmpdir(), "selvage-kept-")),
): Promise<void> {
  const stateDir = join(parent, "state");
  const store = new EmbeddedStore({ path: registryPath(stateDir) });
  const tokens = new TokenStore(tokensPath(stateDir));
  try {
    store.setConfig('{"Network": "10.0.0.0/8"}', "test");
    tokens.create("join", "first");
    await run(stateDir, store, tokens);
  } finally {
    await store.close();
    tokens.close();
    rmSync(parent, { recursive: true });
  }
}

/** How many leases and tokens a process sees that opens the files anew. */
async function countAfresh(stateDir: string): Promise<number[]> {
  const copies = mkdtempSync(join(tmpdir(), "selvage-afresh-"));
  for (const name of ["registry.db", "registry.db-wal", "tokens.db", "tokens.db-wal"]) {
    const path = join(stateDir, name);
    if (existsSync(path)) copyFileSync(path, join(copies, name));
  }
  const store = new EmbeddedStore({ path: registryPath(copies) });
  const tokens = new TokenStore(tokensPath(copies));
  try {
    return [(await store.list()).length, tokens.list().length];
  } finally {
    await store.close();
    tokens.close();
    rmSync(copies, { recursive: true });
  }
}

describe("a state directory that changes under an open registry", () => {
  test("deleted: it is written again with all that was acknowledged, before the next change", () =>
    withState(async (stateDir, store, tokens) => {
      await store.acquire(request(1));
      rmSync(stateDir, { recursive: true });
      await store.acquire(request(2));
      tokens.create("join", "second");
      assert.deepEqual(await countAfresh(stateDir), [2, 2]);
      assert.equal(statSync(stateDir).mode & 0o777, 0o700);
      assert.equal(statSync(registryPath(stateDir)).mode & 0o777, 0o600);
      assert.deepEqual([store.state().lastError, tokens.failure], [null, null]);
    }));

  test("deleted while nobody changes anything: the next check writes it again", () =>
    withState(async (stateDir, store, tokens) => {
      await store.acquire(request(1));
      rmSync(stateDir, { recursive: true });
      store.check();
      tokens.check();
      assert.deepEqual(await countAfresh(stateDir), [1, 1]);
    }));

  test("its write-ahead log alone is deleted: the next change is not lost in it", () =>
    withState(async (stateDir, store) => {
      await store.acquire(request(1));
      rmSync(`${registryPath(stateDir)}-wal`);
      await store.acquire(request(2));
      assert.equal((await countAfresh(stateDir))[0], 2);
    }));

  test("a file is put in its place: changes are refused until that file is gone", () =>
    withState(async (stateDir, store, tokens) => {
      await store.acquire(request(1));
      renameSync(stateDir, `${stateDir}.old`);
      writeFileSync(stateDir, "");
      const error = await rejectsWith("unavailable", store.acquire(request(2)));
      assert.match(error.message, /registry .*state\/registry\.db/);
      assert.throws(() => tokens.create("join", "refused"), { code: "unavailable" });
      assert.match(store.state().lastError ?? "", /registry\.db/);
      assert.match(tokens.failure ?? "", /tokens\.db/);
      assert.equal((await store.list()).length, 1, "what is known can still be read");
      rmSync(stateDir);
      store.check();
      tokens.check();
      assert.deepEqual([store.state().lastError, tokens.failure], [null, null]);
      assert.deepEqual(await countAfresh(stateDir), [1, 1]);
    }));

  test("a database is put in its place with its log: the end of the old one leaves both", () =>
    withState(async (stateDir, store) => {
      const [path, other] = [registryPath(stateDir), registryPath(join(stateDir, "other"))];
      const made = new EmbeddedStore({ path: other });
      made.setConfig('{"Network": "10.0.0.0/8"}', "test");
      for (let n = 1; n <= 3; n++) await made.acquire(request(n));
      // As a process leaves it that was killed: what it committed is in the log.
      for (const suffix of ["", "-wal"]) {
        copyFileSync(other + suffix, `${path}.new${suffix}`);
        renameSync(`${path}.new${suffix}`, path + suffix);
      }
      await made.close();
      await store.close();
      assert.equal((await countAfresh(stateDir))[0], 3);
    }));

  test("another database is put in its place: it stays, and changes are refused", () =>
    withState(async (stateDir, store) => {
      const path = registryPath(stateDir);
      await store.acquire(request(1));
      const other = join(stateDir, "other.db");
      const made = new EmbeddedStore({ path: other });
      await made.close();
      renameSync(other, path);
      const { ino } = statSync(path);
      const error = await rejectsWith("unavailable", store.acquire(request(2)));
      assert.match(error.message, /another file was put in its place/);
      assert.match((error as { hint?: string }).hint ?? "", /Restart selvage/);
      assert.equal(statSync(path).ino, ino);
      rmSync(path);
      await store.acquire(request(2));
      assert.equal((await countAfresh(stateDir))[0], 2);
    }));
});

/** While `run` runs, another file is in the registry's place, so that it takes no changes. */
async function withIntruder(stateDir: string, run: () => Promise<void>): Promise<void> {
  const path = registryPath(stateDir);
  renameSync(path, `${path}.ours`);
  writeFileSync(path, "");
  await run();
  renameSync(`${path}.ours`, path);
}

describe("a registry that takes no changes for a while", () => {
  test("wakes no watcher for a change that failed: nothing has changed", () =>
    withState(async (stateDir, store) => {
      await store.acquire(request(1));
      let wakeCount = 0;
      store.onChange(() => wakeCount++);
      await withIntruder(stateDir, async () => {
        for (let n = 2; n < 5; n++) {
          await rejectsWith("unavailable", store.acquire(request(n)));
          assert.equal((await store.list()).length, 1);
          assert.equal(store.state().connected, true);
        }
      });
      assert.equal(wakeCount, 0);
      await store.acquire(request(2));
      assert.equal(wakeCount, 1);
      assert.equal((await countAfresh(stateDir))[0], 2);
    }));

  test("shortens leases of a clock that was ahead once it takes changes", async () => {
    const stateDir = mkdtempSync(join(tmpdir(), "selvage-kept-"));
    const clock = new FakeClock();
    const path = registryPath(stateDir);
    const store = new EmbeddedStore({ path, clock, ttl_ms: TTL_MS });
    try {
      store.setConfig('{"Network": "10.0.0.0/8"}', "test");
      const years_ms = 10 * 365 * 24 * 60 * 60 * 1000;
      clock.jump(years_ms);
      await store.acquire(request(1));
      clock.jump(-years_ms);
      await withIntruder(stateDir, async () => {
        assert.equal((await store.list()).length, 1);
      });
      // The time that passes between two tries is that of the machine.
      await new Promise((resolve) => setTimeout(resolve, 1_100));
      const [lease] = await store.list();
      assert.equal(lease?.expiry_ms, clock.now_ms() + TTL_MS);
    } finally {
      await store.close();
      rmSync(stateDir, { recursive: true });
    }
  });
});

test("a full disk: changes fail and are named, reads go on, it heals by itself", async () => {
  const mount = mkdtempSync(join(tmpdir(), "selvage-full-"));
  const sh = (text: string) => spawnSync("sh", ["-c", text], { encoding: "utf8" });
  const mounted = sh(`mount -t tmpfs -o size=512k none ${mount}`);
  assert.equal(mounted.status, 0, mounted.stderr);
  try {
    const parent = join(mount, "parent");
    mkdirSync(parent);
    await withState(async (_stateDir, store, tokens) => {
      await store.acquire(request(1));
      sh(`dd if=/dev/zero of=${mount}/filler bs=1k`);
      store.check();
      tokens.check();
      assert.match(store.state().lastError ?? "", /disk is full\. Free some space/);
      assert.match(tokens.failure ?? "", /disk is full\. Free some space/);
      await rejectsWith("store_full", store.acquire(request(2)));
      assert.throws(() => tokens.create("join", "refused"), { code: "store_full" });
      assert.equal((await store.list()).length, 1);
      assert.equal(tokens.list().length, 1);
      rmSync(join(mount, "filler"));
      store.check();
      tokens.check();
      assert.deepEqual([store.state().lastError, tokens.failure], [null, null]);
      await store.acquire(request(2));
    }, parent);
  } finally {
    sh(`umount ${mount}`);
    rmSync(mount, { recursive: true });
  }
});

test("a disk that fills up during many changes loses none of them", async () => {
  const mount = mkdtempSync(join(tmpdir(), "selvage-full-"));
  const sh = (text: string) => spawnSync("sh", ["-c", text], { encoding: "utf8" });
  assert.equal(sh(`mount -t tmpfs -o size=2m none ${mount}`).status, 0);
  try {
    const parent = join(mount, "parent");
    mkdirSync(parent);
    await withState(async (stateDir, store) => {
      let count = 0;
      await assert.rejects(async () => {
        while (true) {
          await store.acquire(request(count + 1));
          count++;
        }
      }, { code: "store_full" });
      assert.equal((await store.list()).length, count);
      assert.equal((await countAfresh(stateDir))[0], count);
    }, parent);
  } finally {
    sh(`umount ${mount}`);
    rmSync(mount, { recursive: true });
  }
});
