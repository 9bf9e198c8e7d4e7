/** When leases end, on clocks that jump. */

/** Two clocks; tests give their own. */
export interface Clock {
  /** Time of day in ms since 1970; may be set by anyone at any moment. */
  now_ms(): number;
  /** Runs evenly and knows no date; may stand still while the machine sleeps. */
  monotonic_ms(): number;
}

/** The machine's clocks. */
export const SYSTEM_CLOCK: Clock = {
  now_ms: () => Date.now(),
  monotonic_ms: () => performance.now(),
};

/** How long nodes get to renew after the registry, or the time of day, came back. */
export const EXPIRY_GRACE_MS = 10 * 60 * 1000;

/** A time of day that runs ahead of the even clock by more than this was set, or slept. */
const JUMP_MS = 60 * 1000;

/**
 * The rule by which leases end. None ends within ten minutes after the start or after the time of
 * day jumped ahead (a host without a battery clock starts in 1970): nobody could renew until then.
 */
export class ExpiryRule {
  #floor_ms: number;
  #wasSetBack = true;
  #seen: { readonly now_ms: number; readonly monotonic_ms: number };

  constructor(readonly clock: Clock) {
    this.#seen = { now_ms: clock.now_ms(), monotonic_ms: clock.monotonic_ms() };
    this.#floor_ms = this.#seen.now_ms + EXPIRY_GRACE_MS;
  }

  /** The time of day in ms since 1970, with jumps taken into account from here on. */
  now_ms(): number {
    const seen = { now_ms: this.clock.now_ms(), monotonic_ms: this.clock.monotonic_ms() };
    const ahead = (seen.now_ms - this.#seen.now_ms) - (seen.monotonic_ms - this.#seen.monotonic_ms);
    if (ahead > JUMP_MS) this.#floor_ms = seen.now_ms + EXPIRY_GRACE_MS;
    if (ahead < -JUMP_MS) {
      // The floor comes back too: else nothing would end before the time that was wrong.
      this.#floor_ms = Math.min(this.#floor_ms, seen.now_ms + EXPIRY_GRACE_MS);
      this.#wasSetBack = true;
    }
    this.#seen = seen;
    return seen.now_ms;
  }

  /** When a lease with this expiry really ends, in ms since 1970. */
  end_ms(expiry_ms: number): number {
    return Math.max(expiry_ms, this.#floor_ms);
  }

  /**
   * Whether leases may end later than one that is given now: after the start, and after each time
   * that the time of day was set back, until `settleSetBack`.
   */
  get wasSetBack(): boolean {
    return this.#wasSetBack;
  }

  /** Notes that no lease ends later any more. */
  settleSetBack(): void {
    this.#wasSetBack = false;
  }
}

/** The longest time a timer of the runtime can take. */
const TIMER_MAX_MS = 2 ** 31 - 1;

/** So soon at the earliest it fires again, for instance when a failing disk takes no deletion. */
const TIMER_MIN_MS = 100;

/** A timer for the first end among many. It keeps no process alive. */
export class ExpiryTimer {
  #timer: ReturnType<typeof setTimeout> | null = null;
  #at_ms = Infinity;

  /** `onDue` may be called early; it must then set the timer anew. */
  constructor(readonly onDue: () => void) {}

  /** Fires at `end_ms` or, if it was set for earlier, then. Infinity: does nothing. */
  set(end_ms: number, now_ms: number): void {
    if (end_ms === Infinity || (this.#timer !== null && this.#at_ms <= end_ms)) return;
    this.clear();
    this.#at_ms = end_ms;
    const delay_ms = Math.min(Math.max(end_ms - now_ms, TIMER_MIN_MS), TIMER_MAX_MS);
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.onDue();
    }, delay_ms);
    this.#timer.unref();
  }

  clear(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
