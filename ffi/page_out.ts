/** Giving back memory that only the start needed, or a storm of changes. */
import { readFileSync } from "node:fs";
import { libc } from "./libc.ts";

/** `asm-generic/mman-common.h`, since Linux 5.4. Nothing is lost: what is used comes back. */
const MADV_PAGEOUT = 21;

/** A mapping of a file in `/proc/self/maps`: addresses, rights, offset, device, inode, path. */
const FILE_MAPPING = /^([0-9a-f]+)-([0-9a-f]+) r[w-][x-]p [0-9a-f]+ [0-9a-f:]+ [1-9]\d* +\//;

/** What of Bun's global is used here. */
interface Collector {
  gc(isNow: boolean): void;
}

/**
 * Collects all garbage and gives the freed memory back to the system. The shared memory of the
 * packet loops counts as the heap's, whose collector therefore waits for as much garbage again.
 * Only where the runtime lets itself be asked: Bun.
 */
export function collectGarbage(): void {
  const { Bun } = globalThis as { Bun?: Collector };
  Bun?.gc(true);
}

/**
 * Asks the kernel to take back the pages of the executable and its libraries: most of what a start
 * reads of them is never read again. A kernel that does not know the request does nothing.
 */
export function pageOutFiles(): void {
  for (const line of readFileSync("/proc/self/maps", "latin1").split("\n")) {
    const match = FILE_MAPPING.exec(line);
    if (match === null) continue;
    const [start, end] = [parseInt(match[1]!, 16), parseInt(match[2]!, 16)];
    libc.madvise(start, end - start, MADV_PAGEOUT);
  }
}
