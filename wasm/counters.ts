/** The loop's counters: one writer each, so a plain aligned 64-bit store is never torn. */
import * as lane from "./lane.ts";

/** Adds to one counter of this instance's loop. */
export function count(counter: i32, amount: i32): void {
  const at = lane.counters + (counter << 3);
  store<u64>(at, load<u64>(at) + <u64> amount);
}
