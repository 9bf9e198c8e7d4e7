/** Waiting for the next change of something that others change. */

/** Wakes whoever waits. */
export class Bell {
  #next = Promise.withResolvers<void>();

  /**
   * Resolves when it rings next. Take it before looking at what may have changed: a change between
   * the look and the wait is then not slept over.
   */
  get rung(): Promise<void> {
    return this.#next.promise;
  }

  ring(): void {
    const { resolve } = this.#next;
    this.#next = Promise.withResolvers<void>();
    resolve();
  }
}
