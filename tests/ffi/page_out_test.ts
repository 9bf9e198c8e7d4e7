import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { pageOutFiles, unmapCode } from "../../ffi/page_out.ts";

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

test("the executable's code is unmapped, and what runs goes on running", () => {
  // Code that ran just now, so that there is some to unmap whatever ran before.
  JSON.parse(JSON.stringify({ some: ["work", 1.5, null] }));
  const before = residentFiles_kb();
  unmapCode();
  const after = residentFiles_kb();
  assert.ok(after < before, `${before} kB before, ${after} kB after`);
  // Once more, with the places known already.
  unmapCode();
  assert.equal(JSON.stringify({ still: [1, 2, 3] }), '{"still":[1,2,3]}');
});
