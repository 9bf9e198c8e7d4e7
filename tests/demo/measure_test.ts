import assert from "node:assert/strict";
import { test } from "node:test";
import { allPairs, ringPairs } from "../../src/demo/measure.ts";

test("all pairs, both ways, nobody with itself", () => {
  assert.deepEqual(allPairs(["a", "b"]), [["a", "b"], ["b", "a"]]);
  assert.equal(allPairs([1, 2, 3, 4]).length, 12);
});

test("a ring of two is one pair; of more, each with the next", () => {
  assert.deepEqual(ringPairs(["a", "b"]), [["a", "b"], ["b", "a"]]);
  assert.deepEqual(ringPairs(["a", "b", "c"]), [
    ["a", "b"],
    ["b", "a"],
    ["b", "c"],
    ["c", "b"],
    ["c", "a"],
    ["a", "c"],
  ]);
});
