/**
 * What lies where in a prefix table: look-up of 128-bit addresses by prefix. Offsets are from the
 * table's start, which is at a multiple of a cache line. All zero is an empty table.
 *
 * A prefix is an entry, which never changes its key while a loop may hold it. Cells are a hash
 * table of the entries' numbers, built anew in its twin when removed cells fill it.
 */

/** u32: which of the two arrays of cells is in use, 0 or 1. */
export const PREFIX_CURRENT_OFFSET = 0;
/** u64 each: lengths in use. Bit i is length 128 - i in the one, 64 - i in the other. */
export const PREFIX_LONG_LENGTHS_OFFSET = 8;
export const PREFIX_SHORT_LENGTHS_OFFSET = 16;
/** 40 bytes reserved. Lengths above this are in the first. */
export const PREFIX_SHORT_LENGTH_MAX = 64;

export const PREFIX_ENTRY_COUNT_MAX = 65536;
/** Address as two numbers (u64), length and slot + 1 (u32); 8 bytes reserved. */
export const PREFIX_ENTRY_SIZE = 32;
export const PREFIX_ENTRY_HIGH = 0;
export const PREFIX_ENTRY_LOW = 8;
export const PREFIX_ENTRY_LENGTH = 16;
export const PREFIX_ENTRY_VALUE = 20;
/** Entry 0 is nobody's: its length, 0, is none that is looked for. */
export const PREFIX_ENTRIES_OFFSET = 64;

/**
 * Open addressing with linear probing. A cell is a u32: the number of an entry, and above it a part
 * of the key's hash. 0: empty, ends a probe. With entry 0: removed, does not end it.
 */
export const PREFIX_CELL_COUNT_BITS = 18;
export const PREFIX_CELL_COUNT = 1 << PREFIX_CELL_COUNT_BITS;
export const PREFIX_CELLS_SIZE = PREFIX_CELL_COUNT * 4;
export const PREFIX_CELLS_OFFSET = PREFIX_ENTRIES_OFFSET +
  (PREFIX_ENTRY_COUNT_MAX + 2) * PREFIX_ENTRY_SIZE;
export const PREFIX_TABLE_SIZE = PREFIX_CELLS_OFFSET + 2 * PREFIX_CELLS_SIZE;
/** Bits of an entry's number in a cell. */
export const PREFIX_ENTRY_BITS = 17;
/** Above this many used cells, removed ones among them, the cells are built anew. */
export const PREFIX_CELL_USED_MAX = PREFIX_CELL_COUNT / 2;
/** A prefix lies at most so many cells behind its place. */
export const PREFIX_PROBE_MAX = 128;

/**
 * Multipliers of the hash, as signed numbers: 2^32 times what is behind the point in the square
 * roots of 2, 3, 5, 7, 11 and 13, made odd. Four for the address, upper word first; one for the
 * length; one for mixing.
 */
export const PREFIX_HASH_1 = 1779033703;
export const PREFIX_HASH_2 = -1150833019;
export const PREFIX_HASH_3 = 1013904243;
export const PREFIX_HASH_4 = -1521486533;
export const PREFIX_HASH_LENGTH = 1359893119;
export const PREFIX_HASH_MIX = -1694144371;
export const PREFIX_HASH_SHIFT = 15;
