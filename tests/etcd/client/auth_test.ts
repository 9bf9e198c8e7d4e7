/** Users, passwords, tokens and rights. */
import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { hasCode, SelvageError } from "../../../src/errors.ts";
import { type EtcdOptions, openEtcd } from "../../../src/etcd/client/open_etcd.ts";
import type { Etcd } from "../../../src/etcd/client/kv.ts";
import { EtcdLab, type LabOptions, withEtcd } from "../lab.ts";
import { FakeEtcdServer } from "./fake_server.ts";

const USER = { username: "router", password: "a secret: ü", prefix: "/net/" };
/** Tokens of the lab that are not used for so long are forgotten; etcd looks each second. */
const TOKEN_TTL_S = 1;
const FORGOTTEN_MS = 2_300;

function put(key: string) {
  return [{ put: key, value: "1", leaseId: 0n }];
}

describe("a server with authentication", () => {
  let lab: EtcdLab;
  before(async () => {
    lab = await EtcdLab.start({ user: USER, tokenTtl_s: TOKEN_TTL_S });
  });
  after(() => lab.stop());

  const failsWith = async (
    options: Partial<EtcdOptions>,
    code: "unauthorized" | "forbidden",
    text: RegExp,
    key = "/net/a",
  ): Promise<void> => {
    const etcd = openEtcd({ ...lab.clientOptions, ...options });
    const fits = (error: unknown) => {
      assert.ok(error instanceof SelvageError && hasCode(error, code), String(error));
      assert.match(error.message, text);
      assert.notEqual(error.hint, "");
      return true;
    };
    await assert.rejects(etcd.get(key), fits);
    await assert.rejects(etcd.transact([], put(key), []), fits);
    const watch = etcd.watch(key, 1n, new AbortController().signal)[Symbol.asyncIterator]();
    await assert.rejects(watch.next(), (error) => {
      // Of a stranger etcd 3.4 says only that he may not watch.
      return hasCode(error, code) || (code === "unauthorized" && hasCode(error, "forbidden"));
    });
    etcd.close();
  };

  test("the user reads, writes and watches his prefix with one token", async () => {
    const etcd = openEtcd(lab.clientOptions);
    await etcd.transact([], put("/net/a"), []);
    assert.equal((await etcd.list("/net/")).entries.length, 1);
    const abort = new AbortController();
    for await (const batch of etcd.watch("/net/", 1n, abort.signal)) {
      assert.equal(batch[0]?.entry.key, "/net/a");
      abort.abort();
    }
    assert.equal(etcd.callCount, 4, "three calls, and one for the token");
    etcd.close();
  });

  test("keys beyond the user's are forbidden, to read, write and watch", async () => {
    await failsWith({}, "forbidden", /permission denied/, "/other/a");
  });

  test("a wrong password and an unknown user are refused in the same words", async () => {
    await failsWith({ password: "wrong" }, "unauthorized", /wrong user or password/);
    await failsWith({ username: "nobody" }, "unauthorized", /wrong user or password/);
  });

  test("a password in a file may change while the client lives", async () => {
    const directory = mkdtempSync(join(tmpdir(), "selvage-etcd-"));
    const passwordFile = join(directory, "password");
    const { password, ...options } = lab.clientOptions;
    writeFileSync(passwordFile, "of last year\n");
    const etcd = openEtcd({ ...options, password: "of last year", passwordFile });
    await assert.rejects(etcd.get("/net/a"), /wrong user or password/);
    writeFileSync(passwordFile, `${password}\n`);
    await etcd.get("/net/a");
    rmSync(passwordFile);
    await etcd.get("/net/a");
    etcd.close();
    rmSync(directory, { recursive: true });
  });

  test("who gives no user is told that one is demanded", async () => {
    const none = { username: null, password: null };
    await failsWith(none, "unauthorized", /demands a user and a password/);
  });

  test("a token that the server has forgotten is got anew: reads, writes, watches", async () => {
    const etcd = openEtcd(lab.clientOptions);
    const works = [
      () => etcd.get("/net/a"),
      () => etcd.transact([], put("/net/b"), []),
      async () => {
        const abort = new AbortController();
        for await (const _ of etcd.watch("/net/a", 1n, abort.signal)) abort.abort();
      },
    ];
    for (const work of works) {
      await etcd.get("/net/a");
      await new Promise((resolve) => setTimeout(resolve, FORGOTTEN_MS));
      const before = etcd.callCount;
      await work();
      assert.equal(etcd.callCount, before + 3, "refused, a token, and again");
    }
    etcd.close();
  });

  test("a server that was restarted knows no token, and costs nothing but a new one", async () => {
    const etcd = openEtcd(lab.clientOptions);
    await etcd.get("/net/a");
    await lab.restartAll();
    await etcd.transact([], put("/net/c"), []);
    assert.equal((await etcd.get("/net/c")).entry?.value, "1");
    etcd.close();
  });
});

