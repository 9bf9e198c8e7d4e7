/** The writing side of the look-up by destination; `wasm/fib.ts` reads. */
import {
  FIB_BLOCK_BIT,
  FIB_BLOCK_COUNT_MAX,
  FIB_BLOCK_ENTRY_COUNT,
  FIB_BLOCK_SIZE,
  FIB_LEVEL1_OFFSET,
  FIB_LEVEL2_OFFSET,
} from "../../wasm/layout.ts";
import type { Epochs, WaitBudget } from "./epochs.ts";
import type { SharedMemory } from "./memory.ts";
import { SlotPool } from "./slot_pool.ts";

const LEVEL1_INDEX = FIB_LEVEL1_OFFSET / 4;
const LEVEL2_INDEX = FIB_LEVEL2_OFFSET / 4;
const IS_BLOCK = 2 ** FIB_BLOCK_BIT;
/** Longest prefix that level 1 holds. */
const LEVEL1_LENGTH = 24;

/** Where a prefix longer than /24 lies in level 2. */
function entryRange(address: number, length: number): { first: number; count: number } {
  return { first: address % FIB_BLOCK_ENTRY_COUNT, count: 2 ** (32 - length) };
}

/**
 * Prefixes, no two of which overlap, to peer slots. A reader sees each address' entry as it was
 * before or after a change, never anything else.
 */
export class Fib {
  readonly #u32: Uint32Array<SharedArrayBuffer>;
  readonly #blocks: SlotPool;
  /** How many prefixes each block in use holds. */
  readonly #prefixCounts = new Map<number, number>();

  constructor(shared: SharedMemory, epochs: Epochs, blockCountMax = FIB_BLOCK_COUNT_MAX) {
    this.#u32 = shared.u32;
    this.#blocks = new SlotPool(blockCountMax, epochs);
  }

  /**
   * Leads a prefix, `address` being its lowest address in host order, to a slot. False, and nothing
   * changed, if no block is free. The prefix must overlap with no other.
   */
  insert(address: number, length: number, slot: number, budget: WaitBudget): boolean {
    if (length <= LEVEL1_LENGTH) {
      this.#setLevel1(address, length, slot + 1);
      return true;
    }
    const index = LEVEL1_INDEX + Math.floor(address / FIB_BLOCK_ENTRY_COUNT);
    const entry = Atomics.load(this.#u32, index);
    const block = entry === 0 ? this.#takeBlock(budget) : entry - IS_BLOCK;
    if (block === null) return false;
    this.#setLevel2(block, address, length, slot + 1);
    this.#prefixCounts.set(block, (this.#prefixCounts.get(block) ?? 0) + 1);
    if (entry === 0) Atomics.store(this.#u32, index, IS_BLOCK + block);
    return true;
  }

  /** Takes back what `insert` did for exactly this prefix. */
  remove(address: number, length: number): void {
    if (length <= LEVEL1_LENGTH) {
      this.#setLevel1(address, length, 0);
      return;
    }
    const index = LEVEL1_INDEX + Math.floor(address / FIB_BLOCK_ENTRY_COUNT);
    const block = Atomics.load(this.#u32, index) - IS_BLOCK;
    this.#setLevel2(block, address, length, 0);
    const prefixCount = this.#prefixCounts.get(block)! - 1;
    this.#prefixCounts.set(block, prefixCount);
    if (prefixCount > 0) return;
    Atomics.store(this.#u32, index, 0);
    this.#prefixCounts.delete(block);
    this.#blocks.release(block);
  }

  #setLevel1(address: number, length: number, entry: number): void {
    const first = LEVEL1_INDEX + Math.floor(address / FIB_BLOCK_ENTRY_COUNT);
    const end = first + 2 ** (LEVEL1_LENGTH - length);
    for (let index = first; index < end; index++) Atomics.store(this.#u32, index, entry);
  }

  #setLevel2(block: number, address: number, length: number, entry: number): void {
    const { first, count } = entryRange(address, length);
    const base = LEVEL2_INDEX + block * (FIB_BLOCK_SIZE / 4) + first;
    for (let index = base; index < base + count; index++) Atomics.store(this.#u32, index, entry);
  }

  /** A block whose entries are all zero: `remove` leaves it so. */
  #takeBlock(budget: WaitBudget): number | null {
    return this.#blocks.take(budget);
  }
}
