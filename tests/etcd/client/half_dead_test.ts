/** Servers that hold a watch open and say nothing on it: old ones that are well, and dead ones. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { hasCode } from "../../../src/errors.ts";
import { openEtcd } from "../../../src/etcd/client/open_etcd.ts";
import { FakeEtcdServer } from "./fake_server.ts";

const TIMES = { deadline_ms: 300, attempt_ms: 300, progress_ms: 20, silence_ms: 100 };

test("a server without progress requests is asked otherwise, and its watch lives", async () => {
  const fake = await FakeEtcdServer.start({ progressAnswers: 0 });
  const etcd = openEtcd({ ...fake.clientOptions, ...TIMES });
  try {
    let signCount = 0;
    const watch = async () => {
      for await (const batch of etcd.watch("/a", 1n, new AbortController().signal)) {
        assert.equal(batch.length, 0);
        // From the third on it is dead.
        if (++signCount === 3) fake.behaviour.answersRange = () => false;
      }
    };
    await assert.rejects(watch(), (error) => hasCode(error, "unavailable"));
    assert.equal(signCount, 3);
    assert.equal(fake.rangeCount, 4);
  } finally {
    etcd.close();
    fake.stop();
  }
});

test("a stream that has answered and does so no more is dead, whatever calls say", async () => {
  const fake = await FakeEtcdServer.start({ progressAnswers: 2 });
  const etcd = openEtcd({ ...fake.clientOptions, ...TIMES });
  try {
    let signCount = 0;
    const watch = async () => {
      for await (const _ of etcd.watch("/a", 1n, new AbortController().signal)) signCount++;
    };
    await assert.rejects(watch(), /no sign of life for 0\.1 s/);
    assert.equal(signCount, 2);
    assert.equal(fake.rangeCount, 0);
  } finally {
    etcd.close();
    fake.stop();
  }
});

test("a watch does not live by what another server answers, and names its own", async () => {
  const dead = await FakeEtcdServer.start({ progressAnswers: 0 });
  const well = await FakeEtcdServer.start();
  const endpoints = [dead.endpoint, well.endpoint];
  const etcd = openEtcd({ ...dead.clientOptions, endpoints, ...TIMES, attempt_ms: 100 });
  try {
    let signCount = 0;
    const watch = async () => {
      for await (const _ of etcd.watch("/a", 1n, new AbortController().signal)) {
        if (++signCount > 1) return;
        dead.behaviour.answersRange = () => false;
        // What the other one has answered is remembered as the endpoint in use.
        await etcd.get("/a");
        assert.equal(etcd.location, well.endpoint);
      }
    };
    await assert.rejects(watch(), (error) => {
      assert.ok(hasCode(error, "unavailable"), String(error));
      assert.ok(
        error.message.startsWith(`etcd at ${dead.endpoint}: the watch broke`),
        error.message,
      );
      return true;
    });
    assert.equal(signCount, 1);
  } finally {
    etcd.close();
    dead.stop();
    well.stop();
  }
});
