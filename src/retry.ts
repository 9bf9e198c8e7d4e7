/** Waiting and trying again. */

/** Resolves after `delay_ms`, or as soon as the signal is aborted. */
export function pause(delay_ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const finish = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, delay_ms);
    signal.addEventListener("abort", finish, { once: true });
  });
}

/** Delays that double from `first_ms` to `max_ms`, each spread over its upper half. */
export class Backoff {
  #next_ms: number;

  constructor(readonly first_ms: number, readonly max_ms: number) {
    this.#next_ms = first_ms;
  }

  next_ms(): number {
    const delay_ms = this.#next_ms;
    this.#next_ms = Math.min(delay_ms * 2, this.max_ms);
    return delay_ms * (0.5 + Math.random() / 2);
  }

  reset(): void {
    this.#next_ms = this.first_ms;
  }
}

/** Has something tried again by and by, for as long as something is left to do. */
export class Retry {
  readonly #work: () => void;
  readonly #backoff: Backoff;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #left = "";

  /** `work` must not throw; it tells `settle` what came of it. */
  constructor(work: () => void, first_ms: number, max_ms: number) {
    this.#work = work;
    this.#backoff = new Backoff(first_ms, max_ms);
  }

  /**
   * Says what is left to do after a try, in any words; nothing if empty. The delays grow while it
   * is the same: what has lasted for long does not keep something new waiting.
   */
  settle(left: string): void {
    this.stop();
    if (left !== this.#left) this.#backoff.reset();
    this.#left = left;
    if (left !== "") this.#timer = setTimeout(this.#work, this.#backoff.next_ms());
  }

  /** Forgets what was to be tried again. */
  stop(): void {
    clearTimeout(this.#timer);
  }
}
