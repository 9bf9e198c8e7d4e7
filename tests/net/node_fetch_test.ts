import { afterEach, beforeEach, describe, test } from "node:test";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { Agent, createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createFetch } from "../../src/net/node_fetch.ts";
import { ensureCertificate, REGISTRY_NAME } from "../../src/registry/certificate.ts";
import { rejectsWith } from "../store/harness.ts";

/** Answers with what was asked; under other paths, with streams. */
function answer(request: IncomingMessage, response: ServerResponse): void {
  if (request.url === "/silent") return void response.writeHead(200).flushHeaders();
  if (request.url === "/cut") {
    response.writeHead(200, { "content-length": "100" });
    response.write("half", () => response.socket?.destroy());
    return;
  }
  if (request.url === "/never") return;
  if (request.url === "/empty") return void response.writeHead(204).end();
  let body = "";
  request.setEncoding("utf8");
  request.on("data", (chunk) => body += chunk);
  request.on("end", () => {
    response.writeHead(201, { "content-type": "application/json", "set-cookie": ["a=1", "b=2"] });
    const { method, url, headers } = request;
    response.end(JSON.stringify({ method, url, headers, body }));
  });
}

function listen(server: Server, where: { path: string } | { host: string; port: number }) {
  return new Promise<void>((resolve) => server.listen(where, () => resolve()));
}

describe("fetch on node:http", () => {
  let directory: string;
  let path: string;
  let server: ReturnType<typeof createServer>;
  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), "selvage-fetch-"));
    path = join(directory, "socket");
    server = createServer(answer);
    await listen(server, { path });
  });
  afterEach(async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
    rmSync(directory, { recursive: true });
  });

  test("speaks over a Unix socket", async () => {
    const fetch = createFetch({ socketPath: path });
    const response = await fetch("http://localhost/a/b?c=%20d", {
      method: "POST",
      headers: { "x-test": "1" },
      body: JSON.stringify({ e: "é" }),
    });
    assert.equal(response.status, 201);
    assert.deepEqual(response.headers.getSetCookie(), ["a=1", "b=2"]);
    const { method, url, headers, body } = await response.json();
    assert.deepEqual([method, url, body], ["POST", "/a/b?c=%20d", '{"e":"é"}']);
    assert.equal(headers["x-test"], "1");
    assert.equal(headers.host, "localhost");
    assert.equal(headers["content-length"], "10");
    const get = await (await fetch(new URL("http://localhost/x"))).json();
    assert.deepEqual([get.method, get.url, get.body], ["GET", "/x", ""]);
    assert.equal((await fetch("http://localhost/empty")).body, null);
  });

  test("says what is wrong with a socket", async () => {
    const gone = join(directory, "gone");
    const fetch = createFetch({ socketPath: gone });
    const error = await rejectsWith("unavailable", fetch("http://localhost/"));
    assert.match(error.message, new RegExp(`^${gone}: `));
    assert.equal((error.cause as { code?: string }).code, "ENOENT");
  });

  test("says that nothing listens at a port", async () => {
    const free = createServer();
    await listen(free, { host: "127.0.0.1", port: 0 });
    const { port } = free.address() as AddressInfo;
    await new Promise((resolve) => free.close(resolve));
    const error = await rejectsWith("unavailable", createFetch()(`http://127.0.0.1:${port}/`));
    assert.equal(error.message, `127.0.0.1:${port}: connection refused`);
  });

  test("ends with the signal's reason: before, while it waits, and in the body", async () => {
    const fetch = createFetch({ socketPath: path });
    const reason = new Error("enough");
    const before = fetch("http://localhost/", { signal: AbortSignal.abort(reason) });
    await assert.rejects(before, reason);
    const waiting = new AbortController();
    const never = fetch("http://localhost/never", { signal: waiting.signal });
    server.once("request", () => waiting.abort(reason));
    await assert.rejects(never, reason);
    const reading = new AbortController();
    const silent = await fetch("http://localhost/silent", { signal: reading.signal });
    const text = silent.text();
    reading.abort(reason);
    await assert.rejects(text, reason);
  });

  test("lets the server know when a body is not wanted any more", async () => {
    const fetch = createFetch({ socketPath: path });
    const closed = new Promise<void>((resolve) => {
      server.once("request", (_, response) => response.once("close", () => resolve()));
    });
    const response = await fetch("http://localhost/silent");
    await response.body?.cancel();
    await closed;
  });

  test("does not take half a body for a whole one", async () => {
    const response = await createFetch({ socketPath: path })("http://localhost/cut");
    assert.equal(response.status, 200);
    await rejectsWith("unavailable", response.text());
  });

  test("keeps a connection that has an agent", async () => {
    let connectionCount = 0;
    server.on("connection", () => connectionCount++);
    const agent = new Agent({ keepAlive: true });
    const fetch = createFetch({ socketPath: path, agent });
    for (let i = 0; i < 3; i++) await (await fetch("http://localhost/")).text();
    assert.equal(connectionCount, 1);
    agent.destroy();
  });

  test("trusts the one certificate it was given, and no other", async () => {
    const ours = await ensureCertificate(join(directory, "ours"));
    const other = await ensureCertificate(join(directory, "other"));
    const secure = createTlsServer(
      { cert: ours.certificatePem, key: ours.privateKeyPem },
      answer,
    );
    await listen(secure, { host: "127.0.0.1", port: 0 });
    const { port } = secure.address() as AddressInfo;
    let requestCount = 0;
    secure.on("request", () => requestCount++);
    const url = `https://127.0.0.1:${port}/`;
    const servername = REGISTRY_NAME;
    try {
      const right = createFetch({ tls: { ca: ours.certificatePem, servername } });
      assert.equal((await (await right(url)).json()).url, "/");
      const wrong = createFetch({ tls: { ca: other.certificatePem, servername } });
      await rejectsWith("unavailable", wrong(url));
      const misnamed = createFetch({ tls: { ca: ours.certificatePem, servername: "example" } });
      await rejectsWith("unavailable", misnamed(url));
      await rejectsWith("unavailable", createFetch()(url));
      assert.equal(requestCount, 1);
    } finally {
      secure.closeAllConnections();
      await new Promise((resolve) => secure.close(resolve));
    }
  });
});
