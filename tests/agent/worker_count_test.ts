import assert from "node:assert/strict";
import { test } from "node:test";
import { workerCount } from "../../src/agent/worker_count.ts";

test("auto: one pair on up to three cores, else one for each two, at most eight", () => {
  const counts = [1, 2, 3, 4, 5, 6, 15, 16, 17, 64].map((cores) => workerCount("auto", cores));
  assert.deepEqual(counts, [1, 1, 1, 2, 2, 3, 7, 8, 8, 8]);
});

test("what was asked for holds, whatever the machine", () => {
  assert.equal(workerCount(8, 1), 8);
  assert.equal(workerCount(1, 64), 1);
});
