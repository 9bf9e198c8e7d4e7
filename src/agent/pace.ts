/** Work whose cost grows with the network, asked for at each of its changes. */

/** At most one part in so many of the time is spent on the work. */
const SHARE = 10;
/** Unless asked for otherwise. */
const WAIT_MAX_MS = 1_000;

/**
 * Runs the work at once when it was idle for long enough, measured by what the last run took, and
 * else later, once for all who asked meanwhile: a storm of changes costs a tenth of a processor.
 */
export class Pace {
  readonly #work: () => void;
  readonly #waitMax_ms: number;
  #timer: ReturnType<typeof setTimeout> | null = null;
  #next_ms = 0;

  /** `work` must not throw; it is put off by `waitMax_ms` at most. */
  constructor(work: () => void, waitMax_ms = WAIT_MAX_MS) {
    this.#work = work;
    this.#waitMax_ms = waitMax_ms;
  }

  run(): void {
    if (this.#timer !== null) return;
    const wait_ms = this.#next_ms - performance.now();
    if (wait_ms <= 0) return this.#runNow();
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#runNow();
    }, wait_ms);
  }

  #runNow(): void {
    const start_ms = performance.now();
    this.#work();
    const end_ms = performance.now();
    this.#next_ms = end_ms + Math.min((end_ms - start_ms) * (SHARE - 1), this.#waitMax_ms);
  }

  /** Forgets what was asked for and not yet done. */
  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