test("a user is of no matter to a server without authentication", async () => {
  await withEtcd({}, async (lab) => {
    const etcd = openEtcd({ ...lab.clientOptions, username: "router", password: "x" });
    await etcd.transact([], put("/net/a"), []);
    assert.equal((await etcd.get("/net/a")).entry?.value, "1");
    assert.equal(etcd.callCount, 3, "that there is none is found out once");
    etcd.close();
  });
});

test("a server that demands a user from now on gets one", async () => {
  await withEtcd({ user: USER }, async (lab) => {
    const etcd = openEtcd(lab.clientOptions);
    await lab.admin("/v3/auth/disable", {});
    await etcd.get("/net/a");
    await lab.admin("/v3/auth/enable", {});
    await etcd.transact([], put("/net/a"), []);
    etcd.close();
  });
});

/** A watch from the first revision on, and the keys that it has brought so far. */
class WatchedKeys {
  readonly keys: string[] = [];
  readonly #abort = new AbortController();
  readonly #ended: Promise<void>;
  #wake = () => {};

  constructor(etcd: Etcd, prefix: string) {
    const run = async () => {
      for await (const batch of etcd.watch(prefix, 1n, this.#abort.signal)) {
        this.keys.push(...batch.map(({ entry }) => entry.key));
        this.#wake();
      }
    };
    this.#ended = run();
  }

  /** Waits for so many; throws what the watch died of. */
  async until(count: number): Promise<void> {
    while (this.keys.length < count) {
      await Promise.race([this.#ended, new Promise<void>((resolve) => this.#wake = resolve)]);
    }
  }

  async end(): Promise<void> {
    this.#abort.abort();
    await this.#ended;
  }
}

test("a client without a user is told when etcd demands one; its watch lives on", async () => {
  await withEtcd({ user: USER }, async (lab) => {
    await lab.admin("/v3/auth/disable", {});
    const etcd = openEtcd({ ...lab.clientOptions, username: null, password: null });
    const watched = new WatchedKeys(etcd, "/net/");
    await etcd.transact([], put("/net/a"), []);
    await watched.until(1);
    await lab.admin("/v3/auth/enable", {});
    const isTold = (error: unknown) => {
      assert.ok(error instanceof SelvageError && error.code === "unauthorized", String(error));
      assert.equal(error.message, "etcd demands a user and a password");
      assert.match(error.hint, /--etcd-username and --etcd-password/);
      return true;
    };
    await assert.rejects(etcd.get("/net/a"), isTold);
    await assert.rejects(etcd.list("/net/"), isTold);
    await assert.rejects(etcd.transact([], put("/net/b"), []), isTold);
    // etcd asks who one is when a watch begins, and not again.
    await lab.put("/net/c", "1");
    await watched.until(2);
    assert.deepEqual(watched.keys, ["/net/a", "/net/c"]);
    await lab.admin("/v3/auth/disable", {});
    await etcd.transact([], put("/net/d"), []);
    await watched.until(3);
    await watched.end();
    etcd.close();
  });
});

describe("JSON web tokens", () => {
  /** etcd counts whole seconds: what it gives is good for 1 to 2. */
  const TTL_S = 2;
  const directory = mkdtempSync(join(tmpdir(), "selvage-etcd-"));
  after(() => rmSync(directory, { recursive: true }));

  /** A server that gives tokens which end after `TTL_S`. */
  const withTokens = (work: (lab: EtcdLab) => Promise<void>): Promise<void> => {
    const { publicKey, privateKey } = generateKeyPairSync("rsa", {
      modulusLength: 2048,
      publicKeyEncoding: { type: "spki", format: "pem" },
      privateKeyEncoding: { type: "pkcs1", format: "pem" },
    });
    const files = { "pub-key": publicKey, "priv-key": privateKey };
    const parts = Object.entries(files).map(([name, pem]) => {
      writeFileSync(join(directory, name), pem, { mode: 0o600 });
      return `${name}=${join(directory, name)}`;
    });
    const token = ["jwt", ...parts, "sign-method=RS256", `ttl=${TTL_S}s`].join(",");
    const options: LabOptions = { user: USER, env: { ETCD_AUTH_TOKEN: token } };
    return withEtcd(options, work);
  };

  test("those that end while the client runs are renewed before; its watch lives on", async () => {
    await withTokens(async (lab) => {
      const etcd = openEtcd(lab.clientOptions);
      const watched = new WatchedKeys(etcd, "/net/");
      const start_ms = performance.now();
      let count = 0;
      while (performance.now() - start_ms < 2_100 * TTL_S) {
        await etcd.transact([], put(`/net/${count++}`), []);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      await watched.until(count);
      assert.deepEqual(watched.keys, Array.from({ length: count }, (_, i) => `/net/${i}`));
      // The watch, the puts, and logins. None was refused: that would cost two calls more.
      const loginCount = etcd.callCount - count - 1;
      const elapsed_s = (performance.now() - start_ms) / 1000;
      assert.ok(loginCount > elapsed_s / TTL_S, `${loginCount} logins`);
      assert.ok(loginCount <= 1 + elapsed_s / (0.8 * (TTL_S - 1)), `${loginCount} logins`);
      await watched.end();
      etcd.close();
    });
  });

  test("one that is refused is got anew: after a change of roles, after a switch", async () => {
    await withTokens(async (lab) => {
      const etcd = openEtcd(lab.clientOptions);
      const watched = new WatchedKeys(etcd, "/net/");
      await etcd.transact([], put("/net/a"), []);
      await lab.admin("/v3/auth/role/add", { name: "other" });
      await etcd.transact([], put("/net/b"), []);
      await lab.admin("/v3/auth/disable", {});
      await etcd.transact([], put("/net/c"), []);
      // Past its end a login is tried, and finds that none is wanted.
      await new Promise((resolve) => setTimeout(resolve, TTL_S * 1_000));
      await etcd.transact([], put("/net/d"), []);
      await lab.admin("/v3/auth/enable", {});
      await etcd.transact([], put("/net/e"), []);
      await watched.until(5);
      await watched.end();
      etcd.close();
    });
  });

  test("where this host's clock is ahead one is used until it is refused", async () => {
    const claims = Buffer.from(JSON.stringify({ exp: Date.now() / 1000 - 60 }));
    const login = () => Promise.resolve(`e30.${claims.toString("base64url")}.signature`);
    const fake = await FakeEtcdServer.start({ login });
    const etcd = openEtcd({ ...fake.clientOptions, username: "router", password: "x" });
    try {
      for (let i = 0; i < 5; i++) await etcd.get("/a");
      assert.equal(fake.loginCount, 1);
    } finally {
      etcd.close();
      fake.stop();
    }
  });
});

test("a client certificate stands for the user of its common name", async () => {
  const tls = {
    server: { addresses: ["127.0.0.1"] },
    demandsClientCertificate: true,
  };
  await withEtcd({ tls, user: USER }, async (lab) => {
    const ours = await lab.authority!.issue({ name: USER.username });
    const none = { username: null, password: null };
    const etcd = openEtcd({ ...lab.clientOptions, ...ours, ...none });
    await etcd.transact([], put("/net/a"), []);
    await assert.rejects(etcd.get("/other"), (error) => hasCode(error, "forbidden"));
    etcd.close();
  });
});
