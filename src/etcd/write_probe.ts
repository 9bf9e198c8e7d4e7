/**
 * Asks now and then whether etcd would take the node's writes: what it lets us watch it may refuse
 * to let us renew, and that is not to be noticed an hour before the lease ends.
 */
import { pause } from "../retry.ts";

export interface WriteProbeTimes {
  readonly writable_ms: number;
  /** While it would not. */
  readonly refused_ms: number;
}

export const WRITE_PROBE_TIMES: WriteProbeTimes = { writable_ms: 4 * 60_000, refused_ms: 15_000 };

/**
 * Probes until the signal is aborted; never rejects. What `probe` throws is for the caller to note.
 * `random` gives numbers in [0, 1): nodes that started together do not ask together.
 */
export async function probeWrites(
  probe: (signal: AbortSignal) => Promise<void>,
  times: WriteProbeTimes,
  random: () => number,
  signal: AbortSignal,
): Promise<void> {
  let wait_ms = times.writable_ms;
  while (true) {
    await pause(wait_ms * (0.75 + random() / 2), signal);
    if (signal.aborted) return;
    const isWritable = await probe(signal).then(() => true, () => false);
    wait_ms = isWritable ? times.writable_ms : times.refused_ms;
  }
}
