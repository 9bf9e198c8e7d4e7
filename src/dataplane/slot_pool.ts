/** Numbers for things in shared memory, given out again once no loop holds them any more. */
import type { Epochs, EpochSnapshot, WaitBudget } from "./epochs.ts";

interface Retired {
  readonly snapshot: EpochSnapshot;
  readonly slots: readonly number[];
}

export class SlotPool {
  /** Every number from here on is unused as yet. */
  #next = 0;
  #free: number[] = [];
  /** Released since the last snapshot. */
  #released: number[] = [];
  /** Oldest first. */
  #retired: Retired[] = [];

  constructor(private readonly capacity: number, private readonly epochs: Epochs) {}

  /**
   * A number that nobody uses, or null if there is none. Blocks within the budget if all that is
   * left are numbers that a loop may still hold.
   */
  take(budget: WaitBudget): number | null {
    if (this.#free.length === 0) this.#reclaim();
    const slot = this.#free.pop();
    if (slot !== undefined) return slot;
    if (this.#next < this.capacity) return this.#next++;
    const oldest = this.#retired[0];
    if (oldest === undefined || !this.epochs.waitPassed(oldest.snapshot, budget)) return null;
    this.#reclaim();
    return this.#free.pop() ?? null;
  }

  /** Gives a number back. No look-up may lead to it any more. */
  release(slot: number): void {
    this.#released.push(slot);
  }

  #reclaim(): void {
    if (this.#released.length > 0) {
      this.#retired.push({ snapshot: this.epochs.snapshot(), slots: this.#released });
      this.#released = [];
    }
    let passed = 0;
    for (const { snapshot, slots } of this.#retired) {
      if (!this.epochs.hasPassed(snapshot)) break;
      this.#free = this.#free.concat(slots);
      passed++;
    }
    this.#retired.splice(0, passed);
  }
}
