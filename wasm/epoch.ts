/**
 * A loop's epoch: odd while it may hold a slot or a block it has looked up. The control side
 * reuses one only after it saw all epochs even or changed since it removed the way to it.
 *
 * What the control side writes into the tables are single aligned words, with `Atomics`; a loop
 * reads them with plain loads, several times as fast as atomic ones in JavaScriptCore:
 * - No processor tears an aligned word.
 * - Nothing is looked up before `enter` has told: what the control side wrote before it saw the
 *   epoch even is seen by every later load. The addition alone does not do that on all processors:
 *   it may be a load and a store, between which later loads can come. But the atomic load behind
 *   it comes after that store, and all other loads after the atomic one.
 * - Within a batch a loop may see a word as it was; what that led to is not used again until it has
 *   been at `leave`, an atomic store, which comes after all loads before it.
 * - What a word leads to (a block, an entry, a peer) was written before it, and its place follows
 *   from the word: no processor reads from an address before it has it.
 */
import * as lane from "./lane.ts";

/** Before the first look-up of a batch. */
export function enter(): void {
  atomic.add<u32>(lane.epoch, 1);
  atomic.load<u32>(lane.epoch);
}

/** After the last use of what the batch has looked up. */
export function leave(): void {
  atomic.add<u32>(lane.epoch, 1);
}
