import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import type { ChangeLine } from "../../src/api/views.ts";
import { watchLines } from "../../src/api/watch_lines.ts";
import { FakeStore, lease } from "./fake_control.ts";

const LOOK_MS = 1;

function setUp() {
  const store = new FakeStore([lease("10.5.7.0/24", "192.0.2.2")]);
  const ended = new AbortController();
  const lines = watchLines(store, ended.signal, LOOK_MS);
  const next = async () => (await lines.next()).value as ChangeLine;
  return { store, ended, lines, next };
}

describe("the lines of a watch", () => {
  test("a store that goes away is told once, and once that it is back", async () => {
    const { store, ended, lines, next } = setUp();
    assert.deepEqual((await next()).changes.map(({ key }) => key), ["10.5.7.0-24"]);
    const told = next();
    store.lastError = "connection refused";
    assert.deepEqual(await told, { changes: [], storeError: "connection refused" });
    const back = next();
    store.lastError = "no leader";
    await setTimeout(10 * LOOK_MS);
    store.lastError = null;
    assert.deepEqual(await back, { changes: [], storeError: null });
    const change = next();
    store.change({ type: "delete", key: "10.5.7.0-24" });
    assert.deepEqual(await change, { changes: [{ type: "delete", key: "10.5.7.0-24" }] });
    const end = lines.next();
    ended.abort();
    assert.deepEqual(await end, { done: true, value: undefined });
    assert.equal(store.watcherCount, 0);
  });

  test("a change that comes with the loss is told as well, after it", async () => {
    const { store, next } = setUp();
    await next();
    store.lastError = "connection refused";
    store.change({ type: "delete", key: "10.5.7.0-24" });
    assert.equal((await next()).storeError, "connection refused");
    assert.equal((await next()).changes.length, 1);
  });

  test("signs of life are no lines, but for the first", async () => {
    const { store, next } = setUp();
    store.watch = async function* () {
      yield [];
      yield [];
      yield [{ type: "delete" as const, key: "10.5.7.0-24" }];
    };
    assert.deepEqual(await next(), { changes: [] });
    assert.equal((await next()).changes.length, 1);
  });

  test("a watch that fails while a line is being taken harms nobody else", async () => {
    const { store, lines, next } = setUp();
    let fail = (_why: Error) => {};
    store.watch = async function* () {
      yield [];
      await new Promise<never>((_resolve, reject) => fail = reject);
    };
    assert.deepEqual(await next(), { changes: [] });
    const told = next();
    store.lastError = "connection refused";
    await told;
    fail(new Error("gone"));
    await setTimeout(10 * LOOK_MS);
    await assert.rejects(lines.next(), /gone/);
  });
});
