/** Everything of the client's interface against a real server. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { AmbiguousError, CompactedError } from "../../../src/etcd/client/error.ts";
import type { Etcd, KeyEvent } from "../../../src/etcd/client/kv.ts";
import { openEtcd } from "../../../src/etcd/client/open_etcd.ts";
import { hasCode, SelvageError } from "../../../src/errors.ts";
import { base64, EtcdLab, withEtcd } from "../lab.ts";

const NONE = 0n;

function put(key: string, value: string, leaseId = NONE) {
  return { put: key, value, leaseId };
}

describe("keys, leases and transactions", () => {
  let lab: EtcdLab;
  let etcd: Etcd;
  before(async () => {
    lab = await EtcdLab.start();
    etcd = openEtcd(lab.clientOptions);
  });
  after(async () => {
    etcd.close();
    await lab.stop();
  });

  test("a key that is not there is null, and the revision is told", async () => {
    const { revision, entry } = await etcd.get("/none");
    assert.equal(entry, null);
    assert.equal(revision, await lab.revision());
  });

  test("a transaction puts, and tells version, revisions and lease", async () => {
    const { id } = await etcd.grantLease(60);
    const made = await etcd.transact([], [put("/t/a", "1", id)], []);
    assert.equal(made.succeeded, true);
    assert.deepEqual(made.found, [[]]);
    const changed = await etcd.transact([], [put("/t/a", "2", id), { get: "/t/a" }], []);
    const expected = {
      key: "/t/a",
      value: "2",
      createRevision: made.revision,
      modRevision: changed.revision,
      version: 2n,
      leaseId: id,
    };
    assert.deepEqual(changed.found, [[], [expected]]);
    assert.deepEqual(await etcd.get("/t/a"), { revision: changed.revision, entry: expected });
  });

  test("each kind of compare decides, whether it holds or not", async () => {
    const { id } = await etcd.grantLease(60);
    const { revision } = await etcd.transact([], [put("/c/a", "x", id)], []);
    const cases = [
      ["version", 1n, 2n],
      ["createRevision", revision, revision + 1n],
      ["modRevision", revision, 0n],
      ["lease", id, 0n],
    ] as const;
    for (const [target, right, wrong] of cases) {
      for (const [is, holds] of [[right, true], [wrong, false]] as const) {
        const compare = { key: "/c/a", target, is };
        const result = await etcd.transact([compare], [{ list: "/c/" }], [{ get: "/none" }]);
        assert.equal(result.succeeded, holds, `${target} ${is}`);
        assert.equal(result.found[0]!.length, holds ? 1 : 0);
      }
    }
    const byValue = (is: string) => [{ key: "/c/a", target: "value" as const, is }];
    assert.equal((await etcd.transact(byValue("x"), [], [])).succeeded, true);
    assert.equal((await etcd.transact(byValue("y"), [], [])).succeeded, false);
    const isAbsent = [{ key: "/c/b", target: "version" as const, is: 0n }];
    assert.equal((await etcd.transact(isAbsent, [put("/c/b", "")], [])).succeeded, true);
    assert.equal((await etcd.transact(isAbsent, [put("/c/b", "")], [])).succeeded, false);
  });

  test("a transaction deletes one key and not its neighbours", async () => {
    await etcd.transact([], [put("/d/a", "1"), put("/d/ab", "2")], []);
    await etcd.transact([], [{ delete: "/d/a" }], []);
    assert.deepEqual((await etcd.list("/d/")).entries.map(({ key }) => key), ["/d/ab"]);
  });

  test("a list takes the prefix alone, in order, in pages of one revision", async () => {
    const keys = Array.from({ length: 25 }, (_, i) => `/p/${String(i).padStart(2, "0")}`);
    for (const key of [...keys].reverse()) await lab.put(key, `of ${key}`);
    await lab.put("/p0", "not in the prefix");
    const paged = openEtcd({ ...lab.clientOptions, pageSize: 4 });
    const { entries, revision } = await paged.list("/p/");
    assert.deepEqual(
      entries.map(({ key, value }) => [key, value]),
      keys.map((key) => {
        return [key, `of ${key}`];
      }),
    );
    assert.equal(paged.callCount, 7);
    assert.equal(revision, await lab.revision());
    assert.ok((await paged.list("")).entries.length >= keys.length + 1, "an empty prefix: all");
    paged.close();
  });

  test("keys and values beyond ASCII come back as they were", async () => {
    const text = '\ufeff{"a":"ä€𝄞"}';
    await etcd.transact([], [put("/u/ä", text)], []);
    const { entry } = await etcd.get("/u/ä");
    assert.deepEqual([entry?.key, entry?.value], ["/u/ä", text]);
    await lab.admin("/v3/kv/put", { key: base64("/u/b"), value: "/8MoAA==" });
    assert.equal((await etcd.get("/u/b")).entry?.value, "\ufffd\ufffd(\0");
  });

  test("a lease is granted, told, and revoked with its keys, twice if need be", async () => {
    const lease = await etcd.grantLease(100);
    assert.equal(lease.ttl_s, 100);
    await etcd.transact([], [put("/l/a", "", lease.id)], []);
    const { ttl_s, keyCount } = (await etcd.findLease(lease.id))!;
    assert.ok(ttl_s > 90 && ttl_s <= 100, `${ttl_s}`);
    assert.equal(keyCount, 1);
    await etcd.revokeLease(lease.id);
    assert.equal((await etcd.get("/l/a")).entry, null);
    assert.equal(await etcd.findLease(lease.id), null);
    await etcd.revokeLease(lease.id);
  });

  test("a put on a lease that is not there is refused, and changes nothing", async () => {
    const wrong = etcd.transact([], [put("/l/b", "", 77n)], []);
    await assert.rejects(wrong, (error) => hasCode(error, "not_found"));
    assert.equal((await etcd.get("/l/b")).entry, null);
  });

  test("what is too large is refused with a code, not taken for a lost answer", async () => {
    for (const size of [1_600_000, 3_000_000]) {
      const large = etcd.transact([], [put("/big", "x".repeat(size))], []);
      await assert.rejects(large, (error) => {
        assert.ok(!(error instanceof AmbiguousError));
        return hasCode(error, "too_large");
      });
    }
    const many = Array.from({ length: 200 }, (_, i) => put(`/many/${i}`, ""));
    await assert.rejects(etcd.transact([], many, []), (error) => hasCode(error, "too_large"));
  });

  test("an empty key is refused as what it is", async () => {
    await assert.rejects(etcd.get(""), (error) => hasCode(error, "invalid_argument"));
  });

  test("an aborted call ends with the signal's reason, at once", async () => {
    const reason = new Error("enough");
    await assert.rejects(etcd.get("/a", AbortSignal.abort(reason)), reason);
    await lab.members[0]!.pause();
    try {
      const abort = new AbortController();
      const call = etcd.get("/a", abort.signal);
      setTimeout(() => abort.abort(reason), 50);
      const start_ms = performance.now();
      await assert.rejects(call, reason);
      assert.ok(performance.now() - start_ms < 1_000);
    } finally {
      lab.members[0]!.resume();
    }
    assert.equal((await etcd.get("/none")).entry, null);
  });

  test("where it is and how much was asked is told; it connects at the first call", async () => {
    const other = openEtcd(lab.clientOptions);
    assert.equal(other.location, lab.members[0]!.endpoint);
    assert.equal(other.callCount, 0);
    await other.get("/none");
    assert.equal(other.callCount, 1);
    other.close();
  });

  test("closing ends running calls and refuses later ones", async () => {
    const other = openEtcd(lab.clientOptions);
    await other.get("/none");
    await lab.members[0]!.pause();
    try {
      const call = other.get("/none");
      const watch = other.watch("/w/", 1n, new AbortController().signal)[Symbol.asyncIterator]();
      const next = watch.next();
      setTimeout(() => other.close(), 20);
      await assert.rejects(call, /client was closed/);
      await assert.rejects(next, /client was closed/);
      await assert.rejects(other.get("/none"), /client was closed/);
    } finally {
      lab.members[0]!.resume();
    }
  });
});

test("pages become smaller where an answer would be larger than 64 MB", async () => {
  await withEtcd({}, async (lab) => {
    const etcd = openEtcd(lab.clientOptions);
    const value = "x".repeat(1_400_000);
    for (let i = 0; i < 50; i++) {
      await etcd.transact([], [put(`/large/${String(i).padStart(2, "0")}`, value)], []);
    }
    const { entries } = await etcd.list("/large/");
    assert.equal(entries.length, 50);
    assert.ok(entries.every((entry) => entry.value === value));
    etcd.close();
  });
});

test("a list that a compaction overtakes is begun anew, and is of one revision", async () => {
  await withEtcd({}, async (lab) => {
    const etcd = openEtcd({ ...lab.clientOptions, pageSize: 1 });
    for (let i = 0; i < 30; i++) await lab.put(`/k/${i + 10}`, "old");
    let disturbing = true;
    const disturbed = (async () => {
      for (let i = 0; i < 2 && disturbing; i++) {
        await lab.put("/k/99", String(i));
        await lab.compact();
      }
    })();
    const { entries, revision } = await etcd.list("/k/");
    disturbing = false;
    await disturbed;
    assert.ok(entries.length === 30 || entries.length === 31);
    assert.ok(entries.every((entry: { modRevision: bigint }) => entry.modRevision <= revision));
    etcd.close();
  });
});

test("a full database is told as such; reads go on", async () => {
  await withEtcd({ databaseSizeMax_bytes: 4 * 1024 * 1024 }, async (lab) => {
    const etcd = openEtcd(lab.clientOptions);
    const value = "x".repeat(200_000);
    // etcd looks at its size now and then: a fast machine writes much more than the bound first.
    const fill = async () => {
      for (let i = 0; i < 2_000; i++) await etcd.transact([], [put(`/full/${i}`, value)], []);
    };
    const isFull = (error: unknown) => {
      assert.ok(error instanceof SelvageError && !(error instanceof AmbiguousError));
      assert.equal(error.code, "store_full");
      assert.match(error.message, /takes no writes: its database is full/);
      return true;
    };
    await assert.rejects(fill(), isFull);
    await assert.rejects(etcd.transact([], [put("/full/more", "y")], []), isFull);
    assert.ok((await etcd.get("/full/0")).entry !== null);
    etcd.close();
  });
});

/** Takes batches until `isEnough`, with everything that came. */
async function follow(
  etcd: Etcd,
  prefix: string,
  from: bigint,
  isEnough: (events: readonly KeyEvent[]) => boolean,
  onBatch: (batch: readonly KeyEvent[]) => Promise<void> | void = () => {},
): Promise<KeyEvent[]> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), 60_000);
  const events: KeyEvent[] = [];
  for await (const batch of etcd.watch(prefix, from, abort.signal)) {
    events.push(...batch);
    await onBatch(batch);
    if (isEnough(events)) abort.abort();
  }
  clearTimeout(timer);
  assert.ok(isEnough(events), `the watch ended with ${events.length} events`);
  return events;
}

