/** Giving back memory that only the start needed, or a storm of changes. */
import { readFileSync, readlinkSync } from "node:fs";
import { libc } from "./libc.ts";

/** `asm-generic/mman-common.h`, since Linux 5.4. Nothing is lost: what is used comes back. */
const MADV_PAGEOUT = 21;

/** `asm-generic/mman-common.h`. Of a file's pages that nobody wrote to, only the mapping goes. */
const MADV_DONTNEED = 4;

/** A mapping of a file in `/proc/self/maps`: addresses, rights, offset, device, inode, path. */
const FILE_MAPPING = /^([0-9a-f]+)-([0-9a-f]+) (r[w-][x-])p \S+ \S+ [1-9]\d* +(\/.*)$/;

/** What of Bun's global is used here. */
interface Collector {
  gc(isNow: boolean): void;
  /** Drops all compiled code too, which is compiled again where it is still called. */
  shrink(): void;
}

interface Mapping {
  readonly address: number;
  readonly size_bytes: number;
  /** As the kernel writes them: `r-x`. */
  readonly rights: string;
  readonly path: string;
}

/** A line of `/proc/self/maps`, if it is of a file. */
function toMapping(line: string): Mapping | null {
  const match = FILE_MAPPING.exec(line);
  if (match === null) return null;
  const [start, end] = [parseInt(match[1]!, 16), parseInt(match[2]!, 16)];
  return { address: start, size_bytes: end - start, rights: match[3]!, path: match[4]! };
}

/** What of files is mapped now. */
function fileMappings(): Mapping[] {
  const lines = readFileSync("/proc/self/maps", "latin1").split("\n");
  return lines.map(toMapping).filter((mapping) => mapping !== null);
}

/**
 * Collects all garbage, compiled code included, and gives the memory back to the system. The shared
 * memory of the packet loops counts as the heap's, whose collector therefore waits for as much
 * garbage again. Only where the runtime lets itself be asked: Bun.
 */
export function collectGarbage(): void {
  const { Bun } = globalThis as { Bun?: Collector };
  Bun?.gc(true);
  Bun?.shrink();
}

/**
 * Asks the kernel to take back the pages of the executable and its libraries: most of what a start
 * reads of them is never read again. A kernel that does not know the request does nothing.
 */
export function pageOutFiles(): void {
  for (const { address, size_bytes } of fileMappings()) {
    libc.madvise(address, size_bytes, MADV_PAGEOUT);
  }
}

/**
 * What of the executable nobody can write to and nobody wrote to: code and constants. They stay
 * where they are for as long as the process lives.
 */
let cleanMappings: readonly Mapping[] | null = null;

/** Reads them; a private page, as the linker makes of what it relocates, shows as `Anonymous`. */
function findCleanMappings(): Mapping[] {
  const path = readlinkSync("/proc/self/exe");
  const entries = readFileSync("/proc/self/smaps", "latin1").split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  return entries.flatMap((entry) => {
    const mapping = toMapping(entry.slice(0, entry.indexOf("\n")));
    const isClean = mapping?.path === path && !mapping.rights.includes("w") &&
      /^Anonymous: +0 kB$/m.test(entry);
    return isClean ? [mapping] : [];
  });
}

/**
 * Takes the executable's code out of the process's page table. The file cache keeps it, so what is
 * called next comes back without a read, and what is not called the kernel may use for others. Each
 * touched page brings the 15 around it along, so that a little work now and then maps megabytes.
 * It takes a millisecond at most, where `pageOutFiles` takes 25 and the files are read again.
 */
export function unmapCode(): void {
  cleanMappings ??= findCleanMappings();
  for (const { address, size_bytes } of cleanMappings) {
    libc.madvise(address, size_bytes, MADV_DONTNEED);
  }
}
