/** Calls that end with their caller's signal, and when what they are made on is closed. */
import { LinkedSignal } from "./linked_signal.ts";

/**
 * Runs `work` with a signal that is aborted with either. Throws the reason of the one that was
 * aborted, the caller's first, else what `work` threw. `onSettled` is told how it went, null or the
 * error, unless one of the two ended it.
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
