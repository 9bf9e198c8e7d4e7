/**
 * When something that the packet loops might still hold can be used again. A loop's epoch is odd
 * inside a batch and never otherwise; what a batch has looked up is forgotten at its end.
 */
import { EGRESS_EPOCH_OFFSET, INGRESS_EPOCH_OFFSET } from "../../wasm/layout.ts";
import type { SharedMemory } from "./memory.ts";

/** Both loops' epochs at one moment. */
export interface EpochSnapshot {
  readonly egress: number;
  readonly ingress: number;
}

/** How long one change of the tables may block for the loops, all its waits together. */
export class WaitBudget {
  constructor(private left_ms: number) {}

  /** Sleeps for about a millisecond; false when nothing is left. Blocks the thread. */
  sleep(): boolean {
    if (this.left_ms <= 0) return false;
    const start_ms = performance.now();
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    this.left_ms -= Math.max(1, performance.now() - start_ms);
    return true;
  }
}

export class Epochs {
  constructor(private readonly shared: SharedMemory) {}

  snapshot(): EpochSnapshot {
    return {
      egress: Atomics.load(this.shared.u32, EGRESS_EPOCH_OFFSET / 4),
      ingress: Atomics.load(this.shared.u32, INGRESS_EPOCH_OFFSET / 4),
    };
  }

  /** Whether no loop holds any more what was made unreachable before the snapshot. */
  hasPassed(snapshot: EpochSnapshot): boolean {
    const now = this.snapshot();
    return (snapshot.egress % 2 === 0 || snapshot.egress !== now.egress) &&
      (snapshot.ingress % 2 === 0 || snapshot.ingress !== now.ingress);
  }

  /** Blocks until `hasPassed`; false when the budget is used up first. */
  waitPassed(snapshot: EpochSnapshot, budget: WaitBudget): boolean {
    while (!this.hasPassed(snapshot)) {
      if (!budget.sleep()) return false;
    }
    return true;
  }
}
