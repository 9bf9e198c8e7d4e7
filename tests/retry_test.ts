import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff, pause, Retry } from "../src/retry.ts";

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

test("what is left is tried again until nothing is; what is new waits less", async () => {
  const tries: number[] = [];
  const done = Promise.withResolvers<void>();
  const start_ms = performance.now();
  const retry = new Retry(
    () => {
      tries.push(performance.now());
      if (tries.length < 5) retry.settle("it lasts");
      else if (tries.length === 5) retry.settle("it lasts\nnew");
      else {
        retry.settle("");
        done.resolve();
      }
    },
    10,
    10_000,
  );
  retry.settle("it lasts");
  await done.promise;
  const pauses_ms = tries.map((time_ms, i) => time_ms - (tries[i - 1] ?? start_ms));
  assert.ok(pauses_ms[4]! >= 79, `${pauses_ms}`);
  assert.ok(pauses_ms[5]! < 79, `${pauses_ms}`);
  retry.settle("more");
  retry.stop();
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(tries.length, 6);
});
