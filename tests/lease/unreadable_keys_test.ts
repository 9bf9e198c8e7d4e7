import { configure, type LogRecord, reset } from "@logtape/logtape";
import assert from "node:assert/strict";
import { test } from "node:test";
import { UnreadableKeys } from "../../src/lease/unreadable_keys.ts";

test("a key that cannot be read is named once, by the log of its store, and counted", async () => {
  const lines: string[] = [];
  const sink = ({ category, message }: LogRecord) =>
    lines.push(`${category.at(-1)}: ${message.map(String).join("")}`);
  await configure({
    sinks: { sink },
    loggers: [{ category: ["selvage"], sinks: ["sink"], lowestLevel: "info" }],
    reset: true,
  });
  try {
    const keys = new UnreadableKeys("registry");
    const why = new Error("not a prefix");
    keys.add("10.5.1.0", why);
    keys.add("10.5.1.0", why);
    keys.replace(new Map([["10.5.1.0", why], ["10.5.2.0", why]]));
    assert.equal(keys.count, 2);
    assert.deepEqual(lines, [
      'registry: key "10.5.1.0" is left out: not a prefix',
      'registry: key "10.5.2.0" is left out: not a prefix',
    ]);
    keys.delete("10.5.1.0");
    assert.equal(keys.count, 1);
    for (let i = 3; i < 99; i++) keys.add(`10.5.${i}.0${"0".repeat(1000)}`, why);
    assert.deepEqual(keys.shown[0], { key: "10.5.2.0", reason: "not a prefix" });
    assert.equal(keys.shown.length, 5);
    assert.ok(JSON.stringify(keys.shown).length < 2000);
  } finally {
    await reset();
  }
});
