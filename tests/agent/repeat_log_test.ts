import assert from "node:assert/strict";
import { test } from "node:test";
import { RepeatLog } from "../../src/agent/repeat_log.ts";

test("what happens again and again is told at once, and then in sums", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const lines: string[] = [];
  const log = new RepeatLog((line) => lines.push(line), 10_000);
  for (let i = 0; i < 90; i++) log.tell("mended a");
  assert.deepEqual(lines.splice(0), ["mended a"]);
  log.tell("mended b");
  assert.deepEqual(lines.splice(0), ["mended b"]);
  context.mock.timers.tick(10_000);
  assert.deepEqual(lines.splice(0), ["89 more times, last: mended a"]);
  log.tell("mended b");
  context.mock.timers.tick(10_000);
  assert.deepEqual(lines.splice(0), ["once more, last: mended b"]);
  context.mock.timers.tick(10_000);
  log.tell("mended a");
  assert.deepEqual(lines.splice(0), ["mended a"]);
  for (let i = 0; i < 100; i++) log.tell(`mended ${i}`);
  assert.equal(lines.splice(0).length, 4);
  log.stop();
  assert.deepEqual(lines, ["96 more times, last: mended 99"]);
});
