/** Programs that the benchmarks run in their namespaces: none outlives the benchmarks. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import type { Netns } from "../../ffi/netns.ts";
import { endProcess, spawnInNetns } from "../../src/demo/child.ts";

/** What is kept of what a program says. */
const OUTPUT_CHARACTERS_MAX = 4_000_000;
/** What setpriv(1) is told before the command. */
const END_WITH_PARENT = ["--pdeathsig", "KILL", "--"];

/** A program that ends with this one, even if this one is killed (prctl(PR_SET_PDEATHSIG)). */
export function spawnMortal(
  netns: Netns,
  command: string,
  args: readonly string[],
  stdio: ("ignore" | "pipe" | number)[],
): ChildProcess {
  return spawnInNetns(netns, "setpriv", [...END_WITH_PARENT, command, ...args], stdio);
}

/** Collects what a stream says, up to a bound. */
function collect(stream: NodeJS.ReadableStream | null): () => string {
  let text = "";
  stream?.setEncoding("utf8");
  stream?.on("data", (part: string) => {
    if (text.length < OUTPUT_CHARACTERS_MAX) text += part;
  });
  return () => text;
}

export interface RunOptions {
  readonly timeout_ms: number;
  readonly signal: AbortSignal;
}

export interface Output {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Waits for a program's end, and ends it if that takes too long or the signal says so. */
async function finish(child: ChildProcess, name: string, options: RunOptions): Promise<Output> {
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  const limit = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeout_ms)]);
  try {
    await once(child, "close", { signal: limit });
  } catch (error) {
    options.signal.throwIfAborted();
    if (!limit.aborted) throw error;
    throw new Error(`${name}: not done within ${options.timeout_ms / 1000} s`);
  } finally {
    await endProcess(child);
  }
  return { status: child.exitCode, stdout: stdout(), stderr: stderr() };
}

/**
 * Runs a program in a namespace to its end and gives what it said, whatever its exit status.
 * Rejects if it takes too long or the signal says so; it is ended then.
 */
export function runToEnd(
  netns: Netns,
  command: string,
  args: readonly string[],
  options: RunOptions,
): Promise<Output> {
  options.signal.throwIfAborted();
  const child = spawnMortal(netns, command, args, ["ignore", "pipe", "pipe"]);
  return finish(child, command, options);
}

/** The same in this process's own namespace, with `input` on its stdin. */
export function runWithInput(
  command: string,
  args: readonly string[],
  input: string,
  options: RunOptions,
): Promise<Output> {
  options.signal.throwIfAborted();
  const child = spawn("setpriv", [...END_WITH_PARENT, command, ...args]);
  // One that ended before it read everything says why on stderr.
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  return finish(child, command, options);
}

/**
 * Starts a program and resolves when a line it writes to stdout matches. The caller ends it
 * (`endProcess`). Rejects, with it ended, if it does not come to that in time.
 */
export async function startUntil(
  netns: Netns,
  command: string,
  args: readonly string[],
  isReady: RegExp,
  options: RunOptions,
): Promise<ChildProcess> {
  options.signal.throwIfAborted();
  const child = spawnMortal(netns, command, args, ["ignore", "pipe", "pipe"]);
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  const limit = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeout_ms)]);
  try {
    await new Promise<void>((resolve, reject) => {
      child.stdout!.on("data", () => isReady.test(stdout()) && resolve());
      child.once("error", reject);
      child.once("close", () => reject(new Error(`${command} ended: ${stderr() || stdout()}`)));
      limit.addEventListener("abort", () => reject(new Error(`${command}: not ready in time`)));
    });
    return child;
  } catch (error) {
    await endProcess(child);
    options.signal.throwIfAborted();
    throw error;
  }
}
