/** Responses of a watch that are too large for one message. */
import { toKeyEvent } from "./calls.ts";
import type { WatchResponse } from "./generated/rpc.ts";
import type { KeyEvent } from "./kv.ts";

/**
 * Keys and values of one response that are put together, in characters; more go out earlier, by
 * whole revisions.
 */
const JOINED_SIZE_MAX = 16 * 1024 * 1024;

function sizeOf({ entry }: KeyEvent): number {
  return entry.key.length + entry.value.length;
}

/** Puts the fragments of responses together, so that no batch ends within a revision. */
export class FragmentJoiner {
  readonly #events: KeyEvent[] = [];
  #size = 0;

  /** The events that are complete with this response; null: more of it follows. */
  add(response: WatchResponse): readonly KeyEvent[] | null {
    for (const message of response.events) {
      const event = toKeyEvent(message);
      if (event === null) continue;
      this.#events.push(event);
      this.#size += sizeOf(event);
    }
    if (!response.fragment) return this.#take(this.#events.length);
    if (this.#size < JOINED_SIZE_MAX) return null;
    const last = this.#events.at(-1)?.entry.modRevision;
    const whole = this.#events.findIndex(({ entry }) => entry.modRevision === last);
    return whole > 0 ? this.#take(whole) : null;
  }

  #take(count: number): KeyEvent[] {
    const taken = this.#events.splice(0, count);
    for (const event of taken) this.#size -= sizeOf(event);
    return taken;
  }
}
