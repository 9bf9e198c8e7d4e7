import { after, afterEach, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { request as httpRequest, type RequestOptions } from "node:http";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ApiListener, listenTcp, listenUnix } from "../../src/api/listener.ts";
import { isLoopbackAuthority } from "../../src/api/guard.ts";
import { placeSocket } from "../../src/api/socket_path.ts";
import { WatcherPool } from "../../src/api/watch_stream.ts";
import { hasCode, SelvageError } from "../../src/errors.ts";
import type { HttpLimits } from "../../src/net/http_server.ts";
import { createFetch } from "../../src/net/node_fetch.ts";
import { API_TOKEN, FakeControl, FakeStore, JOIN_TOKEN, lease } from "./fake_control.ts";

let dir = "";
const open: ApiListener[] = [];
before(() => {
  dir = mkdtempSync(join(tmpdir(), "selvage-api-"));
});
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});
after(() => rmSync(dir, { recursive: true, force: true }));

function newControl() {
  return new FakeControl(new FakeStore([lease("10.5.7.0/24", "192.0.2.2")]));
}

async function tcp(limits: Partial<HttpLimits> = {}, control = newControl()) {
  const where = { host: "127.0.0.1", port: 0 };
  const listener = await listenTcp(control, where, {
    watchers: new WatcherPool(),
    limits: { refusalDelayMax_ms: 1, ...limits },
  });
  open.push(listener);
  return { control, listener, port: listener.port! };
}

async function unix(path: string, control = newControl()) {
  const listener = await listenUnix(control, path, { watchers: new WatcherPool() });
  open.push(listener);
  return listener;
}

interface Answer {
  status: number;
  headers: Record<string, unknown>;
  text: string;
}

/** One request with exactly these headers, on a connection of its own. */
function ask(options: RequestOptions, body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ agent: false, ...options }, (message) => {
      let text = "";
      message.on("data", (chunk) => text += chunk);
      message.on("end", () => {
        resolve({ status: message.statusCode ?? 0, headers: message.headers, text });
      });
      message.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

/** Sends bytes and collects what comes until the server closes. */
function raw(port: number, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes));
    socket.on("data", (chunk) => text += chunk);
    socket.on("error", () => {});
    socket.on("close", () => resolve(text));
  });
}

