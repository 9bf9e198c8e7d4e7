/** What a process says to the kernel about itself. */
import { check, libc } from "./libc.ts";

const PR_SET_PDEATHSIG = 1;
const SIGTERM = 15;

/** Asks the kernel to end this process with SIGTERM when the one that started it is gone. */
export function endWithParent(): void {
  check(libc.prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)");
}
