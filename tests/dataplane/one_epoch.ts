/** Epochs of one loop that a test plays, whatever lanes there are. */
import { Epochs, type EpochSnapshot } from "../../src/dataplane/epochs.ts";
import type { SharedMemory } from "../../src/dataplane/memory.ts";

export class OneEpoch extends Epochs {
  readonly #at = new WeakMap<EpochSnapshot, number>();

  /** `epoch` is one number: the loop adds one before each batch, and one after it. */
  constructor(shared: SharedMemory, readonly epoch = new Int32Array(new SharedArrayBuffer(4))) {
    super(shared);
  }

  override snapshot(): EpochSnapshot {
    const snapshot = super.snapshot();
    this.#at.set(snapshot, Atomics.load(this.epoch, 0));
    return snapshot;
  }

  override hasPassed(snapshot: EpochSnapshot): boolean {
    const before = this.#at.get(snapshot)!;
    return before % 2 === 0 || Atomics.load(this.epoch, 0) !== before;
  }

  /** The loop enters a batch, or leaves it. */
  step(): void {
    Atomics.add(this.epoch, 0, 1);
  }
}
