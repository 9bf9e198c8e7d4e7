import assert from "node:assert/strict";
import { test } from "node:test";
import { Pace } from "../../src/agent/pace.ts";

function spin(duration_ms: number): void {
  const end_ms = performance.now() + duration_ms;
  while (performance.now() < end_ms);
}

test("the first is done at once, a storm after it together, and not before its time", async () => {
  const runs: number[] = [];
  const done = Promise.withResolvers<void>();
  const pace = new Pace(() => {
    runs.push(performance.now());
    if (runs.length === 2) done.resolve();
    spin(10);
  });
  const start_ms = performance.now();
  for (let i = 0; i < 1000; i++) pace.run();
  assert.equal(runs.length, 1);
  await done.promise;
  assert.equal(runs.length, 2);
  assert.ok(runs[1]! - start_ms >= 99, `${runs[1]! - start_ms} ms`);
});

test("what costs nothing is never put off", () => {
  let count = 0;
  const pace = new Pace(() => count++);
  pace.run();
  const end_ms = performance.now() + 50;
  while (performance.now() < end_ms);
  pace.run();
  assert.equal(count, 2);
});

test("stopped, it does nothing more", async () => {
  let count = 0;
  const pace = new Pace(() => {
    count++;
    spin(2);
  });
  pace.run();
  pace.run();
  pace.stop();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(count, 1);
});
