/**
 * Counters: one writer each, so a plain aligned 64-bit store is enough; the processors at hand
 * never tear it.
 */

export function add(offset: i32, amount: i32): void {
  store<u64>(offset, load<u64>(offset) + <u64> amount);
}

/** Adds to one counter of a loop's block. */
export function count(counters: i32, counter: i32, amount: i32): void {
  add(counters + (counter << 3), amount);
}
