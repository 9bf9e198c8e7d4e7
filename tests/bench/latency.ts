/** Request and response between the containers, one at a time, while nothing else flows. */
import { fileURLToPath } from "node:url";
import { endProcess } from "../../src/demo/child.ts";
import { runToEnd, startUntil } from "./children.ts";
import type { RunningPath } from "./paths/path.ts";
import { percentile } from "./statistics.ts";

const START_TIMEOUT_MS = 15_000;
const TIMEOUT_MS = 60_000;
/** More than this share unanswered, and the times say nothing. */
const LOST_SHARE_MAX = 0.01;
const CHILD = fileURLToPath(new URL("./latency_child.ts", import.meta.url));

export interface Latency {
  readonly p50_us: number;
  readonly p99_us: number;
}

/** Reads what the asking end printed. Throws if too much was lost. */
export function parseLatency(text: string): Latency {
  const { lost, times_us } = JSON.parse(text) as { lost: number; times_us: number[] };
  const [p50_us, p99_us] = [percentile(times_us, 0.5), percentile(times_us, 0.99)];
  const isLost = lost > LOST_SHARE_MAX * (lost + times_us.length);
  if (p50_us === null || p99_us === null || isLost) {
    throw new Error(`${lost} of ${lost + times_us.length} requests were not answered`);
  }
  return { p50_us, p99_us };
}

export async function measureLatency(
  path: RunningPath,
  count: number,
  signal: AbortSignal,
): Promise<Latency> {
  const [asking, answering] = path.containers.map(String) as [string, string];
  const [from, to] = [path.hosts[0]!.container, path.hosts[1]!.container];
  const child = (...args: string[]) => ["run", "-A", "--no-check", CHILD, ...args];
  const echo = await startUntil(
    to,
    process.execPath,
    child("echo", answering, asking),
    /ready/,
    { timeout_ms: START_TIMEOUT_MS, signal },
  );
  try {
    const args = child("ask", asking, answering, String(count));
    const limits = { timeout_ms: TIMEOUT_MS, signal };
    const { stdout, stderr } = await runToEnd(from, process.execPath, args, limits);
    if (stdout === "") throw new Error(`latency: ${stderr.trim()}`);
    return parseLatency(stdout);
  } finally {
    await endProcess(echo);
  }
}
