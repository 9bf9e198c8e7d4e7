/**
 * When something that the packet loops might still hold can be used again. A loop's epoch is odd
 * inside a batch and never otherwise; what a batch has looked up is forgotten at its end.
 */
import {
  LANE_COUNT_MAX,
  LANE_EGRESS_EPOCH_OFFSET,
  LANE_INGRESS_EPOCH_OFFSET,
  LANE_SIZE,
  LANES_OFFSET,
} from "../../wasm/layout.ts";
import type { SharedMemory } from "./memory.ts";

/** All loops' epochs at one moment, in the order of the lanes. */
export type EpochSnapshot = readonly number[];

/** Where they are. A lane without loops has even ones for ever. */
const INDEXES = Array.from({ length: LANE_COUNT_MAX }, (_, lane) => LANES_OFFSET + lane * LANE_SIZE)
  .flatMap((lane) => [lane + LANE_EGRESS_EPOCH_OFFSET, lane + LANE_INGRESS_EPOCH_OFFSET])
  .map((offset) => offset / 4);

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
    return INDEXES.map((index) => Atomics.load(this.shared.u32, index));
  }

  /** Whether no loop holds any more what was made unreachable before the snapshot. */
  hasPassed(snapshot: EpochSnapshot): boolean {
    return INDEXES.every((index, i) => {
      const before = snapshot[i]!;
      return before % 2 === 0 || before !== Atomics.load(this.shared.u32, index);
    });
  }

  /** Blocks until `hasPassed`; false when the budget is used up first. */
  waitPassed(snapshot: EpochSnapshot, budget: WaitBudget): boolean {
    while (!this.hasPassed(snapshot)) {
      if (!budget.sleep()) return false;
    }
    return true;
  }
}
