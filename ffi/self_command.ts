/** How to start this very program again. */
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
