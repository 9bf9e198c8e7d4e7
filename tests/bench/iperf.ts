/** Throughput by iperf3, from the first container to the second, counted where it arrives. */
import { endProcess } from "../../src/demo/child.ts";
import { runToEnd, startUntil } from "./children.ts";
import type { RunningPath } from "./paths/path.ts";

const START_TIMEOUT_MS = 10_000;
/** Connecting and the exchange of results, on a path that is full. */
const EXTRA_TIME_MS = 20_000;

export type Load =
  | { readonly kind: "tcp"; readonly streams: number }
  | { readonly kind: "udp"; readonly datagram_bytes: number };

export interface Throughput {
  readonly received_bytes: number;
  readonly sent_bytes: number;
  readonly duration_s: number;
}

/** Reads the client's JSON. Throws what iperf3 complained of, or that nothing arrived. */
export function parseIperf(text: string): Throughput {
  const result = JSON.parse(text) as {
    error?: string;
    end?: Partial<Record<"sum_received" | "sum_sent", { bytes?: number; seconds?: number }>>;
  };
  if (result.error !== undefined) throw new Error(`iperf3: ${result.error}`);
  const { bytes, seconds } = result.end?.sum_received ?? {};
  if (bytes === undefined || seconds === undefined) {
    throw new Error("iperf3 did not say what was received");
  }
  if (bytes === 0 || seconds === 0) throw new Error("iperf3: nothing arrived");
  const sent_bytes = result.end?.sum_sent?.bytes ?? 0;
  return { received_bytes: bytes, sent_bytes, duration_s: seconds };
}

/** What iperf3's client is told: as much as goes. */
export function iperfArguments(load: Load, address: string, duration_s: number): string[] {
  const common = ["--client", address, "--json", "--time", String(duration_s)];
  if (load.kind === "tcp") return [...common, "--parallel", String(load.streams)];
  return [...common, "--udp", "--bitrate", "0", "--length", String(load.datagram_bytes)];
}

/** Runs one test. Rejects if it fails or does not end in time; nothing of it is left then. */
export async function runIperf(
  path: RunningPath,
  load: Load,
  duration_s: number,
  signal: AbortSignal,
): Promise<Throughput> {
  const [from, to] = [path.hosts[0]!.container, path.hosts[1]!.container];
  const listen = ["--server", "--one-off", "--forceflush"];
  const start = { timeout_ms: START_TIMEOUT_MS, signal };
  const server = await startUntil(to, "iperf3", listen, /Server listening/, start);
  try {
    const args = iperfArguments(load, path.containers[1]!.toString(), duration_s);
    const timeout_ms = duration_s * 1000 + EXTRA_TIME_MS;
    const { stdout, stderr } = await runToEnd(from, "iperf3", args, { timeout_ms, signal });
    if (stdout === "") throw new Error(`iperf3: ${stderr.trim()}`);
    return parseIperf(stdout);
  } finally {
    await endProcess(server);
  }
}
