import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { LinkedSignal } from "../../src/net/linked_signal.ts";

describe("a linked signal", () => {
  test("follows the first, until it is let go", () => {
    const [one, two] = [new AbortController(), new AbortController()];
    const link = new LinkedSignal([one.signal, undefined, two.signal]);
    const free = new LinkedSignal([one.signal]);
    free.dispose();
    two.abort("two");
    one.abort("one");
    assert.equal(link.signal.reason, "two");
    assert.equal(free.signal.aborted, false);
    assert.equal(new LinkedSignal([one.signal]).signal.reason, "one");
  });

  test("is aborted at its deadline", async () => {
    const link = new LinkedSignal([]);
    const aborted = new Promise((resolve) => link.signal.addEventListener("abort", resolve));
    link.setDeadline(1, "late");
    await aborted;
    assert.equal(link.signal.reason, "late");
  });
});
