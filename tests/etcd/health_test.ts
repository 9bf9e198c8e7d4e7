import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SelvageError } from "../../src/errors.ts";
import { Health } from "../../src/etcd/health.ts";

const LOST = new SelvageError("unavailable", "connection refused");
const FULL = new SelvageError("store_full", "takes no writes");

function healthAt(clock: { now_ms: number }): Health {
  return new Health(() => clock.now_ms, () => {});
}

describe("how etcd does", () => {
  for (const isWatching of [false, true]) {
    const who = isWatching ? "a node that watches" : "one that waits for its lease";
    test(`a full etcd is reached and takes no writes, for ${who} alike`, () => {
      const clock = { now_ms: 1 };
      const health = healthAt(clock);
      if (isWatching) health.watchTold(null);
      clock.now_ms = 5;
      health.callEnded(true, FULL);
      clock.now_ms = 9;
      health.callEnded(true, FULL);
      health.callEnded(false, null);
      assert.deepEqual(health.state, {
        connected: true,
        since_ms: isWatching ? 1 : 5,
        lastError: "takes no writes",
        errorSince_ms: 5,
      });
      health.callEnded(true, null);
      const { lastError, errorSince_ms } = health.state;
      assert.deepEqual([lastError, errorSince_ms], [null, null]);
    });
  }

  test("one that is away says so since the first failure", () => {
    const clock = { now_ms: 1 };
    const health = healthAt(clock);
    health.callEnded(false, null);
    clock.now_ms = 3;
    health.callEnded(false, LOST);
    clock.now_ms = 4;
    health.callEnded(true, LOST);
    const text = LOST.message;
    assert.deepEqual(health.state, {
      connected: false,
      since_ms: 3,
      lastError: text,
      errorSince_ms: 3,
    });
    // What was tried in vain then says nothing of now.
    health.watchTold(null);
    assert.deepEqual([health.state.connected, health.state.lastError], [true, null]);
  });

  test("what fails is told with what to do about it, of a call and of the watch", () => {
    const refused = new SelvageError("unauthorized", "etcd demands a user", { hint: "Give one." });
    const health = healthAt({ now_ms: 1 });
    health.callEnded(false, refused);
    assert.equal(health.state.lastError, "etcd demands a user. Give one.");
    health.callEnded(false, null);
    health.watchTold(LOST);
    assert.equal(health.state.lastError, "connection refused");
    health.watchTold(refused);
    assert.equal(health.state.lastError, "etcd demands a user. Give one.");
  });
});