describe("the Unix socket", () => {
  test("has mode 0600, a directory others may enter, and leaves nothing behind", async () => {
    const path = join(dir, "made", "api.sock");
    const listener = await unix(path);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(statSync(join(dir, "made")).mode & 0o777, 0o755);
    assert.deepEqual(readdirSync(join(dir, "made")), ["api.sock"]);
    assert.equal((await ask({ socketPath: path, path: "/healthz" })).status, 200);
    await listener.close();
    open.length = 0;
    assert.deepEqual(readdirSync(join(dir, "made")), []);
  });

  test("needs no token, whatever the Host", async () => {
    const path = join(dir, "all.sock");
    await unix(path);
    const body = JSON.stringify({ scope: "api" });
    const made = await ask({
      socketPath: path,
      path: "/v1/tokens",
      method: "POST",
      headers: { "content-type": "application/json", "content-length": body.length, host: "any" },
    }, body);
    assert.equal(made.status, 201, made.text);
  });

  test("as many clients as the bound allows are answered at the same time", async () => {
    const path = join(dir, "many.sock");
    const { load } = await unix(path);
    const asked = Array.from({ length: load.connectionCountMax }, () => {
      return ask({ socketPath: path, path: "/healthz" });
    });
    for (const { status } of await Promise.all(asked)) assert.equal(status, 200);
  });

  test("a stale socket is replaced, a live one is not", async () => {
    const path = join(dir, "stale.sock");
    await unix(path);
    await assert.rejects(
      unix(path),
      (error: unknown) => hasCode(error, "conflict") && error.message.includes(path),
    );
    assert.equal((await ask({ socketPath: path, path: "/healthz" })).status, 200);
    const dead = join(dir, "dead.sock");
    await makeStaleSocket(dead);
    await unix(dead);
    assert.equal((await ask({ socketPath: dead, path: "/healthz" })).status, 200);
  });

  test("no timer runs while nobody is connected", async () => {
    const running = new Set<unknown>();
    const { setInterval: start, clearInterval: end } = globalThis;
    globalThis.setInterval = ((...args: Parameters<typeof setInterval>) => {
      const timer = start(...args);
      running.add(timer);
      return timer;
    }) as typeof setInterval;
    globalThis.clearInterval = ((timer: number | undefined) => {
      running.delete(timer);
      end(timer);
    }) as typeof clearInterval;
    try {
      const path = join(dir, "idle.sock");
      const listener = await unix(path);
      assert.equal(running.size, 0);
      const socket = connect(path);
      while (listener.load.connectionCount === 0) await pause();
      assert.equal(running.size, 1, "connections are timed");
      socket.destroy();
      while (listener.load.connectionCount > 0) await pause();
      assert.equal(running.size, 0);
    } finally {
      globalThis.setInterval = start;
      globalThis.clearInterval = end;
    }
  });

  test("a file that is no socket stays", async () => {
    const path = join(dir, "file");
    await import("node:fs/promises").then((fs) => fs.writeFile(path, "mine"));
    await assert.rejects(unix(path), (error: unknown) => hasCode(error, "conflict"));
    assert.equal(statSync(path).size, 4);
  });

  test("it is bound inside its own directory: beside that may be another mount", async () => {
    const parent = join(dir, "inside");
    const path = join(parent, "api.sock");
    let bound = "";
    await assert.rejects(
      placeSocket(path, (bindPath) => {
        bound = bindPath;
        return Promise.reject(new SelvageError("unavailable", "not bound"));
      }),
      /not bound/,
    );
    assert.ok(bound.startsWith(`${parent}/`), bound);
    assert.deepEqual(readdirSync(parent), []);
  });

  test("a path that is too long is refused by name", async () => {
    const path = join(dir, "x".repeat(110));
    await assert.rejects(unix(path), (error: unknown) => hasCode(error, "invalid_argument"));
    assert.ok(!existsSync(path));
  });

  test("a socket that another server has taken over is not removed at close", async () => {
    const path = join(dir, "taken.sock");
    const first = await unix(path);
    rmSync(path);
    await unix(path);
    await first.close();
    assert.equal((await ask({ socketPath: path, path: "/healthz" })).status, 200);
  });
});

/** A socket file whose server has died: bound, then renamed away before the server closes. */
function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 5));
}

async function makeStaleSocket(path: string): Promise<void> {
  const { renameSync } = await import("node:fs");
  const server = createServer();
  const bound = `${path}.b`;
  await new Promise<void>((resolve) => server.listen({ path: bound }, resolve));
  renameSync(bound, path);
  await new Promise<void>((resolve) => server.close(() => resolve()));
  chmodSync(path, 0o600);
}

