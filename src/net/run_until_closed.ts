/** Calls that end with their caller's signal, or when the object that they use is closed. */
import { LinkedSignal } from "./linked_signal.ts";

/**
 * Runs `work` with a signal that is aborted with either. Throws the reason of the one that was
 * aborted, the caller's first, else what `work` threw. `onSettled` gets the error of `work`, or
 * null if there was none; it is not called if one of the two signals ended the work.
 */
export async function runUntilClosed<T>(
  signal: AbortSignal | undefined,
  closing: AbortSignal,
  work: (both: AbortSignal) => Promise<T>,
  onSettled: (error: unknown) => void = () => {},
): Promise<T> {
  signal?.throwIfAborted();
  closing.throwIfAborted();
  const link = new LinkedSignal([signal, closing]);
  try {
    const result = await work(link.signal);
    onSettled(null);
    return result;
  } catch (error) {
    signal?.throwIfAborted();
    closing.throwIfAborted();
    onSettled(error);
    throw error;
  } finally {
    link.dispose();
  }
}
