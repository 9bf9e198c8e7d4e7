import assert from "node:assert/strict";
import { test } from "node:test";
import { SelvageError } from "../../src/errors.ts";
import { Health } from "../../src/etcd/health.ts";

const REFUSED = new SelvageError("unauthorized", "etcd demands a user", { hint: "Give one." });

test("what failed is told with what to do about it, of a call and of the watch", () => {
  const health = new Health(() => 1_000, () => {});
  health.callEnded("read", REFUSED);
  assert.equal(health.state.lastError, "etcd demands a user. Give one.");
  health.callEnded("read", null);
  health.watchTold(new SelvageError("unavailable", "connection refused"));
  assert.equal(health.state.lastError, "connection refused");
  health.watchTold(REFUSED);
  assert.equal(health.state.lastError, "etcd demands a user. Give one.");
});
