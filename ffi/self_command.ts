/** How this very program was started, and how to start it again. */
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { binding, cString, LIBRARY } from "./libc.ts";
import { EXEC_SYMBOLS } from "./symbols.ts";

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
  return basename(readCommandLine()[0] ?? "");
}

/** All words by which this process was started, the runtime's own too; none without `/proc`. */
function readCommandLine(): string[] {
  try {
    return readFileSync("/proc/self/cmdline", "utf8").split("\0").slice(0, -1);
  } catch {
    return [];
  }
}

/** Texts as C has them: an array of addresses, a null last. The memory is that of both. */
function stringVector(texts: readonly string[]) {
  const parts = texts.map(cString);
  // One block that the runtime does not move.
  const size_bytes = parts.reduce((sum, { length }) => sum + length, 0);
  const block = new Uint8Array(new ArrayBuffer(Math.max(size_bytes, 4096)));
  const addresses = new BigUint64Array(new ArrayBuffer(Math.max((parts.length + 1) * 8, 4096)));
  const start = BigInt(binding.addressOf(block));
  let offset = 0;
  for (const [i, part] of parts.entries()) {
    block.set(part, offset);
    addresses[i] = start + BigInt(offset);
    offset += part.length;
  }
  return { block, vector: new Uint8Array(addresses.buffer) };
}

/**
 * Becomes this program anew, in the same process, with `args` as its own arguments and `more` in
 * its environment (execve(2)). `typed` are the arguments of now. Returns only if that cannot be.
 */
export function startAnew(
  typed: readonly string[],
  args: readonly string[],
  more: Readonly<Record<string, string>>,
): void {
  const words = readCommandLine();
  const own = words.slice(words.length - typed.length);
  // Without /proc no other user can see the arguments.
  if (own.length < typed.length || own.some((word, i) => word !== typed[i])) return;
  const environment = Object.entries({ ...process.env, ...more })
    .flatMap(([name, value]) => value === undefined ? [] : [`${name}=${value}`]);
  const argv = stringVector([...words.slice(0, words.length - typed.length), ...args]);
  const envp = stringVector(environment);
  const { execve } = binding.load(LIBRARY, EXEC_SYMBOLS);
  execve(cString(process.execPath), argv.vector, envp.vector);
  // It failed. Until here the memory that the addresses lead to had to be kept.
  argv.block.fill(0);
  envp.block.fill(0);
}
