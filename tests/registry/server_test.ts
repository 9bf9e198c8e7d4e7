import { afterEach, beforeEach, describe, test } from "node:test";
import assert from "node:assert/strict";
import { connect as connectTcp } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { createFetch } from "../../src/net/node_fetch.ts";
import { REGISTRY_NAME } from "../../src/registry/certificate.ts";
import { listenRegistry } from "../../src/registry/server.ts";
import { nodeNumber, seededRandom } from "../lease/sample.ts";
import { spawnModule } from "../store/child.ts";
import { rejectsWith } from "../store/harness.ts";
import { TestRegistry } from "./harness.ts";

function ask(
  registry: TestRegistry,
  path: string,
  init: RequestInit = {},
  token = registry.token.text,
) {
  const tls = { ca: registry.certificate.certificatePem, servername: REGISTRY_NAME };
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const url = `https://${registry.server.location}/registry/v1${path}`;
  return createFetch({ tls })(url, { headers, ...init });
}

function openTls(registry: TestRegistry): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connectTls({
      host: "127.0.0.1",
      port: registry.server.port,
      ca: registry.certificate.certificatePem,
      servername: REGISTRY_NAME,
    }, () => resolve(socket));
    socket.on("error", reject);
  });
}

describe("the registry server", () => {
  let registry: TestRegistry;
  beforeEach(async () => {
    registry = await TestRegistry.start({ random: seededRandom(1) }, {
      watcherCountMax: 2,
      heartbeat_ms: 20,
      stall_ms: 200,
      headerTimeout_ms: 1_500,
      connectionCountMax: 4,
    });
    registry.store.setConfig('{"Network": "10.0.0.0/8"}', "test");
  });
  afterEach(() => registry.close());

  const request = (path: string, init?: RequestInit, token?: string) => {
    return ask(registry, path, init, token);
  };
  const openSocket = () => openTls(registry);

  async function problem(response: Response): Promise<Record<string, unknown>> {
    assert.equal(response.headers.get("content-type"), "application/problem+json");
    return await response.json();
  }

  test("answers nothing at all without a token", async () => {
    const paths = ["/config", "/leases", "/watch?id=x&revision=0", "/nothing"];
    for (const path of paths) {
      const response = await request(path, { headers: {} });
      assert.equal(response.status, 401, path);
      assert.match(response.headers.get("www-authenticate") ?? "", /^Bearer/);
      assert.equal((await problem(response)).code, "unauthorized");
    }
    for (const path of ["/acquire", "/renew", "/release", "/reserve", "/revoke"]) {
      const body = JSON.stringify({ key: "10.5.1.0-24", value: { PublicIP: "192.0.2.1" } });
      const response = await request(path, { method: "POST", body }, "000000000000.nonsense");
      assert.equal(response.status, 401, path);
      await response.body?.cancel();
    }
    assert.deepEqual(await registry.store.list(), []);
  });

  test("says of each bad body what is wrong, and changes nothing", async () => {
    const rows: [string, string, number, RegExp][] = [
      ["/acquire", "{", 400, /not JSON/],
      ["/acquire", "{}", 400, /value/],
      ["/acquire", '{"value": {}, "previousSubnets": []}', 400, /neither PublicIP/],
      ["/acquire", '{"value": {"PublicIP": "1.2.3"}, "previousSubnets": []}', 400, /1\.2\.3/],
      ["/acquire", '{"value": {"PublicIP": "1.2.3.4"}, "previousSubnets": ["x"]}', 400, /"x"/],
      ["/renew", '{"key": "10.1.1.0-24", "value": {"PublicIP": "1.2.3.4"}}', 409, /nobody/],
      ["/reserve", '{"key": "x", "value": {"PublicIP": "1.2.3.4"}}', 400, /"x"/],
      ["/revoke", '{"key": "10.1.1.0-24"}', 404, /no lease/],
      ["/revoke", '{"key": 5}', 400, /key/],
      ["/revoke", JSON.stringify({ key: "x".repeat(70_000) }), 413, /65536/],
    ];
    const { revision } = registry.store.snapshot();
    for (const [path, body, status, detail] of rows) {
      const response = await request(path, { method: "POST", body });
      assert.equal(response.status, status, `${path} ${body.slice(0, 60)}`);
      assert.match(String((await problem(response)).detail), detail);
    }
    assert.equal(registry.store.snapshot().revision, revision);
  });

  test("knows its paths and methods", async () => {
    for (const [path, method] of [["/nothing", "GET"], ["/leases", "POST"], ["/revoke", "GET"]]) {
      const response = await request(path!, { method });
      assert.equal(response.status, 404);
      assert.match(String((await problem(response)).detail), new RegExp(`${method} /registry/v1`));
    }
  });

  test("refuses a watch that it cannot resume", async () => {
    const { incarnation: id } = registry.store;
    const rows: [string, number][] = [
      [`id=${id}&revision=7`, 410],
      ["id=other&revision=1", 410],
      [`id=${id}&revision=-1`, 400],
      [`id=${id}`, 400],
    ];
    for (const [query, status] of rows) {
      const response = await request(`/watch?${query}`);
      assert.equal(response.status, status, query);
      await response.body?.cancel();
    }
  });

  test("bounds its watchers, and knows when one has gone", async () => {
    const path = `/watch?id=${registry.store.incarnation}&revision=1`;
    const abort = new AbortController();
    const open = [1, 2].map(() => request(path, { signal: abort.signal }));
    for (const response of await Promise.all(open)) assert.equal(response.status, 200);
    assert.equal(registry.server.watcherCount, 2);
    const refused = await request(path);
    assert.equal(refused.status, 503);
    assert.match(String((await problem(refused)).detail), /2 hosts watch/);
    abort.abort();
    while (registry.server.watcherCount > 0) await new Promise((go) => setTimeout(go, 5));
  });

  test("drops a watcher that does not read", async () => {
    const text = `GET /registry/v1/watch?id=${registry.store.incarnation}&revision=1 HTTP/1.1\r\n` +
      `Host: ${REGISTRY_NAME}\r\nAuthorization: Bearer ${registry.token.text}\r\n\r\n`;
    const port = String(registry.server.port);
    const child = spawnModule(new URL("./silent_watcher_child.ts", import.meta.url), [port, text]);
    const gone = new Promise((resolve) => child.once("close", resolve));
    try {
      const reading = new Promise<void>((resolve) => child.stdout.once("data", () => resolve()));
      await Promise.race([reading, gone.then(() => assert.fail("the watcher ended by itself"))]);
      assert.equal(registry.server.watcherCount, 1);
      const attributes = { ...nodeNumber(1), backendData: { 4: "x".repeat(15_000) } };
      const lease = await registry.store.acquire({ attributes, previousSubnets: [] });
      // More than the sockets' buffers take.
      for (let i = 0; registry.server.watcherCount > 0; i++) {
        assert.ok(i < 3000, "it was never dropped");
        await registry.store.renew(lease);
        if (i % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 10));
      }
    } finally {
      child.kill("SIGKILL");
      await gone;
    }
  });

  test("cuts off those who never end their header, and lives on", async () => {
    const garbage = connectTcp(registry.server.port, "127.0.0.1");
    garbage.on("error", () => {});
    garbage.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    const slow = await openSocket();
    const closed = new Promise<void>((resolve) => slow.once("close", () => resolve()));
    slow.on("error", () => {});
    slow.resume();
    slow.write("GET /registry/v1/leases HTTP/1.1\r\nHost: x\r\n");
    await closed;
    assert.equal((await request("/leases")).status, 200);
    garbage.destroy();
  });

  test("names the address that is in use", async () => {
    const options = {
      listen: { host: "127.0.0.1", port: registry.server.port },
      store: registry.store,
      tokens: registry.tokens,
      certificate: registry.certificate,
    };
    const error = await rejectsWith("conflict", listenRegistry(options));
    assert.match(error.message, new RegExp(`127\\.0\\.0\\.1:${registry.server.port} is in use`));
    const elsewhere = listenRegistry({ ...options, listen: { host: "192.0.2.77", port: 0 } });
    await rejectsWith("invalid_argument", elsewhere);
  });
});

