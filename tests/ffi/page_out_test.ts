import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { pathToFileURL } from "node:url";
import { selfCommand } from "../../ffi/self_command.ts";
import { unmapCode } from "../../ffi/page_out.ts";
import { residentFiles_kb } from "./resident_files.ts";

test("pages of files are given back, and what runs goes on running", () => {
  // The kernel keeps what another process has mapped too, as any other of the same runtime has: so
  // a child runs a copy. Not on tmpfs, whose pages count as shared memory.
  mkdirSync("dist", { recursive: true });
  const directory = mkdtempSync(join("dist", "page-out-"));
  try {
    const child = pathToFileURL("tests/ffi/page_out_child.ts").href;
    const { command, args } = selfCommand(child);
    const copy = join(directory, "runtime");
    copyFileSync(command, copy);
    const { stdout, stderr } = spawnSync(copy, args, { encoding: "utf8" });
    assert.match(stdout, /^\[/, stderr);
    const [before, after] = JSON.parse(stdout) as [number, number];
    assert.ok(after < before / 2, `${before} kB before, ${after} kB after`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
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
