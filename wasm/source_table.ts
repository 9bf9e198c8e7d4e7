/**
 * Look-up of the peer by the outer source address: a bounded probe of a hash table. The control
 * side writes; see `src/dataplane/source_table.ts`. Plain loads, as in `fib.ts`.
 */
import {
  SOURCE_CELL_COUNT,
  SOURCE_CELL_COUNT_BITS,
  SOURCE_HASH_MULTIPLIER,
  SOURCE_PROBE_MAX,
  SOURCE_TABLE_CURRENT_OFFSET,
} from "./layout.ts";

/** The slot of a peer that sends from the address, or -1. */
export function lookupSource(address: u32): i32 {
  const table = load<i32>(SOURCE_TABLE_CURRENT_OFFSET);
  const hash = address * <u32> SOURCE_HASH_MULTIPLIER;
  let cell = <i32> (hash >> (32 - SOURCE_CELL_COUNT_BITS));
  for (let probe = 0; probe < SOURCE_PROBE_MAX; probe++) {
    const value = load<u64>(table + (cell << 3));
    if (value === 0) return -1;
    if (<u32> (value >> 32) === address) return <i32> value - 1;
    cell = (cell + 1) & (SOURCE_CELL_COUNT - 1);
  }
  return -1;
}
