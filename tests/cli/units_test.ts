import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { formatAgo, formatBytes, formatDuration, formatTime } from "../../src/cli/units.ts";
import { printable } from "../../src/printable.ts";
import { renderPairs, renderTable } from "../../src/cli/table.ts";

describe("units", () => {
  test("sizes", () => {
    for (
      const [bytes, text] of [
        [0, "0 B"],
        [999, "999 B"],
        [1023, "1023 B"],
        [1024, "1.0 KiB"],
        [1_500_000, "1.4 MiB"],
        [1024 ** 2 - 1, "1.0 MiB"],
        [1024 ** 3, "1.0 GiB"],
        [2 ** 60, "1024.0 PiB"],
      ] as const
    ) assert.equal(formatBytes(bytes), text);
  });

  test("durations", () => {
    for (
      const [ms, text] of [
        [-5, "0 s"],
        [999, "0 s"],
        [3_200, "3 s"],
        [60_000, "1 min"],
        [61_000, "1 min 1 s"],
        [3_600_000, "1 h"],
        [86_000_000, "23 h 53 min"],
        [86_400_000, "1 d"],
        [90_000_000, "1 d 1 h"],
      ] as const
    ) assert.equal(formatDuration(ms), text);
  });

  test("times", () => {
    assert.equal(formatTime(0), "1970-01-01 00:00:00Z");
    assert.equal(formatAgo(null, 5), "never");
    assert.equal(formatAgo(1_000, 4_500), "3 s ago");
  });
});

describe("tables", () => {
  test("columns are as wide as their widest cell", () => {
    const columns = [{ title: "A" }, { title: "LONG", align: "right" as const }, { title: "C" }];
    assert.equal(
      renderTable(columns, [["wide cell", "1", ""], ["é", "12345", "x"]]),
      "A           LONG  C\nwide cell      1\né          12345  x\n",
    );
    assert.equal(renderPairs([["a", "1"], ["long", null], ["bc", "2"]]), "a   1\nbc  2\n");
    assert.equal(renderPairs([]), "");
  });

  test("what others sent cannot drive the terminal", () => {
    assert.equal(printable("a\x1b[2Jb\r\nc\u009bd\u202e"), "a?[2Jb??c?d?");
    assert.equal(renderTable([{ title: "x" }], [["\x1b]0;t\x07"]]), "x\n?]0;t?\n");
  });
});
