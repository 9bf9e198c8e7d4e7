import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff, pause } from "../src/retry.ts";

test("a back-off doubles up to its bound, spread over the upper half, and starts anew", () => {
  const backoff = new Backoff(100, 1000);
  for (const expected of [100, 200, 400, 800, 1000, 1000]) {
    const delay_ms = backoff.next_ms();
    assert.ok(delay_ms >= expected / 2 && delay_ms <= expected, `${delay_ms} for ${expected}`);
  }
  backoff.reset();
  assert.ok(backoff.next_ms() <= 100);
});

test("a pause ends with its signal, at once if that was aborted before", async () => {
  const ending = new AbortController();
  const start_ms = performance.now();
  const paused = pause(60_000, ending.signal);
  ending.abort();
  await paused;
  await pause(60_000, ending.signal);
  assert.ok(performance.now() - start_ms < 10_000);
});

test("a pause lasts its time", async () => {
  const start_ms = performance.now();
  await pause(30, new AbortController().signal);
  assert.ok(performance.now() - start_ms >= 29);
});
