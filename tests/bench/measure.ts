/** One round on one path: every measure once. */
import { errorText } from "../../src/errors.ts";
import { untilAnswered } from "./answer.ts";
import { type Load, runIperf } from "./iperf.ts";
import { measureLatency } from "./latency.ts";
import type { RunningPath } from "./paths/path.ts";
import { machineTime_s, memory_MB, processesIn, processTime_s } from "./processes.ts";
import { type MeasureId, MEASURES, type PathResult } from "./results.ts";
import { formatNumber } from "./statistics.ts";

const LATENCY_COUNT = 5_000;
const QUICK_LATENCY_COUNT = 500;

const ANSWER_TIMEOUT_S = 3;

type LoadId = "tcp1" | "tcp4" | "udp64" | "udp1400";

const LOADS: readonly { readonly id: LoadId; readonly load: Load }[] = [
  { id: "tcp1", load: { kind: "tcp", streams: 1 } },
  { id: "tcp4", load: { kind: "tcp", streams: 4 } },
  { id: "udp64", load: { kind: "udp", datagram_bytes: 64 } },
  { id: "udp1400", load: { kind: "udp", datagram_bytes: 1400 } },
];

export interface RoundOptions {
  /** From 1. */
  readonly round: number;
  /** Of each throughput test. */
  readonly duration_s: number;
  readonly isQuick: boolean;
  readonly signal: AbortSignal;
  /** Is told every value as it comes. */
  readonly say: (text: string) => void;
}

type Values = Partial<Record<MeasureId, number>>;

/** A throughput; with one TCP stream also what it cost the processors. */
async function runLoad(
  path: RunningPath,
  id: LoadId,
  load: Load,
  options: RoundOptions,
): Promise<Values> {
  const daemons = processesIn(...path.hosts.map(({ host }) => host));
  const machineBefore_s = machineTime_s();
  const daemonsBefore_s = processTime_s(daemons);
  const result = await runIperf(path, load, options.duration_s, options.signal);
  const machine_s = machineTime_s() - machineBefore_s;
  const daemons_s = processTime_s(daemons) - daemonsBefore_s;
  const { received_bytes, sent_bytes, duration_s } = result;
  if (load.kind === "udp") {
    const rate = (bytes: number) => bytes / load.datagram_bytes / duration_s / 1000;
    return { [id]: rate(received_bytes), [`${id}Sent`]: rate(sent_bytes) };
  }
  const rate: Values = { [id]: received_bytes * 8 / duration_s / 1e9 };
  if (load.streams > 1) return rate;
  const received_GB = received_bytes / 1e9;
  const machineCpu = machine_s / received_GB;
  if (daemons.length === 0) return { ...rate, machineCpu };
  return { ...rate, machineCpu, daemonCpu: daemons_s / received_GB };
}

async function runLatency(path: RunningPath, options: RoundOptions): Promise<Values> {
  const count = options.isQuick ? QUICK_LATENCY_COUNT : LATENCY_COUNT;
  const { p50_us, p99_us } = await measureLatency(path, count, options.signal);
  return { latencyP50: p50_us, latencyP99: p99_us, ...memoryOf(path) };
}

/** Of the second host's daemon, which only carries packets; nothing where the kernel does. */
function memoryOf(path: RunningPath): Values {
  const pids = processesIn(path.hosts[1]!.host);
  return pids.length === 0 ? {} : { memory: memory_MB(pids, "VmRSS") };
}

function formatValues(values: Values): string {
  return MEASURES.flatMap(({ id, title, unit }) => {
    const value = values[id];
    return value === undefined ? [] : [`${title} ${formatNumber(value)} ${unit}`];
  }).join(", ");
}

/** Measures everything once. A measure that fails is noted, and the round goes on. */
export async function measureRound(
  path: RunningPath,
  result: PathResult,
  options: RoundOptions,
): Promise<void> {
  const works: [name: string, work: () => Promise<Values>][] = [
    ...LOADS.map(({ id, load }): [string, () => Promise<Values>] => [
      id,
      () => runLoad(path, id, load, options),
    ]),
    ["latency", () => runLatency(path, options)],
  ];
  for (const [name, work] of works) {
    options.signal.throwIfAborted();
    try {
      // What is dead fails here and not in each load's own long time limit.
      await untilAnswered(path, ANSWER_TIMEOUT_S, options.signal);
      const values = await work();
      for (const [id, value] of Object.entries(values) as [MeasureId, number][]) {
        result.samples[id].push(value);
      }
      options.say(formatValues(values));
    } catch (error) {
      options.signal.throwIfAborted();
      result.failures.push(`round ${options.round}, ${name}: ${errorText(error)}`);
      options.say(`${name} failed: ${errorText(error)}`);
    }
  }
}
