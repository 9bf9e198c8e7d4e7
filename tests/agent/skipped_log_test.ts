import assert from "node:assert/strict";
import { test } from "node:test";
import { SkippedLog } from "../../src/agent/skipped_log.ts";

function recorded() {
  const lines: string[] = [];
  const log = new SkippedLog((level, text) => lines.push(`${level}: ${text}`));
  return { log, take: () => lines.splice(0) };
}

test("a peer is told when it begins to be left out, for another reason, and when it ends", () => {
  const { log, take } = recorded();
  const peer = { key: "10.5.1.0-24", reason: "its VNI is 2, ours is 1" };
  log.tell([]);
  log.tell([peer]);
  assert.deepEqual(take(), ["warning: peer 10.5.1.0-24 is left out: its VNI is 2, ours is 1"]);
  log.tell([{ ...peer }]);
  assert.deepEqual(take(), [], "once");
  log.tell([{ ...peer, reason: "its subnet overlaps ours" }]);
  assert.deepEqual(take(), ["warning: peer 10.5.1.0-24 is left out: its subnet overlaps ours"]);
  log.tell([]);
  assert.deepEqual(take(), ["info: peer 10.5.1.0-24 is no longer left out"]);
  log.tell([peer]);
  assert.equal(take().length, 1, "and again when it begins again");
});

test("of very many some are named", () => {
  const { log, take } = recorded();
  const peers = Array.from({ length: 1000 }, (_, i) => ({ key: `key ${i}`, reason: "why" }));
  log.tell(peers);
  const begun = take();
  assert.equal(begun.length, 21);
  assert.equal(begun.at(-1), "warning: 980 more peers are left out");
  log.tell([]);
  const ended = take();
  assert.equal(ended.length, 21);
  assert.equal(ended.at(-1), "info: 980 more peers are no longer left out");
});
