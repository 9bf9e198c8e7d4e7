/**
 * Answers that are reused for a while, so that a client that asks often costs no more than one that
 * asks once.
 */

/** A read that is shared; `forget` has the next one made anew. */
export interface Kept<T> {
  (): Promise<T>;
  forget(): void;
}

/**
 * Runs `read` once for all calls while it runs, and for all calls within `fresh_ms` after it has
 * ended. A failure is shared as well, but not kept.
 */
export function kept<T>(read: () => T | Promise<T>, fresh_ms: number): Kept<T> {
  let running: Promise<T> | null = null;
  let until_ms = -Infinity;
  const ask = () => {
    if (running !== null && performance.now() < until_ms) return running;
    const own: Promise<T> = Promise.try(read);
    running = own;
    until_ms = Infinity;
    const end = (end_ms: number) => {
      // A result that was forgotten meanwhile must not come back.
      if (running === own) until_ms = end_ms;
    };
    own.then(() => end(performance.now() + fresh_ms), () => end(-Infinity));
    return own;
  };
  return Object.assign(ask, { forget: () => void (running = null) });
}
