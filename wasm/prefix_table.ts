/**
 * Look-up of a peer by a 128-bit address: a bounded probe of a hash table for each prefix length
 * that is in use, which usually is one. A cell, and the one entry it leads to. The control side
 * writes; see `src/dataplane/prefix_table.ts`.
 *
 * The loads are plain ones; `epoch.ts` says why they do. An entry is written before the cell that
 * leads to it, and read by way of it.
 */
import {
  PREFIX_CELL_COUNT,
  PREFIX_CELL_COUNT_BITS,
  PREFIX_CELLS_OFFSET,
  PREFIX_CELLS_SIZE,
  PREFIX_CURRENT_OFFSET,
  PREFIX_ENTRIES_OFFSET,
  PREFIX_ENTRY_BITS,
  PREFIX_ENTRY_HIGH,
  PREFIX_ENTRY_LENGTH,
  PREFIX_ENTRY_LOW,
  PREFIX_ENTRY_SIZE,
  PREFIX_ENTRY_VALUE,
  PREFIX_HASH_1,
  PREFIX_HASH_2,
  PREFIX_HASH_3,
  PREFIX_HASH_4,
  PREFIX_HASH_LENGTH,
  PREFIX_HASH_MIX,
  PREFIX_HASH_SHIFT,
  PREFIX_LONG_LENGTHS_OFFSET,
  PREFIX_PROBE_MAX,
  PREFIX_SHORT_LENGTH_MAX,
  PREFIX_SHORT_LENGTHS_OFFSET,
} from "./prefix_layout.ts";

const ALL_ONES: u64 = 0xffffffffffffffff;
const ENTRY_MASK: u32 = (1 << PREFIX_ENTRY_BITS) - 1;
const TAG_BITS: u32 = 32 - PREFIX_ENTRY_BITS;

/** The upper bits are a prefix's place, the lower ones are kept in its cell. */
function hash(high: u64, low: u64, length: u32): u32 {
  const sum = <u32> (high >> 32) * <u32> PREFIX_HASH_1 + <u32> high * <u32> PREFIX_HASH_2 +
    <u32> (low >> 32) * <u32> PREFIX_HASH_3 + <u32> low * <u32> PREFIX_HASH_4 +
    length * <u32> PREFIX_HASH_LENGTH;
  return (sum ^ (sum >> PREFIX_HASH_SHIFT)) * <u32> PREFIX_HASH_MIX;
}

/** The slot at exactly this prefix, or -1. */
function find(table: i32, high: u64, low: u64, length: u32): i32 {
  const current = load<i32>(table + PREFIX_CURRENT_OFFSET);
  const cells = table + PREFIX_CELLS_OFFSET + current * PREFIX_CELLS_SIZE;
  const mixed = hash(high, low, length);
  const tag = mixed << PREFIX_ENTRY_BITS;
  let cell = <i32> (mixed >> (32 - PREFIX_CELL_COUNT_BITS));
  for (let probe = 0; probe < PREFIX_PROBE_MAX; probe++) {
    const value = load<u32>(cells + (cell << 2));
    if (value === 0) return -1;
    if ((value ^ tag) >> (32 - TAG_BITS) === 0) {
      const number = <i32> (value & ENTRY_MASK);
      const entry = table + PREFIX_ENTRIES_OFFSET + number * PREFIX_ENTRY_SIZE;
      const isSame = load<u64>(entry + PREFIX_ENTRY_HIGH) === high &&
        load<u64>(entry + PREFIX_ENTRY_LOW) === low &&
        load<u32>(entry + PREFIX_ENTRY_LENGTH) === length;
      if (isSame) return load<i32>(entry + PREFIX_ENTRY_VALUE) - 1;
    }
    cell = (cell + 1) & (PREFIX_CELL_COUNT - 1);
  }
  return -1;
}

/**
 * The slot at the longest prefix that holds the address, or -1. `table` is the table's offset;
 * `high` and `low` are the address' halves as numbers.
 */
export function lookup(table: i32, high: u64, low: u64): i32 {
  let lengths = load<u64>(table + PREFIX_LONG_LENGTHS_OFFSET);
  for (; lengths !== 0; lengths &= lengths - 1) {
    const hostBits = ctz(lengths);
    const slot = find(table, high, low & (ALL_ONES << hostBits), 128 - <u32> hostBits);
    if (slot >= 0) return slot;
  }
  lengths = load<u64>(table + PREFIX_SHORT_LENGTHS_OFFSET);
  for (; lengths !== 0; lengths &= lengths - 1) {
    const hostBits = ctz(lengths);
    const length = PREFIX_SHORT_LENGTH_MAX - <u32> hostBits;
    const slot = find(table, high & (ALL_ONES << hostBits), 0, length);
    if (slot >= 0) return slot;
  }
  return -1;
}
