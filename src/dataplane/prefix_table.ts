/** The writing side of the look-up of 128-bit addresses by prefix; `wasm/prefix_table.ts` reads. */
import {
  PREFIX_CELL_COUNT,
  PREFIX_CELL_COUNT_BITS,
  PREFIX_CELL_USED_MAX,
  PREFIX_CELLS_OFFSET,
  PREFIX_CELLS_SIZE,
  PREFIX_CURRENT_OFFSET,
  PREFIX_ENTRIES_OFFSET,
  PREFIX_ENTRY_BITS,
  PREFIX_ENTRY_COUNT_MAX,
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
} from "../../wasm/prefix_layout.ts";
import type { IpPrefix } from "../net/ip.ts";
import type { Epochs, EpochSnapshot, WaitBudget } from "./epochs.ts";
import type { SharedMemory } from "./memory.ts";
import { SlotPool } from "./slot_pool.ts";

const EMPTY = 0;
/** A hash part that says nothing, and entry 0. */
const REMOVED = 2 ** 32 - 2 ** PREFIX_ENTRY_BITS;
const ADDRESS_BITS = 128;

interface Entry {
  /** From 1. */
  readonly number: number;
  readonly hash: number;
  /** The first is the one that look-ups find. */
  readonly slots: number[];
}

/** Bounds smaller than the layout's, for tests. */
export interface PrefixTableLimits {
  readonly entryCountMax?: number;
  /** Used cells above which they are built anew. */
  readonly usedCountMax?: number;
}

/**
 * IPv6 prefixes, of length 1 to 128, to peer slots. Several peers may share a prefix; of those that
 * hold an address the longest is found. A reader sees each change made or not made, nothing else.
 */
export class PrefixTable {
  readonly #u32: Uint32Array<SharedArrayBuffer>;
  readonly #u64: BigUint64Array<SharedArrayBuffer>;
  readonly #usedCountMax: number;
  /** Numbers of entries, less one. */
  readonly #numbers: SlotPool;
  readonly #entries = new Map<string, Entry>();
  /** How many entries there are of each length. */
  readonly #lengthCounts = new Array<number>(ADDRESS_BITS + 1).fill(0);
  /** Which array of cells is in use. */
  #current: 0 | 1 = 0;
  /** Cells in use that are not empty, removed ones among them. */
  #usedCount = 0;
  /** When they came into use: a loop may read the others until it has passed. */
  #switched: EpochSnapshot;

  /** Over an empty table at `table_offset`: `PREFIX_TABLE_SIZE` bytes, all zero. */
  constructor(
    shared: SharedMemory,
    private readonly table_offset: number,
    private readonly epochs: Epochs,
    limits: PrefixTableLimits = {},
  ) {
    this.#u32 = shared.u32;
    this.#u64 = shared.u64;
    this.#numbers = new SlotPool(limits.entryCountMax ?? PREFIX_ENTRY_COUNT_MAX, epochs);
    this.#usedCountMax = limits.usedCountMax ?? PREFIX_CELL_USED_MAX;
    this.#switched = epochs.snapshot();
  }

  /** Adds a slot at a prefix. False, and nothing changed, if the table is full. */
  add(prefix: IpPrefix, slot: number, budget: WaitBudget): boolean {
    const key = keyOf(prefix);
    const present = this.#entries.get(key);
    if (present !== undefined) {
      present.slots.push(slot);
      return true;
    }
    const number = this.#numbers.take(budget);
    if (number === null) return false;
    const entry = { number: number + 1, hash: hashOf(prefix), slots: [slot] };
    this.#write(entry, prefix);
    this.#entries.set(key, entry);
    if (!this.#put(entry, this.#usedCountMax) && !this.#rebuild(budget)) {
      this.#entries.delete(key);
      this.#numbers.release(number);
      return false;
    }
    this.#countLength(prefix.length, 1);
    return true;
  }

