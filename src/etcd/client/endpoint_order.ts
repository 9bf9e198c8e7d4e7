/**
 * Which endpoint is asked next: the one that answered last, and those at the end that failed or
 * whose answers are not believed.
 */
import { Backoff } from "../../retry.ts";

const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 15_000;
/** How often an endpoint that answers is passed over, at most. */
const PASS_OVER_MS = 1_000;

/** Remembers how each of `count` endpoints, known by their numbers from 0 on, has done. */
export class EndpointOrder {
  readonly #backoffs: Backoff[];
  /** Until when it comes after the others; 0: nothing is against it. */
  readonly #avoidUntil_ms: number[];
  #current = 0;
  /** No endpoint is passed over before this time. */
  #passOverFrom_ms = -Infinity;

  /** @param now_ms A clock that never goes back. */
  constructor(count: number, private readonly now_ms: () => number = () => performance.now()) {
    this.#backoffs = Array.from({ length: count }, () => {
      return new Backoff(BACKOFF_FIRST_MS, BACKOFF_MAX_MS);
    });
    this.#avoidUntil_ms = new Array<number>(count).fill(0);
  }

  /** The one in use: the last that answered. */
  get current(): number {
    return this.#current;
  }

  /**
   * All endpoints in the order in which to try them: from the current one on, round; those that
   * failed or were passed over lately after all others, the one first that may be tried again
   * first.
   */
  candidates(): number[] {
    const count = this.#backoffs.length;
    const now_ms = this.now_ms();
    const avoided_ms = (index: number) => Math.max(0, this.#avoidUntil_ms[index]! - now_ms);
    const round = Array.from({ length: count }, (_, i) => (this.#current + i) % count);
    // The sort is stable: those that wait for nothing keep their order.
    return round.sort((a, b) => avoided_ms(a) - avoided_ms(b));
  }

  succeeded(index: number): void {
    this.#backoffs[index]!.reset();
    this.#avoidUntil_ms[index] = 0;
    this.#current = index;
  }

  failed(index: number): void {
    const now_ms = this.now_ms();
    // Calls that ran at the same time and failed for the same reason count once.
    if (this.#avoidUntil_ms[index]! > now_ms) return;
    this.#avoidUntil_ms[index] = now_ms + this.#backoffs[index]!.next_ms();
  }

  /**
   * The current one comes after all others for a while, also after those that fail: they may be
   * whole again. Where all are passed over they take turns.
   */
  passOver(): void {
    const now_ms = this.now_ms();
    if (now_ms < this.#passOverFrom_ms) return;
    this.#passOverFrom_ms = now_ms + PASS_OVER_MS;
    this.#avoidUntil_ms[this.#current] = now_ms + BACKOFF_MAX_MS;
  }
}
