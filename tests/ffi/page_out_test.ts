import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { pageOutFiles } from "../../ffi/page_out.ts";

function residentFiles_kb(): number {
  const match = /^RssFile:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"));
  return Number(match![1]);
}

test("pages of files are given back, and what runs goes on running", () => {
  const before = residentFiles_kb();
  pageOutFiles();
  const after = residentFiles_kb();
  assert.ok(after < before, `${before} kB before, ${after} kB after`);
  assert.equal(JSON.stringify({ still: [1, 2, 3] }), '{"still":[1,2,3]}');
});