  /** Takes back one `add`. Other slots at the prefix stay. */
  remove(prefix: IpPrefix, slot: number): void {
    const key = keyOf(prefix);
    const entry = this.#entries.get(key)!;
    const { number, slots } = entry;
    slots.splice(slots.indexOf(slot), 1);
    if (slots.length > 0) {
      Atomics.store(this.#u32, this.#entryIndex(number) + PREFIX_ENTRY_VALUE / 4, slots[0]! + 1);
      return;
    }
    this.#entries.delete(key);
    const own = cellOf(entry);
    Atomics.store(this.#u32, this.#probe(entry.hash, (cell) => cell === own)!, REMOVED);
    this.#countLength(prefix.length, -1);
    this.#numbers.release(number - 1);
  }

  /** Index of an entry's first u32. */
  #entryIndex(number: number): number {
    return (this.table_offset + PREFIX_ENTRIES_OFFSET + number * PREFIX_ENTRY_SIZE) / 4;
  }

  /** Writes an entry that no cell leads to, and that no loop holds. */
  #write({ number, slots }: Entry, { address, length }: IpPrefix): void {
    const index = this.#entryIndex(number);
    Atomics.store(this.#u64, (index + PREFIX_ENTRY_HIGH / 4) / 2, address.value >> 64n);
    const low = BigInt.asUintN(64, address.value);
    Atomics.store(this.#u64, (index + PREFIX_ENTRY_LOW / 4) / 2, low);
    Atomics.store(this.#u32, index + PREFIX_ENTRY_LENGTH / 4, length);
    Atomics.store(this.#u32, index + PREFIX_ENTRY_VALUE / 4, slots[0]! + 1);
  }

  /** Leads an entry's hash to it in the cells in use, if there is room. */
  #put(entry: Entry, usedCountMax: number): boolean {
    const index = this.#probe(entry.hash, (cell) => cell === EMPTY || cell === REMOVED);
    if (index === null) return false;
    if (this.#u32[index] === EMPTY) {
      if (this.#usedCount >= usedCountMax) return false;
      this.#usedCount++;
    }
    Atomics.store(this.#u32, index, cellOf(entry));
    return true;
  }

  /** Index of the first cell of a probe, in those in use, that is as wanted; null: none is. */
  #probe(hash: number, isWanted: (cell: number) => boolean): number | null {
    const first = this.#cellsIndex(this.#current);
    let place = hash >>> (32 - PREFIX_CELL_COUNT_BITS);
    for (let probe = 0; probe < PREFIX_PROBE_MAX; probe++) {
      if (isWanted(this.#u32[first + place]!)) return first + place;
      place = (place + 1) % PREFIX_CELL_COUNT;
    }
    return null;
  }

  #cellsIndex(which: 0 | 1): number {
    return (this.table_offset + PREFIX_CELLS_OFFSET + which * PREFIX_CELLS_SIZE) / 4;
  }

  /** Builds all entries' cells in the other array, without removed ones, and switches to it. */
  #rebuild(budget: WaitBudget): boolean {
    if (this.#entries.size > this.#usedCountMax) return false;
    if (!this.epochs.waitPassed(this.#switched, budget)) return false;
    const before = { current: this.#current, usedCount: this.#usedCount };
    this.#current = before.current === 0 ? 1 : 0;
    this.#usedCount = 0;
    const first = this.#cellsIndex(this.#current);
    this.#u32.fill(EMPTY, first, first + PREFIX_CELL_COUNT);
    for (const entry of this.#entries.values()) {
      if (this.#put(entry, PREFIX_CELL_COUNT)) continue;
      this.#current = before.current;
      this.#usedCount = before.usedCount;
      return false;
    }
    const index = (this.table_offset + PREFIX_CURRENT_OFFSET) / 4;
    Atomics.store(this.#u32, index, this.#current);
    this.#switched = this.epochs.snapshot();
    return true;
  }

  /** One entry more or less of a length; look-ups try a length only while there is one. */
  #countLength(length: number, change: 1 | -1): void {
    const count = this.#lengthCounts[length]! + change;
    this.#lengthCounts[length] = count;
    const isLong = length > PREFIX_SHORT_LENGTH_MAX;
    const place = isLong ? PREFIX_LONG_LENGTHS_OFFSET : PREFIX_SHORT_LENGTHS_OFFSET;
    const index = (this.table_offset + place) / 8;
    const bit = 1n << BigInt((isLong ? ADDRESS_BITS : PREFIX_SHORT_LENGTH_MAX) - length);
    if (count === 0) Atomics.and(this.#u64, index, ~bit);
    else if (count === 1 && change === 1) Atomics.or(this.#u64, index, bit);
  }
}

/** A text: V8 has one hash for all numbers whose lower 64 bits are the same. */
function keyOf({ address, length }: IpPrefix): string {
  return `${address.value.toString(16)}/${length}`;
}

/** What `hash` in `wasm/prefix_table.ts` is. */
function hashOf({ address, length }: IpPrefix): number {
  const word = (shift: bigint): number => Number(BigInt.asIntN(32, address.value >> shift));
  const sum = Math.imul(word(96n), PREFIX_HASH_1) + Math.imul(word(64n), PREFIX_HASH_2) +
      Math.imul(word(32n), PREFIX_HASH_3) + Math.imul(word(0n), PREFIX_HASH_4) +
      Math.imul(length, PREFIX_HASH_LENGTH) | 0;
  return Math.imul(sum ^ (sum >>> PREFIX_HASH_SHIFT), PREFIX_HASH_MIX) >>> 0;
}

function cellOf({ number, hash }: Entry): number {
  return ((hash << PREFIX_ENTRY_BITS) | number) >>> 0;
}
