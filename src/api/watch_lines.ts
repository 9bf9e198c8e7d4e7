/** The lines of the watch: what the store yields, and that it is away, which the store does not. */
import type { LeaseStore } from "../store/store.ts";
import { pause } from "../retry.ts";
import { type ChangeLine, changeView } from "./views.ts";

/** How often the state of a store that yields nothing is looked at. */
const LOOK_MS = 1_000;

/** Why the store cannot be asked; null: it can. */
function errorOf(store: Pick<LeaseStore, "state">): string | null {
  const { connected, lastError, location } = store.state();
  return connected ? null : lastError ?? `${location} cannot be reached`;
}

/**
 * A line for each batch of the store's watch that says something, and one each time that the store
 * goes away or is back. The watch is asked for a batch only when the line before was taken. Ends
 * when the signal is aborted.
 */
export async function* watchLines(
  store: Pick<LeaseStore, "watch" | "state">,
  signal: AbortSignal,
  look_ms = LOOK_MS,
): AsyncGenerator<ChangeLine> {
  const batches = store.watch(signal)[Symbol.asyncIterator]();
  let isAway = false;
  let isFirst = true;
  while (true) {
    const next = batches.next();
    // It may fail while a line about the store is being taken.
    next.catch(() => {});
    for (let batch = null; batch === null;) {
      const looked = new AbortController();
      try {
        batch = await Promise.race([next, pause(look_ms, looked.signal).then(() => null)]);
      } finally {
        looked.abort();
      }
      const storeError = errorOf(store);
      if ((storeError !== null) !== isAway && !signal.aborted) {
        isAway = !isAway;
        yield { changes: [], storeError };
      }
      if (batch?.done === true) return;
      // The first says that the store was read; later ones that are empty say nothing.
      if (batch !== null && (isFirst || batch.value.length > 0)) {
        isFirst = false;
        yield { changes: batch.value.map(changeView) };
      }
    }
  }
}
