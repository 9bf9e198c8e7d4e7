/** What the results come from, told without a name that would say whose machine it is. */
import { readFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import type { Machine } from "./results.ts";

export function describeMachine(): Machine {
  const model = /^model name\s*:\s*(.+)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1];
  return {
    coreCount: cpus().length,
    processor: model ?? process.arch,
    // What follows the version proper names who built it.
    kernel: /^\d+(\.\d+)*/.exec(release())?.[0] ?? release(),
    memory_GiB: Math.round(totalmem() / 2 ** 30),
  };
}
