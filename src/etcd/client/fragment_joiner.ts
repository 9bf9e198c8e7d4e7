/** Responses of a watch that are too large for one message. */
import { toKeyEvent } from "./calls.ts";
import type { WatchResponse } from "./generated/rpc.ts";
import type { KeyEvent } from "./kv.ts";

/** Fragments of one response that are put together; more go out earlier, by whole revisions. */
const JOINED_SIZE_MAX_BYTES = 16 * 1024 * 1024;

/** Puts the fragments of responses together, so that no batch ends within a revision. */
export class FragmentJoiner {
  readonly #events: KeyEvent[] = [];
  #size_bytes = 0;

  /** The events that are complete with this response; null: more of it follows. */
  add(response: WatchResponse): readonly KeyEvent[] | null {
    for (const message of response.events) {
      const event = toKeyEvent(message);
      if (event === null) continue;
      this.#events.push(event);
      this.#size_bytes += message.kv!.key.length + message.kv!.value.length;
    }
    if (!response.fragment) return this.#take(this.#events.length);
    if (this.#size_bytes < JOINED_SIZE_MAX_BYTES) return null;
    const last = this.#events.at(-1)?.entry.modRevision;
    const whole = this.#events.findIndex(({ entry }) => entry.modRevision === last);
    return whole > 0 ? this.#take(whole) : null;
  }

  #take(count: number): KeyEvent[] {
    const taken = this.#events.splice(0, count);
    this.#size_bytes = this.#events.reduce((sum, { entry }) => {
      return sum + entry.key.length + entry.value.length;
    }, 0);
    return taken;
  }
}
