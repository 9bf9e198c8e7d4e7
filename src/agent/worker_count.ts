/** How many pairs of packet loops a tunnel gets. */

/** The data plane has room for no more. */
export const WORKER_COUNT_MAX = 8;

/** Up to here one pair, and the kernel's own work, are all that the cores can do. */
const ONE_PAIR_CORES_MAX = 3;

/** `--workers` as a number: `auto` is one pair on up to three cores, else one for each two. */
export function workerCount(wanted: "auto" | number, coreCount: number): number {
  if (wanted !== "auto") return wanted;
  if (coreCount <= ONE_PAIR_CORES_MAX) return 1;
  return Math.min(Math.floor(coreCount / 2), WORKER_COUNT_MAX);
}
