/** What a process says to the kernel about itself. */
import { check, libc } from "./libc.ts";

const PR_SET_PDEATHSIG = 1;
const SIGTERM = 15;

/**
 * Asks the kernel to end this process with SIGTERM when its parent is gone, and ends it at once if
 * the parent is no longer the process `parentPid`.
 */
export function endWithParent(parentPid: number): void {
  check(libc.prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)");
  // It may have ended before the kernel was asked.
  if (process.ppid !== parentPid) process.kill(process.pid, "SIGTERM");
}
