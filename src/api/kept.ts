/** Answers that serve for a while, so that who asks often does not cost more than who asks once. */

/** A read that is shared; `forget` has the next one made anew. */
export interface Kept<T> {
  (): Promise<T>;
  forget(): void;
}

/**
 * Makes `read` run once for all who ask while it runs, and for all who ask within `fresh_ms` after
 * it has ended. A failure is shared as well, but not kept.
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
      // What was forgotten meanwhile must not come back.
      if (running === own) until_ms = end_ms;
    };
    own.then(() => end(performance.now() + fresh_ms), () => end(-Infinity));
    return own;
  };
  return Object.assign(ask, { forget: () => void (running = null) });
}
