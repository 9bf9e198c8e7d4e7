import assert from "node:assert/strict";
import { mock, test } from "node:test";
import { Settling } from "../../src/agent/settling.ts";

test("memory is given back after the start and after many changes, once for all of them", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  try {
    let count = 0;
    const settling = new Settling(() => count++);
    settling.begin();
    settling.begin();
    mock.timers.tick(4_999);
    assert.equal(count, 0);
    mock.timers.tick(1);
    assert.equal(count, 1);
    for (let i = 0; i < 99; i++) settling.count(1);
    mock.timers.tick(60_000);
    assert.equal(count, 1, "99 changes are not worth it");
    settling.count(1);
    settling.count(5_000);
    mock.timers.tick(5_000);
    assert.equal(count, 2);
    mock.timers.tick(60_000);
    assert.equal(count, 2);
  } finally {
    mock.timers.reset();
  }
});
