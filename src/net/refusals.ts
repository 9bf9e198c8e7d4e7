/**
 * Requests that were refused for lack of a valid token: counted, slowed down, and logged in sums.
 * The delay grows with the refusals of a source and does not delay other sources. A token cannot be
 * guessed (256 random bits), so this bounds the work and the noise that guessing makes.
 */
import { sourceOf } from "./connection_table.ts";

export interface RefusalLimits {
  /** The delay of a source's first refusal; it doubles with each further one. */
  readonly delayFirst_ms: number;
  readonly delayMax_ms: number;
  /** How many answers are held back at once; past that, they are given without delay. */
  readonly delayedCountMax: number;
  /** How many sources are known at once; the one that was quiet for longest is forgotten. */
  readonly sourceCountMax: number;
  /** A source that was quiet for so long begins anew. */
  readonly forget_ms: number;
  /** How often the log gets a sum, while there is something to sum up. */
  readonly logInterval_ms: number;
  /** How many sources a sum names. */
  readonly namedCountMax: number;
}

/** Of every listener. */
export const REFUSAL_DELAY_MAX_MS = 3_200;

const REFUSAL_LIMITS: RefusalLimits = {
  delayFirst_ms: 100,
  delayMax_ms: REFUSAL_DELAY_MAX_MS,
  delayedCountMax: 256,
  sourceCountMax: 1_000,
  forget_ms: 10 * 60_000,
  logInterval_ms: 60_000,
  namedCountMax: 5,
};

interface Source {
  /** Since it was last quiet for long. */
  count: number;
  last_ms: number;
  /** Since the log was last written. */
  unloggedCount: number;
  /** Its address, of which a source may have several. */
  address: string;
}

export class Refusals {
  readonly #log: (text: string) => void;
  readonly #limits: RefusalLimits;
  /** In the order of the last refusal. */
  readonly #sources = new Map<string, Source>();
  /** Of sources that were forgotten before they were logged. */
  #forgottenCount = 0;
  #delayedCount = 0;
  #timer: ReturnType<typeof setTimeout> | null = null;
  /** Since the start. */
  count = 0;

  /** `log` takes one line. */
  constructor(log: (text: string) => void, limits: Partial<RefusalLimits> = {}) {
    this.#log = log;
    this.#limits = { ...REFUSAL_LIMITS, ...limits };
  }

  /** Counts a refusal, and resolves when its answer may be given. */
  async refuse(address: string, now_ms = performance.now()): Promise<void> {
    const { delayFirst_ms, delayMax_ms, delayedCountMax } = this.#limits;
    const { count } = this.#note(address, now_ms);
    if (this.#delayedCount >= delayedCountMax) return;
    this.#delayedCount++;
    const delay_ms = Math.min(delayFirst_ms * 2 ** Math.min(count - 1, 30), delayMax_ms);
    await new Promise<void>((resolve) => setTimeout(resolve, delay_ms).unref());
    this.#delayedCount--;
  }

  #note(address: string, now_ms: number): Source {
    const { sourceCountMax, forget_ms, logInterval_ms } = this.#limits;
    this.count++;
    const key = sourceOf(address);
    const known = this.#sources.get(key);
    this.#sources.delete(key);
    const source = known ?? { count: 0, last_ms: now_ms, unloggedCount: 0, address };
    if (now_ms - source.last_ms > forget_ms) source.count = 0;
    source.count++;
    source.unloggedCount++;
    source.last_ms = now_ms;
    source.address = address;
    this.#sources.set(key, source);
    if (this.#sources.size > sourceCountMax) {
      const [oldestKey, oldest] = this.#sources.entries().next().value!;
      this.#sources.delete(oldestKey);
      this.#forgottenCount += oldest.unloggedCount;
    }
    if (this.#timer === null) {
      this.#writeSum();
      this.#timer = setTimeout(() => this.#endInterval(), logInterval_ms);
      this.#timer.unref();
    }
    return source;
  }

  #endInterval(): void {
    this.#timer = null;
    if (!this.#writeSum()) return;
    this.#timer = setTimeout(() => this.#endInterval(), this.#limits.logInterval_ms);
    this.#timer.unref();
  }

  /** Logs what was not logged yet, the largest first; false: there is nothing. */
  #writeSum(): boolean {
    const sources = [...this.#sources.values()].filter((source) => source.unloggedCount > 0)
      .sort((a, b) => b.unloggedCount - a.unloggedCount);
    const named = sources.slice(0, this.#limits.namedCountMax);
    const others = sources.slice(named.length);
    const otherCount = others.reduce((sum, one) => sum + one.unloggedCount, this.#forgottenCount);
    if (sources.length === 0 && otherCount === 0) return false;
    const parts = named.map(({ address, unloggedCount }) => `${unloggedCount} from ${address}`);
    if (otherCount > 0) parts.push(`${otherCount} from other addresses`);
    this.#log(`refused requests without a valid token: ${parts.join(", ")}`);
    for (const source of sources) source.unloggedCount = 0;
    this.#forgottenCount = 0;
    return true;
  }

  /** Logs what is left. */
  close(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#writeSum();
  }
}
