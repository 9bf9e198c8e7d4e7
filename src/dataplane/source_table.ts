/** The writing side of the look-up by outer source address; `wasm/source_table.ts` reads. */
import {
  SOURCE_CELL_COUNT,
  SOURCE_CELL_COUNT_BITS,
  SOURCE_CELL_USED_MAX,
  SOURCE_HASH_MULTIPLIER,
  SOURCE_PROBE_MAX,
  SOURCE_TABLE_A_OFFSET,
  SOURCE_TABLE_B_OFFSET,
  SOURCE_TABLE_CURRENT_OFFSET,
} from "../../wasm/layout.ts";
import type { Epochs, EpochSnapshot, WaitBudget } from "./epochs.ts";
import type { SharedMemory } from "./memory.ts";

/** Outer addresses of peers to their slots. Several peers may share one address. */
export class SourceTable {
  readonly #u32: Uint32Array<SharedArrayBuffer>;
  readonly #u64: BigUint64Array<SharedArrayBuffer>;
  /** The peers at each address; the first is the one that look-ups find. */
  readonly #slots = new Map<number, number[]>();
  #current_offset = SOURCE_TABLE_A_OFFSET;
  /** Cells of the current table that are not empty, removed ones among them. */
  #usedCount = 0;
  /** When the current table came into use: a loop may read the other until it has passed. */
  #switched: EpochSnapshot;

  constructor(
    shared: SharedMemory,
    private readonly epochs: Epochs,
    /** For tests: used cells above which the table is built anew. */
    private readonly usedCountMax = SOURCE_CELL_USED_MAX,
  ) {
    this.#u32 = shared.u32;
    this.#u64 = shared.u64;
    this.#switched = epochs.snapshot();
  }

  /** Adds a peer at an address (host order, not 0). False, and nothing changed, if it is full. */
  add(address: number, slot: number, budget: WaitBudget): boolean {
    const slots = this.#slots.get(address);
    if (slots !== undefined) {
      slots.push(slot);
      return true;
    }
    this.#slots.set(address, [slot]);
    if (this.#put(address, slot)) return true;
    if (this.#rebuild(budget)) return true;
    this.#slots.delete(address);
    return false;
  }

  /** Takes back one `add`. Other peers at the address stay. */
  remove(address: number, slot: number): void {
    const slots = this.#slots.get(address)!;
    slots.splice(slots.indexOf(slot), 1);
    if (slots.length === 0) this.#slots.delete(address);
    const cell = this.#find(this.#current_offset, address)!;
    Atomics.store(this.#u64, cell, cellOf(address, slots.length === 0 ? -1 : slots[0]!));
  }

  /** Writes an address that has no live cell into the current table, if there is room for it. */
  #put(address: number, slot: number): boolean {
    const cell = this.#find(this.#current_offset, address);
    if (cell === null) return false;
    if (Atomics.load(this.#u64, cell) === 0n) {
      if (this.#usedCount >= this.usedCountMax) return false;
      this.#usedCount++;
    }
    Atomics.store(this.#u64, cell, cellOf(address, slot));
    return true;
  }

  /** Builds all that is live in the other table, without the removed cells, and switches to it. */
  #rebuild(budget: WaitBudget): boolean {
    if (this.#slots.size > this.usedCountMax) return false;
    if (!this.epochs.waitPassed(this.#switched, budget)) return false;
    const other_offset = this.#current_offset === SOURCE_TABLE_A_OFFSET
      ? SOURCE_TABLE_B_OFFSET
      : SOURCE_TABLE_A_OFFSET;
    this.#u64.fill(0n, other_offset / 8, other_offset / 8 + SOURCE_CELL_COUNT);
    for (const [address, slots] of this.#slots) {
      const cell = this.#find(other_offset, address);
      if (cell === null) return false;
      Atomics.store(this.#u64, cell, cellOf(address, slots[0]!));
    }
    Atomics.store(this.#u32, SOURCE_TABLE_CURRENT_OFFSET / 4, other_offset);
    this.#switched = this.epochs.snapshot();
    this.#current_offset = other_offset;
    this.#usedCount = this.#slots.size;
    return true;
  }

  /** Index of the cell with the address, else of the empty one for it, else null: all taken. */
  #find(table_offset: number, address: number): number | null {
    let cell = Math.imul(address, SOURCE_HASH_MULTIPLIER) >>> (32 - SOURCE_CELL_COUNT_BITS);
    for (let probe = 0; probe < SOURCE_PROBE_MAX; probe++) {
      const index = table_offset / 8 + cell;
      const value = Atomics.load(this.#u64, index);
      if (value === 0n || value >> 32n === BigInt(address)) return index;
      cell = (cell + 1) % SOURCE_CELL_COUNT;
    }
    return null;
  }
}

/** Slot -1: removed. */
function cellOf(address: number, slot: number): bigint {
  return BigInt(address) << 32n | BigInt(slot + 1);
}
