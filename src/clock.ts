/** A steady clock, and the time of day, which can be set at any moment. */
import { bootTime_ms } from "../ffi/host.ts";

/** Two clocks; tests give their own. */
export interface SteadyClock {
  /** The time of day in ms since 1970. */
  now_ms(): number;
  /** Milliseconds since the machine was started, its sleep included: for every duration. */
  steady_ms(): number;
}

/** The machine's clocks. */
export const MACHINE_CLOCK: SteadyClock = {
  now_ms: () => Date.now(),
  steady_ms: bootTime_ms,
};

/**
 * What the time of day was, or will be, at a moment of the steady clock, by the time of day as it
 * is set now. So durations between such times stay true after the time of day was set.
 */
export function timeOfDay_ms(steady_ms: number, clock: SteadyClock = MACHINE_CLOCK): number {
  return Math.round(clock.now_ms() + steady_ms - clock.steady_ms());
}
