import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { formatAgo, formatBytes, formatDuration, formatTime } from "../../src/cli/units.ts";
import { printable } from "../../src/printable.ts";
import type { LeaseView } from "../../src/api/views.ts";
import { leaseTable } from "../../src/cli/commands/leases.ts";
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

  test("a cell may have several lines; a value in parts is wrapped between them", () => {
    const columns = [{ title: "A" }, { title: ["N", "M"], align: "right" as const }];
    assert.equal(
      renderTable(columns, [[["a1", "a2"], "1"], ["b", ["2", "345"]], ["c", ""]]),
      "A     N\n      M\na1    1\na2\nb     2\n    345\nc\n",
    );
    const parts = ["x".repeat(40), "y".repeat(36), "z"];
    const text = `n  ${parts[0]},\n   ${parts[1]}, z\n`;
    assert.equal(renderPairs([["n", parts]]), text);
    assert.equal(renderPairs([["n", parts.join(", ")]]), `n  ${parts.join(", ")}\n`);
  });

  test("leases of two families fit a terminal of 80 columns", () => {
    const expiry_ms = 1_800_000_000_000;
    const lease: LeaseView = {
      key: "10.210.101.0-24&fd00:210:101::-64",
      subnets: ["10.210.101.0/24", "fd00:210:101::/64"],
      publicAddresses: ["198.51.100.201", "2001:db8:100::201"],
      backendType: "extension",
      backendData: {},
      expiry_ms,
    };
    const text = leaseTable([lease], expiry_ms - 86_340_000);
    assert.deepEqual(text.split("\n").filter((line) => line.length > 80), []);
    assert.match(
      text,
      /^10\.210\.101\.0\/24 +198\.51\.100\.201 +extension +2027-01-15 08:00:00Z$/m,
    );
    assert.match(text, /^fd00:210:101::\/64 +2001:db8:100::201 +\(23 h 59 min left\)$/m);
  });

  test("what others sent cannot drive the terminal", () => {
    assert.equal(printable("a\x1b[2Jb\r\nc\u009bd\u202e"), "a?[2Jb??c?d?");
    assert.equal(renderTable([{ title: "x" }], [["\x1b]0;t\x07"]]), "x\n?]0;t?\n");
  });
});
