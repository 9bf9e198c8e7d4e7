/** The shared memory of the packet loops; `wasm/layout.ts` says what is where in it. */
import {
  MEMORY_PAGES,
  SOURCE_TABLE_A_OFFSET,
  SOURCE_TABLE_CURRENT_OFFSET,
} from "../../wasm/layout.ts";

/** One memory and its views, each over the whole of it: index = offset / element size. */
export interface SharedMemory {
  readonly memory: WebAssembly.Memory;
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  readonly u32: Uint32Array<SharedArrayBuffer>;
  readonly u64: BigUint64Array<SharedArrayBuffer>;
}

/** The views of a memory made by `createMemory`, on any thread. */
export function viewMemory(memory: WebAssembly.Memory): SharedMemory {
  // The type library knows memories that are not shared only.
  const buffer = memory.buffer as unknown as SharedArrayBuffer;
  return {
    memory,
    bytes: new Uint8Array(buffer),
    u32: new Uint32Array(buffer),
    u64: new BigUint64Array(buffer),
  };
}

/** A new memory with empty tables. It never grows, so it never moves. */
export function createMemory(): SharedMemory {
  const shared = viewMemory(
    new WebAssembly.Memory({ initial: MEMORY_PAGES, maximum: MEMORY_PAGES, shared: true }),
  );
  Atomics.store(shared.u32, SOURCE_TABLE_CURRENT_OFFSET / 4, SOURCE_TABLE_A_OFFSET);
  return shared;
}