describe("watches", () => {
  let lab: EtcdLab;
  let etcd: Etcd;
  before(async () => {
    lab = await EtcdLab.start();
    etcd = openEtcd(lab.clientOptions);
  });
  after(async () => {
    etcd.close();
    await lab.stop();
  });

  test("puts and deletes of the prefix come, from the revision on, and nothing else", async () => {
    await lab.put("/w/old", "");
    const from = await lab.revision() + 1n;
    await lab.put("/w/a", "1");
    await lab.put("/x/a", "another prefix");
    await lab.delete("/w/a");
    const events = await follow(etcd, "/w/", from, (all) => all.length >= 2);
    assert.deepEqual(events.map(({ type, entry }) => [type, entry.key, entry.modRevision]), [
      ["put", "/w/a", from],
      ["delete", "/w/a", from + 2n],
    ]);
  });

  test("1,000 puts during a watch all come, in order, each once", async () => {
    const from = await lab.revision() + 1n;
    const puts = (async () => {
      for (let i = 0; i < 1_000; i += 50) {
        await Promise.all(Array.from({ length: 50 }, (_, j) => {
          return etcd.transact([], [put(`/n/${i + j}`, "")], []);
        }));
      }
    })();
    const events = await follow(etcd, "/n/", from, (all) => all.length >= 1_000);
    await puts;
    assert.deepEqual(
      events.map(({ entry }) => entry.modRevision),
      Array.from({ length: 1_000 }, (_, i) => from + BigInt(i)),
    );
    assert.equal(new Set(events.map(({ entry }) => entry.key)).size, 1_000);
  });

  test("what one transaction did comes in one batch, however large", async () => {
    const from = await lab.revision() + 1n;
    const value = "x".repeat(10_000);
    // A response may have some 2 MB: many revisions in one come as fragments.
    for (let i = 0; i < 10; i++) {
      const puts = Array.from({ length: 100 }, (_, j) => put(`/f/${i}/${j}`, value));
      await etcd.transact([], puts, []);
    }
    let partCount = 0;
    const events = await follow(etcd, "/f/", from, (all) => all.length >= 1_000, (batch) => {
      partCount += new Set(batch.map(({ entry }) => entry.modRevision)).size;
    });
    assert.equal(events.length, 1_000);
    assert.equal(partCount, 10, "no revision is in two batches");
    assert.deepEqual(
      events.map(({ entry }) => entry.modRevision),
      Array.from({ length: 1_000 }, (_, i) => from + BigInt(Math.floor(i / 100))),
    );
  });

  test("a reader that is slow loses nothing", async () => {
    const from = await lab.revision() + 1n;
    const value = "x".repeat(50_000);
    const puts = (async () => {
      for (let i = 0; i < 400; i++) await etcd.transact([], [put(`/s/${i}`, value)], []);
    })();
    const impatient = openEtcd({ ...lab.clientOptions, progress_ms: 50, silence_ms: 150 });
    let batchCount = 0;
    const events = await follow(impatient, "/s/", from, (all) => all.length >= 400, async () => {
      // Longer than a watch may be silent, and while much comes in.
      if (++batchCount === 1) await Promise.all([puts, new Promise((r) => setTimeout(r, 400))]);
    });
    assert.deepEqual(events.map(({ entry }) => entry.key), events.map((_, i) => `/s/${i}`));
    impatient.close();
  });

  test("a silent watch shows signs of life", async () => {
    const quick = openEtcd({ ...lab.clientOptions, progress_ms: 30, silence_ms: 2_000 });
    let emptyCount = 0;
    await follow(quick, "/quiet/", 1n, () => emptyCount >= 3, (batch) => {
      assert.equal(batch.length, 0);
      emptyCount++;
    });
    assert.equal(quick.callCount, 1, "and needs no call for it");
    quick.close();
  });

  test("history that is gone throws CompactedError with the revision there is", async () => {
    await lab.put("/w/b", "");
    const at = await lab.revision();
    await lab.compact(at);
    const watch = follow(etcd, "/w/", 1n, () => false);
    await assert.rejects(watch, (error) => {
      assert.ok(error instanceof CompactedError);
      assert.equal(error.compactRevision, at);
      return true;
    });
  });

  test("a watch that is aborted returns, before it begins and while it waits", async () => {
    for await (const _ of etcd.watch("/w/", 1n, AbortSignal.abort())) assert.fail("a batch");
    const abort = new AbortController();
    setTimeout(() => abort.abort(), 100);
    const from = await lab.revision() + 1n;
    for await (const batch of etcd.watch("/w/", from, abort.signal)) {
      assert.equal(batch.length, 0);
    }
  });

  test("many watches that end leave no streams behind", async () => {
    const from = await lab.revision() + 1n;
    await lab.put("/n/again", "");
    for (let i = 0; i < 20; i++) {
      const abort = new AbortController();
      for await (const batch of etcd.watch("/n/", from, abort.signal)) {
        assert.equal(batch.length, 1);
        // One way to end it, and the other.
        if (i % 2 === 0) break;
        abort.abort();
      }
    }
    const until_ms = performance.now() + 5_000;
    while (await lab.members[0]!.metric("etcd_debugging_mvcc_watcher_total") > 0) {
      assert.ok(performance.now() < until_ms, "the server still has watchers");
    }
    assert.equal((await etcd.get("/none")).entry, null);
  });
});

test("a watch of an etcd that was set up anew does not wait for a revision to come", async () => {
  await withEtcd({}, async (lab) => {
    const etcd = openEtcd(lab.clientOptions);
    for (let i = 0; i < 20; i++) await lab.put(`/a/${i}`, "");
    const from = await lab.revision() + 1n;
    const [member] = lab.members;
    await member!.kill();
    member!.wipe();
    member!.start();
    await member!.awaitHealth();
    const watch = follow(etcd, "/a/", from, () => false);
    await assert.rejects(watch, (error) => error instanceof CompactedError);
    etcd.close();
  });
});
