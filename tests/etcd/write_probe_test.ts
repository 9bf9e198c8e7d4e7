import assert from "node:assert/strict";
import { test } from "node:test";
import { SelvageError } from "../../src/errors.ts";
import { nodeNumber } from "../lease/sample.ts";
import { Follower } from "../store/harness.ts";
import { eventually, networkOfEachTest } from "./harness.ts";

const start = networkOfEachTest();
const TIMES = { writable_ms: 5, refused_ms: 2 };

test("a node that watches and may write no more says so, until it may again", async () => {
  const there = start();
  const { store, etcd } = there.node({ probeTimes: TIMES });
  await store.acquire({ attributes: nodeNumber(1), previousSubnets: [] });
  const follower = new Follower(store);
  await follower.until((self) => self.table.size === 1);
  const { revision } = there.server;
  const refusal = new SelvageError("forbidden", "the user may not do this");
  there.server.fault = (call) => {
    if (call === "transact") throw refusal;
    return null;
  };
  await eventually(() => store.state().lastError !== null);
  const { connected, lastError, errorSince_ms } = store.state();
  assert.deepEqual([connected, lastError], [true, refusal.message]);
  assert.equal(errorSince_ms, there.clock.now_ms());
  // What others ask for meanwhile says nothing of it.
  await store.list();
  assert.equal(store.state().lastError, refusal.message);
  there.server.fault = () => null;
  await eventually(() => store.state().lastError === null);
  assert.equal(there.server.revision, revision);
  await follower.stop();
  await store.close();
  const { callCount } = etcd;
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(etcd.callCount, callCount);
});

test("who only looks is not asked whether it could write, nor told what others were", async () => {
  const there = start();
  const { store, etcd } = there.node({ probeTimes: TIMES });
  const follower = new Follower(store);
  await follower.until((self) => self.batches.length === 1);
  there.server.fault = (call) => {
    if (call === "list") throw new SelvageError("forbidden", "the user may not do this");
    return null;
  };
  await assert.rejects(store.list(), /may not/);
  assert.deepEqual([store.state().connected, store.state().lastError], [true, null]);
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.ok(!etcd.calls.includes("transact"));
  await follower.stop();
});
