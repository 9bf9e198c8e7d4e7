/** A report with made-up numbers, for the tests of what is drawn from it. */
import { emptyResult, type MeasureId, type PathResult, type Report } from "./results.ts";

/** A path with these samples; its title is its name in capitals unless given. */
export function samplePath(
  id: string,
  samples: Partial<Record<MeasureId, number[]>>,
  title = id.toUpperCase(),
): PathResult {
  const empty = emptyResult({ id, title, note: `how ${id} is set up` });
  return { ...empty, samples: { ...empty.samples, ...samples } };
}

export function sampleReport(changes: Partial<Report> = {}): Report {
  return {
    date: "2026-01-31",
    version: "1.2.3",
    machine: { coreCount: 2, processor: "Some Processor", kernel: "6.18", memory_GiB: 24 },
    rounds: 5,
    duration_s: 3,
    paths: [
      samplePath("kernel-vxlan", { tcp1: [9, 10, 11], latencyP50: [40] }, "kernel VXLAN"),
      samplePath("udp", { tcp1: [7, 8, 6], latencyP50: [60] }, "Selvage udp"),
    ],
    leftOut: [],
    figures: [],
    ...changes,
  };
}
