/** Tells what may happen again and again: at once when it begins, and then in sums. */

const WINDOW_MS = 10_000;
/** How many different texts are logged at once; further ones are only counted. */
const TEXTS_MAX = 5;

export class RepeatLog {
  readonly #write: (text: string) => void;
  readonly #window_ms: number;
  /** The texts that were logged since it began. */
  readonly #told = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | null = null;
  /** How many texts were not logged since the last summary, and the last of these. */
  #count = 0;
  #last = "";

  /** `write` takes one line. */
  constructor(write: (text: string) => void, window_ms = WINDOW_MS) {
    this.#write = write;
    this.#window_ms = window_ms;
  }

  tell(text: string): void {
    this.#timer ??= setTimeout(() => this.#endWindow(), this.#window_ms);
    if (!this.#told.has(text) && this.#told.size < TEXTS_MAX) {
      this.#told.add(text);
      this.#write(text);
      return;
    }
    this.#count++;
    this.#last = text;
  }

  /** It has ended when a whole window was quiet. */
  #endWindow(): void {
    this.#timer = null;
    if (this.#count === 0) return this.#told.clear();
    this.#sumUp();
    this.#timer = setTimeout(() => this.#endWindow(), this.#window_ms);
  }

  #sumUp(): void {
    if (this.#count === 0) return;
    const times = this.#count === 1 ? "once more" : `${this.#count} more times`;
    this.#write(`${times}, last: ${this.#last}`);
    this.#count = 0;
  }

  /** Tells what is left to tell, and begins anew. */
  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#sumUp();
    this.#told.clear();
  }
}
