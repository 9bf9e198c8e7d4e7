/** Where the start has got to, what it waits for, and since when. */
import { MACHINE_CLOCK, timeOfDay_ms } from "../clock.ts";
import type { Phase } from "./status.ts";

export interface ShownProgress {
  readonly phase: Phase;
  /** In one sentence; null: nothing. */
  readonly waitingFor: string | null;
  /** Since when it waits, for one thing or another, in ms since 1970; null: it does not. */
  readonly waitingSince_ms: number | null;
}

export class Progress {
  #phase: Phase = "starting";
  #waitingFor: string | null = "starting";
  /** By the steady clock. */
  #since_ms: number | null = MACHINE_CLOCK.steady_ms();

  get shown(): ShownProgress {
    return {
      phase: this.#phase,
      waitingFor: this.#waitingFor,
      waitingSince_ms: this.#since_ms && timeOfDay_ms(this.#since_ms),
    };
  }

  get waitingFor(): string | null {
    return this.#waitingFor;
  }

  enter(phase: Phase, waitingFor: string | null = this.#waitingFor): void {
    this.#phase = phase;
    this.wait(waitingFor);
  }

  /** Within the phase. */
  wait(waitingFor: string | null): void {
    this.#waitingFor = waitingFor;
    if (waitingFor === null) this.#since_ms = null;
    else this.#since_ms ??= MACHINE_CLOCK.steady_ms();
  }
}
