/** Whether a path carries anything at all: a ping from container to container. */
import { runToEnd } from "./children.ts";
import type { RunningPath } from "./paths/path.ts";

const EXTRA_TIME_MS = 5_000;

/** Resolves when the second container answers the first. Rejects if it does not in time. */
export async function untilAnswered(
  path: RunningPath,
  timeout_s: number,
  signal: AbortSignal,
): Promise<void> {
  const address = path.containers[1]!.toString();
  const args = ["-n", "-c", "1", "-w", String(timeout_s), "-i", "0.2", address];
  const limits = { timeout_ms: timeout_s * 1000 + EXTRA_TIME_MS, signal };
  const { status } = await runToEnd(path.hosts[0]!.container, "ping", args, limits);
  if (status !== 0) throw new Error(`no answer to a ping within ${timeout_s} s`);
}
