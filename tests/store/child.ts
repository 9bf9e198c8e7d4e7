/** Child processes that run a module of the tests under the runtime that runs the tests. */
import { type ChildProcessByStdio, spawn } from "node:child_process";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

export type Child = ChildProcessByStdio<null, Readable, null>;

/** Starts the module at this URL; its stderr is ours. The caller ends it. */
export function spawnModule(url: URL, args: readonly string[]): Child {
  const run = "deno" in process.versions ? ["run", "-A"] : [];
  return spawn(process.execPath, [...run, fileURLToPath(url), ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}