describe("loopback TCP: Host, Origin, token", () => {
  const DELETE = { method: "DELETE", path: "/v1/leases/10.5.7.0-24" };
  const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
  const rows: [string, RequestOptions, (port: number) => Record<string, string>, number][] = [
    ["reading", { path: "/v1/status" }, () => ({}), 200],
    ["by name", { path: "/v1/status" }, (port) => ({ host: `localhost:${port}` }), 200],
    ["another loopback", { path: "/healthz" }, (port) => ({ host: `127.8.8.8:${port}` }), 200],
    ["IPv6 loopback", { path: "/healthz" }, (port) => ({ host: `[::1]:${port}` }), 200],
    ["a rebound name", { path: "/v1/status" }, (port) => ({ host: `evil.example:${port}` }), 403],
    ["another port", { path: "/v1/status" }, () => ({ host: "127.0.0.1:1" }), 403],
    ["no port", { path: "/v1/status" }, () => ({ host: "127.0.0.1" }), 403],
    ["an outer address", { path: "/healthz" }, (port) => ({ host: `192.0.2.1:${port}` }), 403],
    [
      "its own page",
      { path: "/v1/status" },
      (port) => ({ host: `localhost:${port}`, origin: `http://localhost:${port}` }),
      200,
    ],
    [
      "the other loopback name's page",
      { path: "/v1/status" },
      (port) => ({ host: `localhost:${port}`, origin: `http://127.0.0.1:${port}` }),
      403,
    ],
    ["another site's page", { path: "/v1/status" }, () => ({ origin: "http://evil.example" }), 403],
    ["a sandboxed page", { path: "/v1/status" }, () => ({ origin: "null" }), 403],
    ["changing, no token", DELETE, () => ({}), 401],
    ["changing, wrong token", DELETE, () => bearer("wrong"), 401],
    ["changing, malformed", DELETE, () => ({ authorization: `Basic ${API_TOKEN}` }), 401],
    ["changing, a join token", DELETE, () => bearer(JOIN_TOKEN), 403],
    [
      "changing, token but another site",
      DELETE,
      () => ({ ...bearer(API_TOKEN), origin: "http://evil.example" }),
      403,
    ],
    ["changing, token", DELETE, () => bearer(API_TOKEN), 204],
    ["the configuration", { path: "/v1/config", method: "PUT" }, () => bearer(API_TOKEN), 403],
    ["the configuration, no token", { path: "/v1/config", method: "PUT" }, () => ({}), 403],
    ["tokens, no token", { path: "/v1/tokens", method: "POST" }, () => ({}), 404],
    ["tokens, reading", { path: "/v1/tokens" }, () => bearer(API_TOKEN), 404],
    ["tokens, making", { path: "/v1/tokens", method: "POST" }, () => bearer(API_TOKEN), 404],
  ];
  for (const [name, options, headersOf, status] of rows) {
    test(`${name}: ${status}`, async () => {
      const { port, control } = await tcp();
      const headers = { host: `127.0.0.1:${port}`, ...headersOf(port) };
      const answer = await ask({ host: "127.0.0.1", port, ...options, headers });
      assert.equal(answer.status, status, answer.text);
      if (status >= 400) {
        assert.equal(answer.headers["content-type"], "application/problem+json");
        assert.equal(control.store.leases.size, 1, "a refused request changes nothing");
      }
    });
  }

  test("what counts as a loopback authority", () => {
    for (const good of ["127.0.0.1:80", "127.0.0.1", "LOCALHOST", "[::1]", "[0::1]:80"]) {
      assert.ok(isLoopbackAuthority(good, 80), good);
    }
    for (
      const bad of ["", ":80", "127.1", "0x7f.1", "127.0.0.1.evil.example", "localhost.", "[::1"]
        .concat(["::1", "localhost:080x", "127.0.0.1:80:80", "a@127.0.0.1", "[::]", "0.0.0.0"])
    ) assert.ok(!isLoopbackAuthority(bad, 80), bad);
  });
});

