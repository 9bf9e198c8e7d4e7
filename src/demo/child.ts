/** Processes of the demo: started inside a namespace, ended without fail. */
import { type ChildProcess, spawn, type StdioOptions } from "node:child_process";
import { once } from "node:events";
import { END_WITH_PARENT } from "../agent/options.ts";
import { type Netns, withNetns } from "../../ffi/netns.ts";

const TERM_TIMEOUT_MS = 5_000;

/**
 * Starts a process whose network is the namespace's, from its first instruction on. If it is one of
 * ours, it ends with this process, however this one ends.
 */
export function spawnInNetns(
  netns: Netns,
  command: string,
  args: readonly string[],
  stdio: StdioOptions,
  env: Readonly<Record<string, string | undefined>> = {},
): ChildProcess {
  const all = { ...process.env, [END_WITH_PARENT]: String(process.pid), ...env };
  return withNetns(netns, () => spawn(command, args, { stdio, env: all }));
}

/** Asks a process to end, and ends it if it does not in time. Resolves when it is gone. */
export async function endProcess(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const gone = once(child, "exit");
  try {
    // Not child.kill(): Deno takes a child for ended by that signal even when it ended by itself.
    process.kill(child.pid, "SIGTERM");
  } catch {
    // It has ended a moment ago; the event is on its way.
  }
  const timer = setTimeout(() => child.kill("SIGKILL"), TERM_TIMEOUT_MS);
  await gone;
  clearTimeout(timer);
}
