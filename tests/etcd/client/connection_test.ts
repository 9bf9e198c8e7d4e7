/** What becomes of connections: when they are given up, and that nothing of them is left. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { basename, join } from "node:path";
import process from "node:process";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { errorText } from "../../../src/errors.ts";
import { openEtcd } from "../../../src/etcd/client/open_etcd.ts";
import { silentEndpoint } from "../silent_endpoint.ts";
import { FakeEtcdServer } from "./fake_server.ts";

/** grpc-js connects again a second after a failure; its spread does not touch the first time. */
const RECONNECT_MS = 1_000;
const BUN = join(import.meta.dirname!, "../../../node_modules/@oven/bun-linux-x64/bin/bun");
const NONE = { cafile: null, certfile: null, keyfile: null, username: null, password: null };

function textOf(work: Promise<unknown>): Promise<string> {
  return work.then(() => "no error", errorText);
}

async function withFake<T>(
  behaviour: Parameters<typeof FakeEtcdServer.start>[0],
  work: (fake: FakeEtcdServer) => Promise<T>,
): Promise<T> {
  const fake = await FakeEtcdServer.start(behaviour);
  try {
    return await work(fake);
  } finally {
    fake.stop();
  }
}

test("after a failed connection nothing connects again by itself", async () => {
  let acceptedCount = 0;
  const server = createServer((socket) => {
    acceptedCount++;
    socket.on("error", () => {});
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const etcd = openEtcd({ endpoints: [`http://127.0.0.1:${port}`], ...NONE });
  try {
    assert.match(await textOf(etcd.get("/a")), /closed the connection in the handshake/);
    await pause(RECONNECT_MS * 1.5);
    assert.equal(acceptedCount, 1);
  } finally {
    etcd.close();
    await new Promise((resolve) => server.close(resolve));
  }
});

test("a call does not fail of a connection that another call has given up", async () => {
  const silent = await silentEndpoint();
  const etcd = openEtcd({ endpoints: [`http://${silent.address}`], ...NONE, connect_ms: 300 });
  try {
    const first = textOf(etcd.get("/a"));
    await pause(150);
    const second = textOf(etcd.get("/a"));
    assert.match(await first, /no answer to the connection/);
    assert.match(await second, /no answer to the connection/);
    assert.equal(silent.acceptedCount, 2, "the second has tried one of its own");
  } finally {
    etcd.close();
    await silent.close();
  }
});

test("a call that fails late gives up its own connection, and not a newer one", async () => {
  await withFake({ answersRange: (key) => key === "/a" }, async (fake) => {
    const etcd = openEtcd({ ...fake.clientOptions, deadline_ms: 300 });
    const early = textOf(etcd.get("/early"));
    await pause(150);
    const late = textOf(etcd.get("/late"));
    assert.match(await early, /no answer in 0\.3 s/);
    await etcd.get("/a");
    assert.equal(fake.connectionCount, 2);
    assert.match(await late, /no answer in 0\.3 s/);
    await etcd.get("/a");
    assert.equal(fake.connectionCount, 2);
    etcd.close();
  });
});

test("a connection that is given up during a login costs the call nothing", async () => {
  const loginTimes_ms = [0, 300];
  const lifetimes_ms = [300, 60_000];
  const login = async () => {
    await pause(loginTimes_ms.shift());
    const claims = { exp: (Date.now() + lifetimes_ms.shift()!) / 1000 };
    return `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.signature`;
  };
  await withFake({ answersRange: (key) => key === "/a", login }, async (fake) => {
    const user = { username: "router", password: "x" };
    const etcd = openEtcd({ ...fake.clientOptions, ...user, deadline_ms: 600 });
    const hanging = textOf(etcd.get("/never"));
    await pause(450);
    // The first token is at its end; the connection ends while the second is waited for.
    const other = etcd.get("/a");
    assert.match(await hanging, /no answer in 0\.6 s/);
    assert.equal((await other).entry, null);
    assert.equal(fake.loginCount, 2);
    etcd.close();
  });
});

test("ending a watch says nothing of its endpoint, and keeps the connection", async () => {
  await withFake({}, async (fake) => {
    const etcd = openEtcd(fake.clientOptions);
    for (let i = 0; i < 3; i++) {
      const abort = new AbortController();
      const watch = etcd.watch("/a", 10n, abort.signal)[Symbol.asyncIterator]();
      const next = watch.next();
      await etcd.get("/a");
      abort.abort();
      assert.equal((await next).done, true);
    }
    await etcd.get("/a");
    assert.equal(fake.connectionCount, 1);
    etcd.close();
  });
});

test("a clock that is set back makes no deadline longer", async () => {
  const silent = await silentEndpoint();
  const etcd = openEtcd({ endpoints: [`http://${silent.address}`], ...NONE, connect_ms: 200 });
  const RealDate = Date;
  let offset_ms = 0;
  class SetDate extends RealDate {
    constructor(...args: [] | [number | string | Date]) {
      super(args.length === 0 ? RealDate.now() + offset_ms : args[0]);
    }
    static override now(): number {
      return RealDate.now() + offset_ms;
    }
  }
  globalThis.Date = SetDate as DateConstructor;
  try {
    const failed = textOf(etcd.get("/a"));
    offset_ms = -60 * 60 * 1000;
    const late = pause(3_000, "it waits still", { ref: false });
    assert.match(await Promise.race([failed, late]), /no answer to the connection in 0\.2 s/);
  } finally {
    globalThis.Date = RealDate;
    etcd.close();
    await silent.close();
  }
});

/** What a child tells as JSON that this runtime runs behind `unshare` with these flags. */
async function toldBy(runtime: string, file: string, ...unshared: string[]): Promise<unknown> {
  const child = fileURLToPath(new URL(file, import.meta.url));
  const isBun = runtime.endsWith("bun") || process.versions["bun"] !== undefined;
  const flags = isBun ? [] : ["run", "-A", "--no-check"];
  const run = spawn("unshare", [...unshared, runtime, ...flags, child], {
    stdio: ["ignore", "pipe", "inherit"],
    timeout: 30_000,
  });
  let text = "";
  run.stdout.setEncoding("utf8").on("data", (part: string) => text += part);
  const [status] = await once(run, "close");
  assert.equal(status, 0, text);
  return JSON.parse(text);
}

// Bun says of every failure that the connection was refused.
for (const runtime of [process.execPath, BUN]) {
  test(`no route is told from a refusal (${basename(runtime)})`, async () => {
    const told = await toldBy(runtime, "./no_route_child.ts", "--net") as Record<string, string>;
    const advice = /this host's link, its routes/;
    for (const name of ["noRoute", "noRouteV6"]) {
      assert.match(told[name]!, /no route to its network/);
    }
    assert.match(told["unreachable"]!, /no route to the host/);
    assert.match(told["blackHole"]!, /no route to the host/);
    assert.match(told["prohibited"]!, /routes or firewall do not permit it/);
    assert.match(told["refused"]!, /: connection refused$/);
    for (const [name, text] of Object.entries(told)) {
      if (name !== "refused") assert.match(text, advice);
    }
  });
}

test("black holes: no socket is left of a host, and a name is said not to resolve", async () => {
  const told = await toldBy(process.execPath, "./black_hole_child.ts", "--net", "--mount");
  const seen = told as Record<"host" | "name", string> & Record<string, number>;
  assert.match(seen.host, /no answer to the connection in 0\.2 s/);
  assert.match(seen.name, /etcd\.lan:2379: its name does not resolve: no answer in 0\.2 s/);
  assert.equal(seen["connectingBefore"], 1, "the one that is waited for");
  assert.equal(seen["connecting"], 0, "attempts that go on though nobody waits");
});
