/** Processes in the benchmarks' own namespaces: what they use, and their end. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { Netns } from "../../ffi/netns.ts";
import { setTimeout as pause } from "node:timers/promises";

/** USER_HZ: `/proc` counts time in hundredths of a second on every architecture that Linux has. */
const TICKS_PER_SECOND = 100;
const TERM_TIMEOUT_MS = 3_000;
const POLL_MS = 20;

/** Reads of a process that may have ended; null then. */
function readOrNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch {
    return null;
  }
}

/**
 * The processes whose network is one of these namespaces. The benchmarks made the namespaces, so
 * all that is in them was started by the benchmarks, directly or not.
 */
export function processesIn(...namespaces: readonly Netns[]): number[] {
  const names = new Set(namespaces.map(({ fd }) => readlinkSync(`/proc/self/fd/${fd}`)));
  return readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number).filter((pid) => {
    const name = readOrNull(() => readlinkSync(`/proc/${pid}/ns/net`));
    return name !== null && names.has(name);
  });
}

/** User and system time from the text of `/proc/PID/stat` (proc(5)), in seconds. */
export function parseProcessTime_s(stat: string): number {
  // The second field is the program's name in parentheses, and may hold anything.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Processor time used so far by these processes, in seconds; ended ones count nothing. */
export function processTime_s(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    const stat = readOrNull(() => readFileSync(`/proc/${pid}/stat`, "utf8"));
    return sum + (stat === null ? 0 : parseProcessTime_s(stat));
  }, 0);
}

/**
 * The time that all processors together were busy, from the text of `/proc/stat`, in seconds:
 * everything but idle, waiting for disks, and what the hypervisor took for others.
 */
export function parseMachineTime_s(stat: string): number {
  const line = /^cpu +(.*)$/m.exec(stat)?.[1] ?? "";
  const [user, nice, system, _idle, _iowait, irq, softirq] = line.split(" ").map(Number);
  return (user! + nice! + system! + irq! + softirq!) / TICKS_PER_SECOND;
}

export function machineTime_s(): number {
  return parseMachineTime_s(readFileSync("/proc/stat", "utf8"));
}

/** Fields of `/proc/PID/status`: resident, the most there ever was, and what a file backs. */
export type MemoryField = "VmRSS" | "VmHWM" | "RssFile";

/** Memory summed over processes, in MB (10^6 bytes). */
export function memory_MB(pids: readonly number[], field: MemoryField): number {
  return pids.reduce((sum, pid) => {
    const status = readOrNull(() => readFileSync(`/proc/${pid}/status`, "utf8")) ?? "";
    const kib = new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(status)?.[1];
    return sum + Number(kib ?? 0) * 1024 / 1e6;
  }, 0);
}

/** Samples of these fields, one a second for `count` seconds, by field in the order given. */
export async function sampleMemory_MB(
  pids: readonly number[],
  fields: readonly MemoryField[],
  count: number,
  signal: AbortSignal,
): Promise<number[][]> {
  const samples = fields.map((): number[] => []);
  for (let second = 0; second < count; second++) {
    await pause(1_000, undefined, { signal });
    fields.forEach((field, i) => samples[i]!.push(memory_MB(pids, field)));
  }
  return samples;
}

function signalAll(namespaces: readonly Netns[], signal: "SIGTERM" | "SIGKILL"): number {
  const pids = processesIn(...namespaces).filter((pid) => pid !== process.pid);
  for (const pid of pids) readOrNull(() => process.kill(pid, signal));
  return pids.length;
}

/** Ends whatever still runs in the namespaces; resolves when nothing does. */
export async function endProcessesIn(...namespaces: readonly Netns[]): Promise<void> {
  let count = signalAll(namespaces, "SIGTERM");
  const end_ms = performance.now() + TERM_TIMEOUT_MS;
  while (count > 0) {
    await pause(POLL_MS);
    const isLate = performance.now() > end_ms;
    count = isLate ? signalAll(namespaces, "SIGKILL") : processesIn(...namespaces).length;
  }
}
