import assert from "node:assert/strict";
import { test } from "node:test";
import { measureEtcd } from "./etcd_figures.ts";

test("a node joins a network in etcd, and all its peers are planned", async () => {
  const signal = new AbortController().signal;
  const said: string[] = [];
  const say = (text: string) => said.push(text);
  const cases = [{ peerCount: 300, joinMax_ms: 800 }];
  const figures = await measureEtcd({ rounds: 2, signal, say, isMemorySampled: false }, cases);
  assert.deepEqual(figures.map(({ title, values }) => [title, values.length]), [
    ["joining 300 leases in etcd: from start to the last peer planned", 2],
    ["joining 300 leases in etcd: calls", 2],
  ]);
  const calls = figures[1]!.values;
  assert.ok(calls.every((count) => count > 0 && count <= 10), `${calls} calls`);
  assert.equal(said.length, 3);
});
