import assert from "node:assert/strict";
import { test } from "node:test";
import { allPairs, countByDesign, type PingReport, ringPairs } from "../../src/demo/measure.ts";
import { formatPings, formatSuccess } from "../../src/demo/report.ts";

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

test("a first packet alone is lost by design, and only where that is the design", () => {
  assert.equal(countByDesign([1], true), 1);
  assert.equal(countByDesign([1, 2], true), 1);
  assert.equal(countByDesign([2], true), 0);
  assert.equal(countByDesign([], true), 0);
  assert.equal(countByDesign([1], false), 0);
});

test("the matrix of pings says what was lost by design", () => {
  const ping = (from: string, to: string, received: number, lostByDesign: number): PingReport => ({
    from,
    to,
    sent: 3,
    received,
    median_ms: 0.5,
    lostByDesign,
    ok: received + lostByDesign === 3,
    error: null,
  });
  const text = formatPings(["a", "b"], [ping("a", "b", 2, 1), ping("b", "a", 1, 1)]);
  assert.match(text, /^a +· +0\.50 ms \(1 lost, as generation 1 does\)$/m);
  assert.match(text, /^b +0\.50 ms \(2 lost\) +·$/m);
});

test("the closing sentence does not pass over what was lost by design", () => {
  const ping = {
    from: "a",
    to: "b",
    sent: 3,
    received: 2,
    median_ms: 1,
    lostByDesign: 1,
    ok: true,
    error: null,
  };
  const fine = { ...ping, received: 3, lostByDesign: 0 };
  assert.equal(
    formatSuccess({ pings: [fine], transfers: [] }),
    "All 1 pings and 0 transfers arrived.",
  );
  assert.equal(
    formatSuccess({ pings: [ping, ping], transfers: [] }),
    "All 2 pings and 0 transfers arrived, except for 2 first packets, which generation 1 loses.",
  );
});