describe("TCP: bounds", () => {
  test("a port in use is named", async () => {
    const { port } = await tcp();
    await assert.rejects(
      listenTcp(newControl(), { host: "127.0.0.1", port }, { watchers: new WatcherPool() }),
      (error: unknown) => hasCode(error, "conflict") && error.message.includes(String(port)),
    );
  });

  test("an address this host does not have is named", async () => {
    const certificate = { cert: "", key: "" };
    const where = { host: "192.0.2.200", port: 0 };
    await assert.rejects(
      listenTcp(newControl(), where, { watchers: new WatcherPool(), certificate }),
      /192\.0\.2\.200/,
    );
  });

  test("beyond loopback nothing is served without TLS", async () => {
    for (const host of ["0.0.0.0", "192.0.2.1", "::"]) {
      await assert.rejects(
        listenTcp(newControl(), { host, port: 0 }, { watchers: new WatcherPool() }),
        (error: unknown) => hasCode(error, "invalid_argument") && error.message.includes("TLS"),
      );
    }
  });

  test("a header and a body that never end are cut off", async () => {
    const { port } = await tcp({ headerTimeout_ms: 100, requestTimeout_ms: 200 });
    const started_ms = Date.now();
    const [header, body] = await Promise.all([
      raw(port, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "),
      raw(
        port,
        `POST /v1/leases HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer ` +
          `${API_TOKEN}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{`,
      ),
    ]);
    assert.doesNotMatch(header, /^HTTP\/1.1 2/);
    assert.doesNotMatch(body, /^HTTP\/1.1 2/);
    assert.ok(Date.now() - started_ms < 5_000, "took too long");
  });

  test("more connections than the bound are turned away, the others stay", async () => {
    const { port } = await tcp({ countMax: 2 });
    const headers = { host: `127.0.0.1:${port}` };
    const options = { host: "127.0.0.1", port, path: "/v1/leases/watch", headers };
    const held = await Promise.all([holdStream(options), holdStream(options)]);
    await assert.rejects(ask({ ...options, path: "/healthz" }));
    for (const one of held) one.destroy();
  });

  test("who holds all connections, idle or half-way through a request, is put out", async () => {
    const { port, listener } = await tcp();
    const { connectionCountMax } = listener.load;
    const sockets = Array.from({ length: 2 * connectionCountMax }, (_, i) => {
      const socket = connect(port, "127.0.0.1").on("error", () => {}).resume();
      if (i % 2 === 1) socket.write("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ");
      return socket;
    });
    const headers = { host: `127.0.0.1:${port}` };
    for (let i = 0; i < 3; i++) {
      const answer = await ask({ host: "127.0.0.1", port, path: "/healthz", headers });
      assert.equal(answer.status, 200);
    }
    assert.ok(listener.load.shedCount >= connectionCountMax, JSON.stringify(listener.load));
    assert.ok(listener.load.connectionCount <= connectionCountMax);
    for (const socket of sockets) socket.destroy();
  });

  test("requests without a valid token are counted, and answered later and later", async () => {
    const { port, listener } = await tcp({ refusalDelayMax_ms: 200 });
    const change = { method: "DELETE", path: "/v1/leases/10.5.7.0-24" };
    const headers = { host: `127.0.0.1:${port}` };
    const start_ms = performance.now();
    for (let i = 0; i < 3; i++) {
      const answer = await ask({ host: "127.0.0.1", port, ...change, headers });
      assert.equal(answer.status, 401);
    }
    assert.ok(performance.now() - start_ms > 490, "0.1, 0.2 and 0.2 s");
    assert.equal(listener.load.unauthorizedCount, 3);
    const authorization = `Bearer ${API_TOKEN}`;
    const allowed = { ...change, headers: { ...headers, authorization } };
    assert.equal((await ask({ host: "127.0.0.1", port, ...allowed })).status, 204);
  });

  test("a target that names another server than the Host header: 403", async () => {
    const { port } = await tcp();
    const own = `127.0.0.1:${port}`;
    const rows: [target: string, host: string, status: number][] = [
      [`http://${own}/healthz`, own, 200],
      [`http://LOCALHOST:${port}/healthz`, `localhost:${port}`, 200],
      ["http://evil.example/healthz", own, 403],
      [`http://evil.example:${port}/healthz`, own, 403],
      [`http://user@${own}/healthz`, own, 403],
      [`https://evil.example?/healthz`, own, 403],
      [`http://${own}/healthz`, "evil.example", 403],
      ["http://evil.example/healthz", "evil.example", 403],
    ];
    for (const [target, host, status] of rows) {
      const head = `GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
      const answer = await raw(port, head);
      assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `), `${target}, ${host}: ${answer}`);
    }
  });

  test("a few requests may be sent at once; with many the connection is closed", async () => {
    const { port, control } = await tcp();
    let readCount = 0;
    const { readiness } = control;
    control.readiness = () => (readCount++, readiness.call(control));
    const request = `GET /readyz HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n`;
    const few = await raw(port, `${request}\r\n`.repeat(7) + `${request}Connection: close\r\n\r\n`);
    assert.equal(few.match(/HTTP\/1\.1 200 /g)?.length, 8);
    assert.equal(readCount, 8);
    await raw(port, `${request}\r\n`.repeat(1_000));
    assert.ok(readCount < 100, `${readCount} requests were answered`);
    assert.match(await raw(port, `${request}Connection: close\r\n\r\n`), /^HTTP\/1\.1 200 /);
  });

  test("what is no HTTP, and headers too large, are refused; the server lives on", async () => {
    const { port } = await tcp({ headerSizeMax_bytes: 4096 });
    assert.match(await raw(port, "\x16\x03\x01 hello\r\n\r\n"), /^(HTTP\/1.1 400|$)/);
    const large = `GET / HTTP/1.1\r\nHost: x\r\nX: ${"y".repeat(20_000)}\r\n\r\n`;
    assert.match(await raw(port, large), /^(HTTP\/1.1 4(00|31)|$)/);
    assert.match(await raw(port, "GET / HTTP/1.1\r\nConnection: close\r\n\r\n"), /^HTTP\/1.1 40/);
    assert.match(
      await raw(port, "GET / HTTP/1.1\r\nHost: a b/c@d\r\nConnection: close\r\n\r\n"),
      /^HTTP\/1.1 40/,
    );
    const headers = { host: `127.0.0.1:${port}` };
    assert.equal((await ask({ host: "127.0.0.1", port, path: "/healthz", headers })).status, 200);
  });

  test("a body too large over the wire: 413", async () => {
    const { port } = await tcp();
    const body = `{"pad":"${"x".repeat(200_000)}"}`;
    const answer = await ask({
      host: "127.0.0.1",
      port,
      path: "/v1/leases",
      method: "POST",
      headers: {
        host: `127.0.0.1:${port}`,
        "content-type": "application/json",
        "content-length": body.length,
        authorization: `Bearer ${API_TOKEN}`,
      },
    }, body);
    assert.equal(answer.status, 413);
    assert.equal(JSON.parse(answer.text).code, "too_large");
  });
});

