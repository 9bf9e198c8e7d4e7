/** Keys among the leases that are none of flannel's: left out, named once, counted. */
import { errorText } from "../errors.ts";
import { logger } from "../log.ts";

/** How many are named one by one; of more the number is said. */
const NAMED_COUNT_MAX = 20;

/** What cannot be read now, and why. */
export class UnreadableKeys {
  readonly #reasons = new Map<string, string>();
  readonly #log = logger("etcd");

  get count(): number {
    return this.#reasons.size;
  }

  /** Why the key cannot be read; undefined if it can. */
  reason(key: string): string | undefined {
    return this.#reasons.get(key);
  }

  #name(key: string, reason: string): void {
    this.#log.warning`key ${JSON.stringify(key.slice(0, 200))} is left out: ${reason}`;
  }

  add(key: string, error: unknown): void {
    const reason = errorText(error);
    if (this.#reasons.get(key) === reason) return;
    this.#reasons.set(key, reason);
    this.#name(key, reason);
  }

  /** The key is gone, or can be read now. */
  delete(key: string): void {
    if (this.#reasons.delete(key)) this.#log.info`key ${JSON.stringify(key)} is in order now`;
  }

  /** These, and no others, cannot be read. */
  replace(now: ReadonlyMap<string, string>): void {
    for (const key of [...this.#reasons.keys()]) if (!now.has(key)) this.delete(key);
    let newCount = 0;
    for (const [key, reason] of now) {
      if (this.#reasons.get(key) === reason) continue;
      this.#reasons.set(key, reason);
      if (++newCount <= NAMED_COUNT_MAX) this.#name(key, reason);
    }
    const others = newCount - NAMED_COUNT_MAX;
    if (others > 0) this.#log.warning`${others} more keys are left out, for reasons like these`;
  }
}
