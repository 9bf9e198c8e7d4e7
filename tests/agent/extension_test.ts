/** The commands that the start waits for. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { runPreStartup } from "../../src/agent/extension.ts";
import type { ExtensionCommands } from "../../src/backend/backend.ts";

const NONE: ExtensionCommands = {
  preStartup: null,
  postStartup: null,
  shutdown: null,
  subnetAdd: null,
  subnetRemove: null,
};

test("PreStartupCommand that prints too much is told, and tried again", async () => {
  const directory = mkdtempSync(join(tmpdir(), "selvage-extension-"));
  try {
    const told: string[] = [];
    // The first time it says more than a lease holds.
    const preStartup = `if mkdir '${directory}/first'; then head -c 9000 /dev/zero | tr '\\0' x; ` +
      "else echo data; fi";
    const { signal } = new AbortController();
    const data = await runPreStartup({ ...NONE, preStartup }, signal, {
      onRun: (text) => told.push(text),
      onFailure: (reason) => told.push(reason),
    });
    assert.equal(data, "data");
    assert.deepEqual(told, [
      "PreStartupCommand is running",
      "PreStartupCommand printed more than 8192 characters",
    ]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
