/** A signal that is aborted with others, or at a deadline, until it is let go. */

/**
 * Follows other signals until `dispose`. `AbortSignal.any` would stay known, once for every call,
 * to a signal that lives as long as the daemon.
 */
export class LinkedSignal {
  readonly #controller = new AbortController();
  readonly #undo: (() => void)[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** It is aborted with the reason of the first of these that is. */
  constructor(signals: readonly (AbortSignal | undefined)[]) {
    for (const signal of signals) {
      if (signal === undefined) continue;
      const onAbort = () => this.#controller.abort(signal.reason);
      if (signal.aborted) onAbort();
      signal.addEventListener("abort", onAbort);
      this.#undo.push(() => signal.removeEventListener("abort", onAbort));
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Aborts it after so long, too, with this reason. */
  setDeadline(after_ms: number, reason: unknown): void {
    this.clearDeadline();
    this.#timer = setTimeout(() => this.#controller.abort(reason), after_ms);
  }

  clearDeadline(): void {
    clearTimeout(this.#timer);
  }

  /** Lets go of the others and of the deadline; it is then never aborted any more. */
  dispose(): void {
    this.clearDeadline();
    for (const step of this.#undo.splice(0)) step();
  }
}