/** Opens a stream and returns once its first bytes are here. */
function holdStream(options: RequestOptions): Promise<{ destroy(): void; ended: Promise<void> }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ agent: false, ...options }, (message) => {
      const ended = new Promise<void>((done) => message.on("end", done));
      message.once("data", () => resolve({ destroy: () => request.destroy(), ended }));
      message.on("error", () => {});
    });
    request.on("error", reject);
    request.end();
  });
}

describe("closing", () => {
  test("ends the watch streams tidily and frees the port", async () => {
    const { port, listener, control } = await tcp();
    const headers = { host: `127.0.0.1:${port}` };
    const stream = await holdStream({ port, path: "/v1/leases/watch", headers });
    await listener.close();
    await stream.ended;
    assert.equal(control.store.watcherCount, 0);
    const again = await listenTcp(control, { host: "127.0.0.1", port }, {
      watchers: new WatcherPool(),
    });
    open.push(again);
  });

  test("a client that goes away ends its watch", async () => {
    const control = newControl();
    const watchers = new WatcherPool();
    const path = join(dir, "gone.sock");
    open.push(await listenUnix(control, path, { watchers }));
    const fetch = createFetch({ socketPath: path });
    const abort = new AbortController();
    const response = await fetch("http://selvage/v1/leases/watch", { signal: abort.signal });
    await response.body!.getReader().read();
    assert.equal(watchers.count, 1);
    abort.abort();
    for (let i = 0; i < 200 && watchers.count > 0; i++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.equal(watchers.count, 0);
  });
});
