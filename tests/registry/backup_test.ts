import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { backUpFiles, parseBackup, readBackup, restoreBackup } from "../../src/registry/backup.ts";
import { ensureCertificate } from "../../src/registry/certificate.ts";
import { tokensPath, TokenStore } from "../../src/registry/tokens.ts";
import { EmbeddedStore, registryPath } from "../../src/store/embedded_store.ts";
import { leaseKey, parseLeaseKey } from "../../src/lease/lease.ts";
import { LEASE_TTL_MS } from "../../src/store/store.ts";
import { nodeNumber } from "../lease/sample.ts";

const NOW_MS = Date.now();

/** Runs a test with a registry that is closed, and a place for another. */
async function withRegistry(
  run: (stateDir: string, other: string, token: string) => Promise<void> | void,
): Promise<void> {
  const parent = mkdtempSync(join(tmpdir(), "selvage-backup-"));
  const [stateDir, other] = [join(parent, "state"), join(parent, "other")];
  try {
    const store = new EmbeddedStore({ path: registryPath(stateDir) });
    store.setConfig('{"Network": "10.5.0.0/16"}', "test", { isFile: true });
    const attributes = { ...nodeNumber(1), node: { id: "one", run: "first" } };
    // First: the subnet that is acquired is a random one.
    await store.reserve(parseLeaseKey("10.5.9.0-24"), nodeNumber(2));
    await store.acquire({ attributes, previousSubnets: [] });
    await store.close();
    const tokens = new TokenStore(tokensPath(stateDir));
    const { token } = tokens.create("join", "first");
    tokens.close();
    await ensureCertificate(stateDir);
    await run(stateDir, other, token);
  } finally {
    rmSync(parent, { recursive: true });
  }
}

