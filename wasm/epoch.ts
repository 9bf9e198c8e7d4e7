/**
 * A loop's epoch: odd while it may hold a slot or a block it has looked up. The control side
 * reuses one only after it saw all epochs even or changed since it removed the way to it.
 *
 * All atomic operations of WebAssembly, and JavaScript's `Atomics`, have one order that every
 * thread sees (sequential consistency). Look-ups are atomic loads, so none happens before `enter`.
 */
import * as lane from "./lane.ts";

/** Before the first look-up of a batch. */
export function enter(): void {
  atomic.add<u32>(lane.epoch, 1);
}

/** After the last use of what the batch has looked up. */
export function leave(): void {
  atomic.add<u32>(lane.epoch, 1);
}
