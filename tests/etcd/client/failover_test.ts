/** Members that die, hang, or have lost their leader; endpoints that never answer. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { errorText, hasCode, SelvageError } from "../../../src/errors.ts";
import { AmbiguousError } from "../../../src/etcd/client/error.ts";
import type { Etcd, KeyEvent } from "../../../src/etcd/client/kv.ts";
import { type EtcdOptions, openEtcd } from "../../../src/etcd/client/open_etcd.ts";
import { EtcdLab, type EtcdMember, withEtcd } from "../lab.ts";
import { silentEndpoint } from "../silent_endpoint.ts";

const PUT = [{ put: "/a", value: "1", leaseId: 0n }];

/** Where nobody listens (discard, RFC 863). */
const NOBODY = "http://127.0.0.1:9";

/** How long it took, and what came of it. */
async function timed<T>(work: Promise<T>): Promise<{ took_ms: number; result: T }> {
  const start_ms = performance.now();
  const result = await work;
  return { took_ms: performance.now() - start_ms, result };
}

/** Tries until it succeeds; a cluster needs a moment to choose a leader. */
async function eventually<T>(work: () => Promise<T>, within_ms = 15_000): Promise<T> {
  const until_ms = performance.now() + within_ms;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (performance.now() > until_ms) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

async function fails(work: Promise<unknown>): Promise<SelvageError> {
  const error = await work.then(() => null, (error: unknown) => error);
  assert.ok(error instanceof SelvageError, `no error of ours: ${errorText(error)}`);
  return error;
}

async function isTrue(member: EtcdMember, metric: string): Promise<boolean> {
  return await member.metric(metric) === 1;
}

/** The members, those that follow first, and the leader last. */
async function followersFirst(lab: EtcdLab): Promise<EtcdMember[]> {
  return await eventually(async () => {
    const leads = await Promise.all(lab.members.map((one) => {
      return isTrue(one, "etcd_server_is_leader");
    }));
    assert.equal(leads.filter((one) => one).length, 1);
    return [false, true].flatMap((is) => lab.members.filter((_, i) => leads[i] === is));
  });
}

/** A watch that runs until it fails. */
function watchUntilItFails(etcd: Etcd): { opened: Promise<void>; failed: Promise<SelvageError> } {
  let open = () => {};
  const opened = new Promise<void>((resolve) => open = resolve);
  const run = async () => {
    for await (const _ of etcd.watch("/watched", 1n, new AbortController().signal)) open();
  };
  return { opened, failed: fails(run()) };
}

describe("three members", () => {
  let lab: EtcdLab;
  const clients: Etcd[] = [];
  const open = (members: readonly EtcdMember[], options: Partial<EtcdOptions> = {}): Etcd => {
    const endpoints = members.map(({ endpoint }) => endpoint);
    const etcd = openEtcd({ ...lab.clientOptions, endpoints, ...options });
    clients.push(etcd);
    return etcd;
  };
  /** A client that is connected to the first of these; a member that has just woken may refuse. */
  const connect = (
    members: readonly EtcdMember[],
    options: Partial<EtcdOptions> = {},
  ): Promise<Etcd> => {
    return eventually(async () => {
      const etcd = open(members, options);
      await etcd.get("/a");
      assert.equal(etcd.location, members[0]!.endpoint);
      return etcd;
    });
  };
  before(async () => {
    lab = await EtcdLab.start({ memberCount: 3 });
    await lab.put("/watched", "");
  });
  beforeEach(async () => {
    for (const etcd of clients.splice(0)) etcd.close();
    for (const member of lab.members) member.resume();
    lab.startAll();
    await lab.awaitHealth();
  });
  after(async () => {
    for (const etcd of clients) etcd.close();
    await lab.stop();
  });

  test("a member that is killed costs a moment, and the next one is kept", async () => {
    const members = await followersFirst(lab);
    const etcd = await connect(members);
    await members[0]!.kill();
    const { took_ms } = await timed(etcd.get("/a"));
    assert.ok(took_ms < 1_000, `${took_ms} ms`);
    assert.equal(etcd.location, members[1]!.endpoint);
    await etcd.transact([], PUT, []);
    const next = await timed(Promise.all(Array.from({ length: 20 }, () => etcd.get("/a"))));
    assert.ok(next.took_ms < 500, `${next.took_ms} ms`);
    members[0]!.start();
    await members[0]!.awaitHealth();
    await etcd.get("/a");
    assert.equal(etcd.location, members[1]!.endpoint, "it does not go back by itself");
  });

  test("all killed: each is named with why, at once; all restarted: it goes on", async () => {
    const etcd = await connect(lab.members);
    await lab.killAll();
    // The first call may find the connection while it breaks.
    await fails(etcd.get("/a"));
    const call = await timed(fails(etcd.get("/a")));
    assert.ok(call.took_ms < 1_000, `${call.took_ms} ms`);
    const error = call.result;
    assert.equal(error.code, "unavailable");
    for (const { endpoint } of lab.members) {
      assert.ok(error.message.includes(`${endpoint}: connection refused`), error.message);
    }
    // Writes that went nowhere are in no doubt.
    assert.ok(!(await fails(etcd.transact([], PUT, [])) instanceof AmbiguousError));
    lab.startAll();
    await lab.awaitHealth();
    const { took_ms } = await timed(eventually(() => etcd.transact([], PUT, [])));
    assert.ok(took_ms < 3_000, `${took_ms} ms`);
  });

  test("a member that hangs is passed over for reads, and then avoided", async () => {
    const members = await followersFirst(lab);
    const etcd = await connect(members, { attempt_ms: 400 });
    await members[0]!.pause();
    const first = await timed(etcd.get("/a"));
    assert.ok(first.took_ms >= 390 && first.took_ms < 1_500, `${first.took_ms} ms`);
    const next = await timed(etcd.get("/a"));
    assert.ok(next.took_ms < 200, `${next.took_ms} ms`);
  });

  test("a write to a member that hangs is in doubt, and is not repeated elsewhere", async () => {
    const members = await followersFirst(lab);
    const etcd = await connect(members, { deadline_ms: 500 });
    const before = etcd.callCount;
    await members[0]!.pause();
    const compares = [{ key: "/once", target: "version" as const, is: 0n }];
    const put = [{ put: "/once", value: "1", leaseId: 0n }];
    const error = await fails(etcd.transact(compares, put, []));
    assert.ok(error instanceof AmbiguousError, error.message);
    assert.match(error.message, /no answer in 0\.5 s.*may have been done or not/);
    assert.ok(error.message.includes(members[0]!.endpoint));
    assert.equal(etcd.callCount, before + 1);
    // Grants are writes too. The next one goes to a member that answers.
    assert.ok((await etcd.grantLease(10)).id !== 0n);
    assert.equal((await etcd.get("/once")).entry, null);
  });

  test("a grant that hangs is in doubt as well", async () => {
    const members = await followersFirst(lab);
    const etcd = await connect(members, { deadline_ms: 300 });
    await members[0]!.pause();
    assert.ok(await fails(etcd.grantLease(10)) instanceof AmbiguousError);
  });

  test("without a leader calls fail with that reason, and writes are in no doubt", async () => {
    const etcd = await connect(lab.members);
    const watch = watchUntilItFails(etcd);
    await watch.opened;
    await Promise.all(lab.members.slice(1).map((member) => member.kill()));
    const [alone] = lab.members;
    await eventually(async () => {
      assert.equal(await alone!.metric("etcd_server_has_leader"), 0);
    });
    const read = await timed(fails(etcd.get("/a")));
    assert.ok(read.took_ms < 1_000, `${read.took_ms} ms`);
    assert.ok(hasCode(read.result, "unavailable"));
    assert.ok(
      read.result.message.includes(`${alone!.endpoint}: it has no leader`),
      read.result.message,
    );
    const write = await fails(etcd.transact([], PUT, []));
    assert.ok(!(write instanceof AmbiguousError), write.message);
    assert.match(write.message, /has no leader/);
    // A watch there would see nothing for as long.
    assert.match((await watch.failed).message, /the watch broke: it has no leader/);
    lab.startAll();
    await eventually(() => etcd.transact([], PUT, []));
  });

  test("a watch on a member that hangs ends when it is silent; the next is elsewhere", async () => {
    const members = await followersFirst(lab);
    const etcd = await connect(members, { progress_ms: 100, silence_ms: 400 });
    const watch = watchUntilItFails(etcd);
    await watch.opened;
    // The server has to have answered once, to be known as one that does.
    await new Promise((resolve) => setTimeout(resolve, 250));
    await members[0]!.pause();
    const { took_ms, result } = await timed(watch.failed);
    assert.match(result.message, /no sign of life for 0\.4 s/);
    assert.ok(took_ms < 1_500, `${took_ms} ms`);
    const abort = new AbortController();
    const events: KeyEvent[] = [];
    for await (const batch of etcd.watch("/watched", 1n, abort.signal)) {
      events.push(...batch);
      abort.abort();
    }
    assert.equal(events.length, 1);
    // The one after it, or the third while that has no leader again.
    assert.notEqual(etcd.location, members[0]!.endpoint);
  });

  test("pings alone find a dead connection within 15 s", async () => {
    const members = await followersFirst(lab);
    const etcd = await connect(members, { progress_ms: 60_000, silence_ms: 60_000 });
    const watch = watchUntilItFails(etcd);
    await watch.opened;
    await members[0]!.pause();
    const { took_ms, result } = await timed(watch.failed);
    assert.match(result.message, /the watch broke/);
    assert.ok(took_ms < 15_000, `${took_ms} ms`);
  });
});

test("a silent endpoint that comes first costs one call a moment", async () => {
  const silent = await silentEndpoint();
  try {
    await withEtcd({}, async (lab) => {
      const endpoints = [`http://${silent.address}`, ...lab.clientOptions.endpoints];
      const etcd = openEtcd({ ...lab.clientOptions, endpoints, connect_ms: 300 });
      const first = await timed(etcd.transact([], PUT, []));
      assert.ok(first.took_ms >= 290 && first.took_ms < 1_000, `${first.took_ms} ms`);
      for (let i = 0; i < 10; i++) {
        const next = await timed(etcd.get("/a"));
        assert.ok(next.took_ms < 100, `${next.took_ms} ms`);
      }
      assert.equal(silent.acceptedCount, 1);
      assert.equal(etcd.location, lab.clientOptions.endpoints[0]);
      etcd.close();
    });
  } finally {
    await silent.close();
  }
});

test("an endpoint that says no has answered, and is kept", async () => {
  await withEtcd({}, async (lab) => {
    const [answering] = lab.clientOptions.endpoints;
    const etcd = openEtcd({ ...lab.clientOptions, endpoints: [NOBODY, answering!] });
    assert.ok(hasCode(await fails(etcd.get("")), "invalid_argument"));
    assert.equal(etcd.location, answering);
    etcd.close();
  });
});

test("an endpoint where another service answers is named", async () => {
  const { createServer } = await import("node:http");
  const server = createServer((_, response) => response.end("hello"));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const etcd = openEtcd({
    endpoints: [`http://127.0.0.1:${port}`],
    ...{ cafile: null, certfile: null, keyfile: null, username: null, password: null },
    connect_ms: 500,
  });
  const error = await fails(etcd.get("/a"));
  assert.equal(error.code, "unavailable");
  assert.ok(error.message.includes(`127.0.0.1:${port}`), error.message);
  etcd.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

test("a name that nobody knows is told as such", async () => {
  const etcd = openEtcd({
    endpoints: ["http://etcd.invalid:2379"],
    ...{ cafile: null, certfile: null, keyfile: null, username: null, password: null },
  });
  assert.match((await fails(etcd.get("/a"))).message, /its name does not resolve: it is not known/);
  etcd.close();
});
