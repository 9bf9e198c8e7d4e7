import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HostTokens } from "../../src/agent/host_tokens.ts";
import { createApi } from "../../src/api/app.ts";
import type { GuardOptions } from "../../src/api/guard.ts";
import { watchLines } from "../../src/api/watch_lines.ts";
import { WatcherPool, watchStream } from "../../src/api/watch_stream.ts";
import { tokensPath, TokenStore } from "../../src/registry/tokens.ts";
import { FakeControl, FakeStore, lease } from "./fake_control.ts";

/** Reads one JSON line after the other; null at the end. */
function lineReader(body: ReadableStream<Uint8Array>) {
  const reader = body.pipeThrough(new TextDecoderStream() as never).getReader();
  let rest = "";
  return {
    async next(): Promise<{ changes: { type: string; key: string }[] } | null> {
      while (!rest.includes("\n")) {
        const part = await reader.read();
        if (part.done) return null;
        rest += part.value;
      }
      const end = rest.indexOf("\n");
      const line = rest.slice(0, end);
      rest = rest.slice(end + 1);
      return JSON.parse(line);
    },
    cancel: () => reader.cancel(),
  };
}

function setUp(guard: GuardOptions | null = null, count_max?: number) {
  const control = new FakeControl(new FakeStore([lease("10.5.7.0/24", "192.0.2.2")]));
  const shutdown = new AbortController();
  const watchers = new WatcherPool(count_max);
  const api = createApi(control, { guard, shutdown: shutdown.signal, watchers });
  return { api, control, shutdown, watchers };
}

const put = (subnet: string) => ({
  type: "put" as const,
  key: subnet.replace("/", "-"),
  lease: lease(subnet, "192.0.2.9"),
});

describe("the watch", () => {
  test("first all leases, then each batch of changes, ended by shutdown", async () => {
    const { api, control, shutdown, watchers } = setUp();
    const response = await api.request("/v1/leases/watch");
    assert.equal(response.headers.get("content-type"), "application/x-ndjson");
    const lines = lineReader(response.body!);
    assert.deepEqual((await lines.next())?.changes.map((one) => one.key), ["10.5.7.0-24"]);
    control.store.change(put("10.5.8.0/24"));
    control.store.change({ type: "delete", key: "10.5.7.0-24" });
    assert.deepEqual((await lines.next())?.changes.map((one) => [one.type, one.key]), [
      ["put", "10.5.8.0-24"],
      ["delete", "10.5.7.0-24"],
    ]);
    const end = lines.next();
    shutdown.abort();
    assert.equal(await end, null);
    assert.equal(watchers.count, 0);
  });

  test("an empty store says so with an empty first line", async () => {
    const { api, control } = setUp();
    control.store.leases.clear();
    const lines = lineReader((await api.request("/v1/leases/watch")).body!);
    assert.deepEqual(await lines.next(), { changes: [] });
    await lines.cancel();
  });

  test("a client that goes frees its place; one too many is refused", async () => {
    const { api, watchers } = setUp(null, 2);
    const first = lineReader((await api.request("/v1/leases/watch")).body!);
    const second = lineReader((await api.request("/v1/leases/watch")).body!);
    await first.next();
    const refused = await api.request("/v1/leases/watch");
    assert.equal(refused.status, 503);
    assert.match((await refused.json()).detail, /2 clients watch already/);
    await first.cancel();
    assert.equal(watchers.count, 1);
    const third = lineReader((await api.request("/v1/leases/watch")).body!);
    assert.notEqual(await third.next(), null);
    await second.cancel();
    await third.cancel();
    assert.equal(watchers.count, 0);
  });

  test("ends when its token is revoked, and no other one with it", async () => {
    const directory = mkdtempSync(join(tmpdir(), "selvage-revoked-"));
    const store = new TokenStore(tokensPath(directory));
    const tokens = new HostTokens(store, null, { elsewhere: "", keepsRegistry: true });
    const { api, watchers } = setUp({
      scheme: "https",
      isOurHost: null,
      tokenFor: "everything",
      verify: (bearer) => tokens.verify(bearer),
      onRevoked: (bearer, listener) => tokens.onRevoked(bearer, listener),
    });
    try {
      const [first, second] = [store.create("api"), store.create("api")];
      const [revoked, other] = await Promise.all([first, second].map(async ({ token }) => {
        const headers = { authorization: `Bearer ${token}` };
        return lineReader((await api.request("/v1/leases/watch", { headers })).body!);
      }));
      await Promise.all([revoked!.next(), other!.next()]);
      const end = revoked!.next();
      await tokens.revoke(first.info.id);
      assert.equal(await end, null);
      assert.equal(watchers.count, 1);
      await other!.cancel();
      assert.equal(watchers.count, 0);
    } finally {
      store.close();
      rmSync(directory, { recursive: true });
    }
  });

  test("a HEAD takes no place", async () => {
    const { api, watchers } = setUp();
    assert.equal((await api.request("/v1/leases/watch", { method: "HEAD" })).status, 200);
    assert.equal(watchers.count, 0);
  });

  test("a client that stops reading loses its stream", async () => {
    const store = new FakeStore();
    let ends = 0;
    const stream = watchStream((signal) => watchLines(store, signal), {
      signals: [],
      onEnd: () => ends++,
      stall_ms: 5,
    });
    const reader = stream.getReader();
    await reader.read();
    await assert.rejects(reader.closed, /stopped reading/);
    assert.equal(ends, 1);
  });

  test("a watch that fails breaks the stream off, and is ended once", async () => {
    let ends = 0;
    // deno-lint-ignore require-yield
    const stream = watchStream(async function* () {
      await Promise.resolve();
      throw new Error("gone");
    }, { signals: [], onEnd: () => ends++ });
    await assert.rejects(stream.getReader().read(), /gone/);
    assert.equal(ends, 1);
  });

  test("a signal that is aborted already gives an empty stream", async () => {
    const store = new FakeStore();
    let ends = 0;
    const stream = watchStream((signal) => watchLines(store, signal), {
      signals: [AbortSignal.abort()],
      onEnd: () => ends++,
    });
    assert.equal((await stream.getReader().read()).done, true);
    assert.equal(ends, 1);
  });
});
