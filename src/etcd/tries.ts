/** Trying again what another was faster at. */
import { SelvageError } from "../errors.ts";
import { pause } from "../retry.ts";
import type { StoreContext } from "./context.ts";

/** The first wait lasts so long at most; later ones up to the maximum. */
const WAIT_FIRST_MS = 10;
const WAIT_MAX_MS = 320;

/** Tries within a time, not a number: how many compete is not known. */
export class Tries {
  readonly #start_ms = performance.now();
  #wait_ms = WAIT_FIRST_MS;
  #count = 1;

  /** @param what What is tried, for the error: "taking a subnet". */
  constructor(
    readonly context: Pick<StoreContext, "raceLimit_ms" | "random">,
    readonly what: string,
    readonly signal: AbortSignal | undefined,
  ) {}

  /**
   * Waits a random time before the next try, so that those who compete spread. Throws `unavailable`
   * past the limit, and the signal's reason.
   */
  async again(): Promise<void> {
    this.signal?.throwIfAborted();
    const { raceLimit_ms, random } = this.context;
    if (performance.now() - this.#start_ms > raceLimit_ms) {
      const text = `${this.what}: others were faster ${this.#count} times in a row`;
      throw new SelvageError("unavailable", text, { hint: "It is tried again." });
    }
    this.#count++;
    await pause(this.#wait_ms * random(), this.signal ?? new AbortController().signal);
    this.#wait_ms = Math.min(this.#wait_ms * 2, WAIT_MAX_MS);
    this.signal?.throwIfAborted();
  }
}