describe("a backup of a registry", () => {
  test("makes the same registry elsewhere, with leases that last from then on", () =>
    withRegistry(async (stateDir, other, token) => {
      // The host has renewed its lease since.
      const database = new DatabaseSync(registryPath(stateDir));
      database.exec(`UPDATE leases SET expiry_ms = ${NOW_MS - 1} WHERE expiry_ms IS NOT NULL`);
      database.close();
      const backup = parseBackup(backUpFiles(stateDir, NOW_MS), "test");
      restoreBackup(backup, other, { isForced: false, now_ms: NOW_MS });
      const [was, is] = [stateDir, other].map((dir) => {
        return new EmbeddedStore({ path: registryPath(dir) });
      }) as [EmbeddedStore, EmbeddedStore];
      const [before, after] = [await was.list(), await is.list()];
      const keys = (leases: typeof before) => leases.map(({ subnets }) => leaseKey(subnets));
      assert.deepEqual(keys(after), keys(before));
      assert.deepEqual(
        after.map(({ expiry_ms }) => expiry_ms).sort(),
        [null, NOW_MS + LEASE_TTL_MS].sort(),
      );
      // In which run its host wrote it is not known any more.
      assert.deepEqual(after.flatMap(({ node }) => node ?? []), [{ id: "one", run: "" }]);
      assert.deepEqual(await is.readConfig(), await was.readConfig());
      assert.equal(is.configFileText, was.configFileText);
      assert.notEqual(is.incarnation, was.incarnation);
      await was.close();
      await is.close();
      const tokens = new TokenStore(tokensPath(other));
      assert.equal(tokens.verify(token), "join");
      tokens.close();
      const [one, two] = [await ensureCertificate(stateDir), await ensureCertificate(other)];
      assert.equal(two.fingerprint, one.fingerprint);
      assert.deepEqual(
        ["registry.db", "registry.key", "tokens.db"].map((name) =>
          statSync(join(other, name)).mode & 0o777
        ),
        [0o600, 0o600, 0o600],
      );
    }));

  test("keeps a lease that this Selvage cannot read", () =>
    withRegistry((stateDir, other) => {
      const put = (value: string) => {
        const database = new DatabaseSync(registryPath(stateDir));
        database.prepare("INSERT INTO leases VALUES ('10.99.77.0-24', ?, 1)").run(value);
        database.close();
      };
      put("what a later version writes");
      const backup = parseBackup(backUpFiles(stateDir, NOW_MS), "test");
      restoreBackup(backup, other, { isForced: false, now_ms: NOW_MS });
      const database = new DatabaseSync(registryPath(other));
      const row = database.prepare("SELECT value FROM leases WHERE key = '10.99.77.0-24'").get();
      database.close();
      assert.equal(row?.value, "what a later version writes");
    }));

  test("is refused where a registry is or runs, and if it is none; nothing changes then", () =>
    withRegistry(async (stateDir, other) => {
      const text = backUpFiles(stateDir, NOW_MS);
      const backup = parseBackup(text, "test");
      const options = { isForced: false, now_ms: NOW_MS };
      assert.throws(() => restoreBackup(backup, stateDir, options), {
        code: "conflict",
        message: /holds a registry already/,
        hint: /--force/,
      });
      const store = new EmbeddedStore({ path: registryPath(stateDir) });
      assert.throws(() => restoreBackup(backup, stateDir, { ...options, isForced: true }), {
        code: "conflict",
        hint: /Stop selvage/,
      });
      assert.throws(() => backUpFiles(stateDir, NOW_MS), {
        code: "conflict",
        hint: /leave --state-dir out/,
      });
      assert.equal((await store.list()).length, 2);
      assert.equal(store.state().lastError, null);
      await store.close();
      const rows: [text: string, code: string, message: RegExp][] = [
        [text.slice(0, -10), "invalid_argument", /^f: not JSON: line 1, column \d+/],
        ["{}", "invalid_argument", /^f is not a backup of a registry$/],
        [text.replace('"version":1', '"version":2'), "unsupported", /^f: .*newer version 2/],
      ];
      for (const [broken, code, message] of rows) {
        assert.throws(() => parseBackup(broken, "f"), { code, message });
      }
      assert.equal(existsSync(other), false);
    }));

  test("of or into something else than a directory is refused by name", () =>
    withRegistry((stateDir, other) => {
      const backup = parseBackup(backUpFiles(stateDir, NOW_MS), "test");
      const options = { isForced: true, now_ms: NOW_MS };
      writeFileSync(other, "a file");
      const reason = /^state directory .*other: not a directory$/;
      assert.throws(() => restoreBackup(backup, other, options), { message: reason });
      assert.throws(() => backUpFiles(other, NOW_MS), { message: reason });
      const long = join(stateDir, "x".repeat(300));
      assert.throws(() => restoreBackup(backup, long, options), {
        message: /^state directory .*x: .*\(ENAMETOOLONG\)$/,
      });
      assert.equal(readFileSync(other, "utf8"), "a file");
    }));

  test("is refused if no registry could start with it; the registry there stays", () =>
    withRegistry(async (stateDir) => {
      const text = backUpFiles(stateDir, NOW_MS);
      const { fingerprint } = await ensureCertificate(stateDir);
      const rows: [change: (backup: ReturnType<typeof parseBackup>) => void, message: RegExp][] = [
        [({ registry }) => registry.configText = "{}", /the backup's network configuration/],
        [({ certificate }) => certificate!.certificatePem = "x", /the backup's certificate is no/],
        [({ certificate }) => certificate!.privateKeyPem = "x", /the backup's private key is no/],
      ];
      for (const [change, message] of rows) {
        const backup = parseBackup(text, "test");
        change(backup);
        const restore = () => restoreBackup(backup, stateDir, { isForced: true, now_ms: NOW_MS });
        assert.throws(restore, { message });
      }
      assert.equal((await ensureCertificate(stateDir)).fingerprint, fingerprint);
    }));

  test("that the disk has no room for is not half restored; the registry there stays", () =>
    withRegistry(async (stateDir) => {
      const backup = parseBackup(backUpFiles(stateDir, NOW_MS), "test");
      // It never listened, so that nothing is written after the tokens.
      backup.certificate = null;
      const [sample] = backup.tokens;
      for (let n = 1; n < 900; n++) {
        backup.tokens.push({ ...sample!, id: String(n).padStart(12, "0") });
      }
      const mount = mkdtempSync(join(tmpdir(), "selvage-full-"));
      const sh = (text: string) => spawnSync("sh", ["-c", text], { encoding: "utf8" });
      assert.equal(sh(`mount -t tmpfs -o size=16m none ${mount}`).status, 0);
      try {
        const there = join(mount, "state");
        const was = new EmbeddedStore({ path: registryPath(there) });
        was.setConfig('{"Network": "10.6.0.0/16"}', "test");
        await was.close();
        // From no room at all to enough: the log may fit where file and log together do not.
        let refusedCount = 0;
        for (let free_kib = 0; free_kib <= 1_000; free_kib += 20) {
          sh(
            `head -c ${free_kib}k /dev/zero > ${mount}/room; ` +
              `cat /dev/zero > ${mount}/filler; rm ${mount}/room`,
          );
          let isRestored = true;
          try {
            restoreBackup(backup, there, { isForced: true, now_ms: NOW_MS });
          } catch {
            isRestored = false;
            refusedCount++;
          }
          rmSync(join(mount, "filler"));
          const is = new EmbeddedStore({ path: registryPath(there) });
          const tokens = new TokenStore(tokensPath(there));
          const counts = [(await is.list()).length, tokens.list().length];
          await is.close();
          tokens.close();
          assert.deepEqual(counts, isRestored ? [2, 900] : [0, 0], `${free_kib} KiB`);
          if (isRestored) break;
          assert.deepEqual(readdirSync(there).filter((name) => /restored/.test(name)), []);
        }
        assert.ok(refusedCount > 0);
        assert.ok(existsSync(tokensPath(there)), "with enough room it is restored");
      } finally {
        sh(`umount ${mount}`);
        rmSync(mount, { recursive: true });
      }
    }));

  test("an error about another file quotes nothing of it", () =>
    withRegistry((stateDir, other) => {
      const backup = backUpFiles(stateDir, NOW_MS);
      const file = `${other}.file`;
      const kind = / is not a backup of a registry$/;
      const rows: [text: string, message: RegExp][] = [
        ["selvage1.c2VjcmV0LXNlY3JldA\n", kind],
        ['"secret"', kind],
        ['{"password": "secret"}', kind],
        ["", kind],
        [
          backup.slice(0, -50),
          /: not JSON: line 1, column \d+: this backup is cut short or was changed$/,
        ],
      ];
      for (const [text, message] of rows) {
        writeFileSync(file, text);
        assert.throws(() => readBackup(file), (error: Error) => {
          assert.match(error.message.replace(file, "FILE"), message);
          assert.ok(error.message.startsWith(file));
          return true;
        });
      }
    }));

  test("replaces a damaged registry by force", () =>
    withRegistry(async (stateDir) => {
      const backup = parseBackup(backUpFiles(stateDir, NOW_MS), "test");
      writeFileSync(registryPath(stateDir), "not a database at all, but long enough for one");
      writeFileSync(`${registryPath(stateDir)}-wal`, "nor a log");
      restoreBackup(backup, stateDir, { isForced: true, now_ms: NOW_MS });
      const store = new EmbeddedStore({ path: registryPath(stateDir) });
      assert.equal((await store.list()).length, 2);
      await store.close();
    }));
});
