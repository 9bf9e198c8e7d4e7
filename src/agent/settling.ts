/** When it is worth giving memory back: not while it is in use, and not for a few bytes. */
import { unmapCode } from "../../ffi/page_out.ts";

/**
 * When after a little work (a sign of life, a look at the tables) its code is unmapped: as soon as
 * it is done, and when the runtime has collected what it left, which takes some seconds.
 */
const REST_MS = [1_000, 8_000];

/** When the start is over, or most of a storm, also in a network of thousands of hosts. */
const SETTLED_MS = 5_000;
/** How many changes of the leases leave so much garbage that looking for it is worth the while. */
const CHANGE_COUNT = 100;

/** Runs the work some time after the start, and after every hundred or more changes. */
export class Settling {
  readonly #work: () => void;
  #changeCount = 0;
  #isPending = false;

  /** `work` must not throw. */
  constructor(work: () => void) {
    this.#work = work;
  }

  /** Something is under way that leaves garbage behind. It keeps no process alive. */
  begin(): void {
    this.#changeCount = 0;
    if (this.#isPending) return;
    this.#isPending = true;
    setTimeout(() => {
      this.#isPending = false;
      this.#work();
    }, SETTLED_MS).unref();
  }

  /** The leases have changed in so many places. */
  count(changeCount: number): void {
    this.#changeCount += changeCount;
    if (this.#changeCount >= CHANGE_COUNT) this.begin();
  }
}

let restTimers: ReturnType<typeof setTimeout>[] = [];

/** A little was done. The code that it mapped is unmapped when nothing more follows. */
export function restSoon(): void {
  for (const timer of restTimers) clearTimeout(timer);
  restTimers = REST_MS.map((delay_ms) => setTimeout(unmapCode, delay_ms).unref());
}
