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

/**
 * Outer addresses of peers to their slots. Several peers may share one address. The shared memory
 * is all the record there is, but for those that share.
 */
export class SourceTable {
  readonly #u32: Uint32Array<SharedArrayBuffer>;
  readonly #u64: BigUint64Array<SharedArrayBuffer>;
  /** The peers at an address beside the one that look-ups find there. */
  readonly #others = new Map<number, number[]>();
  #current_offset = SOURCE_TABLE_A_OFFSET;
  /** Cells of the current table that lead to a peer. */
  #liveCount = 0;
  /** Those that are not empty: removed ones too. */
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
    const cell = this.#find(this.#current_offset, address);
    if (cell !== null && this.#slotAt(cell) !== REMOVED) {
      const others = this.#others.get(address);
      if (others === undefined) this.#others.set(address, [slot]);
      else others.push(slot);
      return true;
    }
    const isAdded = cell !== null && this.#put(cell, address, slot) ||
      this.#rebuildWith(address, slot, budget);
    if (isAdded) this.#liveCount++;
    return isAdded;
  }

  /** Takes back one `add`. Other peers at the address stay. */
  remove(address: number, slot: number): void {
    const cell = this.#find(this.#current_offset, address)!;
    const others = this.#others.get(address) ?? [];
    if (this.#slotAt(cell) === slot) {
      const next = others.shift() ?? REMOVED;
      if (next === REMOVED) this.#liveCount--;
      Atomics.store(this.#u64, cell, cellOf(address, next));
    } else {
      others.splice(others.indexOf(slot), 1);
    }
    if (others.length === 0) this.#others.delete(address);
  }

  /** The slot in a cell; `REMOVED` also if the cell is empty. */
  #slotAt(cell: number): number {
    return Number(Atomics.load(this.#u64, cell) & 0xffff_ffffn) - 1;
  }

  /** Writes an address that leads nowhere yet into its cell, if the table has room for it. */
  #put(cell: number, address: number, slot: number): boolean {
    if (Atomics.load(this.#u64, cell) === 0n) {
      if (this.#usedCount >= this.usedCountMax) return false;
      this.#usedCount++;
    }
    Atomics.store(this.#u64, cell, cellOf(address, slot));
    return true;
  }

  /** Builds all that is live, and this, in the other table, and switches to it. */
  #rebuildWith(address: number, slot: number, budget: WaitBudget): boolean {
    if (this.#liveCount >= this.usedCountMax) return false;
    if (!this.epochs.waitPassed(this.#switched, budget)) return false;
    const other_offset = this.#current_offset === SOURCE_TABLE_A_OFFSET
      ? SOURCE_TABLE_B_OFFSET
      : SOURCE_TABLE_A_OFFSET;
    this.#u64.fill(0n, other_offset / 8, other_offset / 8 + SOURCE_CELL_COUNT);
    const copy = (liveAddress: number, liveSlot: number): boolean => {
      const cell = this.#find(other_offset, liveAddress);
      if (cell !== null) Atomics.store(this.#u64, cell, cellOf(liveAddress, liveSlot));
      return cell !== null;
    };
    const first = this.#current_offset / 8;
    for (let cell = first; cell < first + SOURCE_CELL_COUNT; cell++) {
      const liveSlot = this.#slotAt(cell);
      if (liveSlot === REMOVED) continue;
      if (!copy(Number(Atomics.load(this.#u64, cell) >> 32n), liveSlot)) return false;
    }
    if (!copy(address, slot)) return false;
    Atomics.store(this.#u32, SOURCE_TABLE_CURRENT_OFFSET / 4, other_offset);
    this.#switched = this.epochs.snapshot();
    this.#current_offset = other_offset;
    this.#usedCount = this.#liveCount + 1;
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

/** In place of a slot: the peer is gone, and the cell still on the way to others. */
const REMOVED = -1;

function cellOf(address: number, slot: number): bigint {
  return BigInt(address) << 32n | BigInt(slot + 1);
}
