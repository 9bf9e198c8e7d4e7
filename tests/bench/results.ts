/** What the benchmarks measure, and the report that tables, chart and JSON are drawn from. */
import { median } from "./statistics.ts";

/** One figure that every path has. */
export interface Measure {
  readonly id: MeasureId;
  readonly title: string;
  readonly unit: string;
  readonly isHigherBetter: boolean;
}

export type MeasureId =
  | "tcp1"
  | "tcp4"
  | "udp64"
  | "udp1400"
  | "udp64Sent"
  | "udp1400Sent"
  | "latencyP50"
  | "latencyP99"
  | "machineCpu"
  | "daemonCpu"
  | "memory";

/** What is shown. The rates at which datagrams were sent are in the JSON alone. */
export const MEASURES: readonly Measure[] = [
  { id: "tcp1", title: "TCP, 1 stream", unit: "Gbit/s", isHigherBetter: true },
  { id: "tcp4", title: "TCP, 4 streams", unit: "Gbit/s", isHigherBetter: true },
  { id: "udp64", title: "UDP, 64 bytes", unit: "1000/s", isHigherBetter: true },
  { id: "udp1400", title: "UDP, 1400 bytes", unit: "1000/s", isHigherBetter: true },
  { id: "latencyP50", title: "latency p50", unit: "µs", isHigherBetter: false },
  { id: "latencyP99", title: "latency p99", unit: "µs", isHigherBetter: false },
  { id: "machineCpu", title: "machine", unit: "s/GB", isHigherBetter: false },
  { id: "daemonCpu", title: "daemons", unit: "s/GB", isHigherBetter: false },
  { id: "memory", title: "memory", unit: "MB", isHigherBetter: false },
];

/** One path through all rounds; a round in which a measure failed has no value of it. */
export interface PathResult {
  readonly id: string;
  readonly title: string;
  /** How it was set up, where that matters. */
  readonly note: string;
  readonly samples: Readonly<Record<MeasureId, number[]>>;
  readonly failures: string[];
}

export interface LeftOut {
  readonly title: string;
  readonly reason: string;
}

/** A figure of its own, beside the paths. */
export interface Figure {
  readonly title: string;
  readonly unit: string;
  readonly values: readonly number[];
  /** What it must keep to, where something is required. */
  readonly goal?: Goal;
}

/** The median must be at most, or at least, this. */
export type Goal = { readonly max: number } | { readonly min: number };

export function isReached(goal: Goal, value: number): boolean {
  return "max" in goal ? value <= goal.max : value >= goal.min;
}

export interface Machine {
  readonly coreCount: number;
  readonly processor: string;
  readonly kernel: string;
  readonly memory_GiB: number;
}

export interface Report {
  /** The day, as 2026-01-31. */
  readonly date: string;
  readonly version: string;
  readonly machine: Machine;
  readonly rounds: number;
  readonly duration_s: number;
  readonly paths: readonly PathResult[];
  readonly leftOut: readonly LeftOut[];
  readonly figures: readonly Figure[];
}

/** The path that the others are compared with. */
export const REFERENCE_PATH = "kernel-vxlan";

export function emptyResult(path: { id: string; title: string; note: string }): PathResult {
  const ids = [...MEASURES.map(({ id }) => id), "udp64Sent", "udp1400Sent"];
  const samples = Object.fromEntries(ids.map((id) => [id, [] as number[]]));
  const { id, title, note } = path;
  return { id, title, note, samples: samples as Record<MeasureId, number[]>, failures: [] };
}

/** The median of a measure on a path; null if there is none. */
export function medianOf(report: Report, pathId: string, measure: MeasureId): number | null {
  const path = report.paths.find((one) => one.id === pathId);
  return path === undefined ? null : median(path.samples[measure]);
}

/**
 * The median of the quotients of two paths, round by round, so that what else the machine did in a
 * round meets both; of the medians where a round of either failed. null where there is nothing.
 */
export function pairedRatioOf(
  report: Report,
  pathId: string,
  measure: MeasureId,
  otherId: string,
): number | null {
  const samplesOf = (id: string) => report.paths.find((one) => one.id === id)?.samples[measure];
  const values = samplesOf(pathId) ?? [];
  const others = samplesOf(otherId) ?? [];
  const isWhole = values.length === others.length && others.every((other) => other !== 0);
  if (!isWhole) return ratioOf(report, pathId, measure, otherId);
  return median(values.map((value, round) => value / others[round]!));
}

/** The quotient of two paths' medians; null where either is missing or the divisor is 0. */
export function ratioOf(
  report: Report,
  pathId: string,
  measure: MeasureId,
  otherId = REFERENCE_PATH,
): number | null {
  const value = medianOf(report, pathId, measure);
  const other = medianOf(report, otherId, measure);
  return value === null || other === null || other === 0 ? null : value / other;
}
