/** The module's pure functions over a memory of their own. */
import { readFileSync } from "node:fs";
import { MEMORY_PAGES } from "../../wasm/layout.ts";
import { type SharedMemory, viewMemory } from "../../src/dataplane/memory.ts";

/** Returns the error's size; `source` is an address (IPv4), or where it lies (IPv6). */
type IcmpBuild = (
  at: number,
  packet: number,
  size: number,
  source: number,
  type: number,
  code: number,
  word: number,
) => number;

/** What `wasm/test_exports.ts` exports; offsets are into the memory, an i32 is signed. */
export interface PureFunctions {
  fragmentOpen(
    headers: number,
    headersSize: number,
    payload: number,
    payloadSize: number,
    mtu: number,
  ): number;
  fragmentWriteHeaders(at: number, index: number): number;
  fragmentPayloadAt(index: number): number;
  fragmentPayloadSize(index: number): number;
  /** 0, or the drop reason. */
  ipv6Check(packet: number, size: number): number;
  ipv6DecrementHopLimit(packet: number): number;
  icmpMayAnswer6(packet: number, size: number, type: number): number;
  icmpBuild: IcmpBuild;
  icmpBuild6: IcmpBuild;
  /** A slot, or -1; `table` is a prefix table's offset. */
  prefixLookup(table: number, high: bigint, low: bigint): number;
}

/** From here on the memory is a test's: no pure function keeps anything in it. */
export const AREA = 1 << 24;

const MODULE = new WebAssembly.Module(
  readFileSync(new URL("../../wasm/build/loops.wasm", import.meta.url)),
);

/** An instance over a memory; none of its system calls does anything. */
export function instantiatePure(memory: WebAssembly.Memory): PureFunctions {
  const sys: Record<string, () => number> = {};
  for (const { module, name } of WebAssembly.Module.imports(MODULE)) {
    if (module === "sys") sys[name] = () => -38;
  }
  const { exports } = new WebAssembly.Instance(MODULE, { env: { memory }, sys });
  return exports as unknown as PureFunctions;
}

/** A fresh memory and an instance over it. */
export function pure(): { shared: SharedMemory; functions: PureFunctions } {
  const pages = { initial: MEMORY_PAGES, maximum: MEMORY_PAGES, shared: true };
  const memory = new WebAssembly.Memory(pages);
  return { shared: viewMemory(memory), functions: instantiatePure(memory) };
}
