import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { connect } from "node:net";
import { listenHealth } from "../../src/api/health.ts";
import { FakeControl } from "./fake_control.ts";

async function withHealth(
  work: (base: string, control: FakeControl, port: number) => Promise<void>,
): Promise<void> {
  const control = new FakeControl();
  const listener = await listenHealth(control, { host: "127.0.0.1", port: 0 });
  try {
    await work(listener.location, control, listener.port!);
  } finally {
    await listener.close();
  }
}

const ask = async (url: string, init: RequestInit = {}) => {
  const response = await fetch(url, init);
  return [response.status, await response.text()];
};

describe("flannel's health server", () => {
  test("/healthz while it runs, /readyz when all is in place; nothing but yes or no", () =>
    withHealth(async (base, control) => {
      assert.deepEqual(await ask(`${base}/healthz`), [200, "ok\n"]);
      assert.deepEqual(await ask(`${base}/readyz?verbose`), [200, "ok\n"]);
      control.reasons = ["waiting for 192.0.2.1"];
      assert.deepEqual(await ask(`${base}/readyz`), [503, "not ready\n"]);
      assert.deepEqual(await ask(`${base}/healthz`), [200, "ok\n"]);
      assert.deepEqual(await ask(`${base}/readyz`, { method: "HEAD" }), [503, ""]);
    }));

  test("no other path, no other method", () =>
    withHealth(async (base) => {
      for (
        const path of ["/", "/v1/status", "/v1/leases", "/healthz/", "//healthz", "/v1/config"]
      ) {
        assert.deepEqual(await ask(`${base}${path}`), [404, "not found\n"], path);
      }
      assert.deepEqual(await ask(`${base}/healthz`, { method: "POST" }), [
        405,
        "method not allowed\n",
      ]);
    }));

  test("any Host header will do: probes use the host's address", () =>
    withHealth(async (_base, _control, port) => {
      const text = await new Promise<string>((resolve, reject) => {
        let seen = "";
        const socket = connect(port, "127.0.0.1", () => {
          socket.write(
            "GET /healthz HTTP/1.1\r\nHost: node-7.example\r\nConnection: close\r\n\r\n",
          );
        });
        socket.on("data", (part) => seen += part).on("end", () => resolve(seen));
        socket.on("error", reject);
      });
      assert.match(text, /^HTTP\/1\.1 200 /);
    }));

  test("a port in use is said with its flag", () =>
    withHealth(async (_base, control, port) => {
      await assert.rejects(listenHealth(control, { host: "127.0.0.1", port }), {
        code: "conflict",
        message: new RegExp(
          `^health address 127.0.0.1:${port} is in use by \\S+ \\(process ${process.pid}, user `,
        ),
        hint: /--healthz-port/,
      });
    }));
});