describe("the bounds of the registry's connections", () => {
  let registry: TestRegistry;
  beforeEach(async () => {
    const limits = { watcherCountMax: 2, connectionCountMax: 4, shedAgeMin_ms: 0 };
    registry = await TestRegistry.start({ random: seededRandom(1) }, limits);
    registry.store.setConfig('{"Network": "10.0.0.0/8"}', "test");
  });
  afterEach(() => registry.close());

  test("closes the oldest stranger for a newcomer, and keeps those who watch", async () => {
    const path = `/watch?id=${registry.store.incarnation}&revision=1`;
    const abort = new AbortController();
    const watches = await Promise.all(
      [1, 2].map(() => ask(registry, path, { signal: abort.signal })),
    );
    const closed: number[] = [];
    // Six connections are allowed: those of the two watchers, and four others.
    const strangers: TLSSocket[] = [];
    for (let i = 0; i < 6; i++) {
      const socket = await openTls(registry);
      socket.on("error", () => {}).once("close", () => closed.push(i)).resume();
      strangers.push(socket);
    }
    while (closed.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(closed, [0, 1]);
    assert.equal((await ask(registry, "/leases")).status, 200);
    assert.equal(registry.server.watcherCount, watches.length);
    const { load } = registry.server;
    assert.deepEqual([load.connectionCountMax, load.shedCount, load.refusedCount], [6, 3, 0]);
    abort.abort();
    for (const socket of strangers) socket.destroy();
  });

  test("counts connections that never begin a TLS handshake", async () => {
    const sockets = Array.from({ length: 40 }, () => connectTcp(registry.server.port, "127.0.0.1"));
    for (const socket of sockets) socket.on("error", () => {}).resume();
    while (registry.server.load.shedCount < 34) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    assert.equal(registry.server.load.connectionCount, 6);
    assert.equal((await ask(registry, "/leases")).status, 200);
    for (const socket of sockets) socket.destroy();
  });
});
