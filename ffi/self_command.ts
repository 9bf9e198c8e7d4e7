/** How this very program was started, and how to start it again. */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * The command, and the arguments that come before the program's own. `mainUrl` is the entry
 * module's `import.meta.url`, which inside a compiled executable names no file.
 */
export function selfCommand(mainUrl: string): { command: string; args: string[] } {
  if (mainUrl.startsWith("file:///$bunfs/")) return { command: process.execPath, args: [] };
  const main = fileURLToPath(mainUrl);
  return { command: process.execPath, args: "Bun" in globalThis ? [main] : ["run", "-A", main] };
}

/**
 * The last part of the name by which this program was called (`argv[0]`), a link's where it was
 * one. The runtimes' own `process.argv` does not have it.
 */
export function calledName(): string {
  return basename(readFileSync("/proc/self/cmdline", "utf8").split("\0", 1)[0]!);
}
