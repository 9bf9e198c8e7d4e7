/** Keys among the leases of a store that cannot be read: left out, named once, counted. */
import { errorText } from "../errors.ts";
import { logger } from "../log.ts";

/** So many are named in so long; of more the number is said. */
const NAMED_COUNT_MAX = 20;
const NAMED_WITHIN_MS = 60_000;

/** How many of them the status shows. */
const SHOWN_COUNT_MAX = 5;
/** How much of a key is shown: another program may have chosen a long one. */
const KEY_LENGTH_MAX = 200;

/** The longest reason: it may hold a part of the value. */
const REASON_LENGTH_MAX = 300;

/** A key that cannot be read, and why. */
export interface UnreadableKey {
  readonly key: string;
  readonly reason: string;
}

/** What cannot be read now, and why. */
export class UnreadableKeys {
  readonly #reasons = new Map<string, string>();
  readonly #log;

  /** @param subject Of the log's records: the store. */
  constructor(subject: string) {
    this.#log = logger(subject);
  }
  #since_ms = -Infinity;
  #namedCount = 0;

  get count(): number {
    return this.#reasons.size;
  }

  /** The first few, in the order in which they were found. */
  get shown(): UnreadableKey[] {
    return [...this.#reasons.entries().take(SHOWN_COUNT_MAX)]
      .map(([key, reason]) => ({ key: key.slice(0, KEY_LENGTH_MAX), reason }));
  }

  /** A foreign program that writes without end must not fill the log. */
  #mayName(): boolean {
    const now_ms = performance.now();
    if (now_ms - this.#since_ms > NAMED_WITHIN_MS) {
      const unnamedCount = this.#namedCount - NAMED_COUNT_MAX;
      if (unnamedCount > 0) this.#log.warning`keys were left out ${unnamedCount} more times`;
      this.#since_ms = now_ms;
      this.#namedCount = 0;
    }
    return ++this.#namedCount <= NAMED_COUNT_MAX;
  }

  /** The key cannot be read. It is named if that is new. */
  add(key: string, error: unknown): void {
    const reason = errorText(error).slice(0, REASON_LENGTH_MAX);
    if (this.#reasons.get(key) === reason) return;
    this.#reasons.set(key, reason);
    const name = JSON.stringify(key.slice(0, KEY_LENGTH_MAX));
    if (this.#mayName()) this.#log.warning`key ${name} is left out: ${reason}`;
  }

  /** The key is gone, or can be read now. */
  delete(key: string): void {
    this.#reasons.delete(key);
  }

  /** These, and no others, cannot be read. */
  replace(now: ReadonlyMap<string, unknown>): void {
    for (const key of [...this.#reasons.keys()]) if (!now.has(key)) this.delete(key);
    for (const [key, error] of now) this.add(key, error);
  }
}
