/** The packet loops' module, as `deno task wasm` built it, and what it imports and exports. */
import base64 from "../../wasm/build/loops.b64" with { type: "text" };
import { LAYOUT_HASH } from "../../wasm/layout.ts";
import { SelvageError } from "../errors.ts";
import type { PacketIo } from "../../ffi/packet_io.ts";

/** What `wasm/main.ts` exports. Addresses are IPv4 numbers in host order, read as unsigned. */
export interface Loops {
  layoutHash(): number;
  /**
   * Both run a lane's loop until it is stopped, and return 0, or -errno of a descriptor that died.
   * `base` is the memory's native address.
   */
  runEgress(base: number, lane: number): number;
  runIngress(base: number, lane: number): number;
  /** A peer's slot, or -1. */
  lookupPeer(address: number): number;
  lookupSource(address: number): number;
  checksum(offset: number, size_bytes: number): number;
  adjust(before: number, oldWord: number, newWord: number): number;
  /** Starts cutting the packet at an offset: how many segments it has, or 0 if it has none. */
  segmentOpen(packet: number, size_bytes: number, gsoType: number, gsoSize: number): number;
  segmentHeadersSize(): number;
  /** Writes the headers of segment i to an offset; returns its payload's size. */
  segmentWrite(headers: number, index: number): number;
  /** Starts a group with the packet at an offset; appends one to it if it belongs there. */
  coalesceBegin(packet: number, size_bytes: number): void;
  coalesceAppend(packet: number, size_bytes: number): number;
  /** Readies a group's iovecs at `WRITE_IOVECS_OFFSET`; returns how many. */
  coalesceFinish(): number;
}

/**
 * An instance of the loops over a memory, for the calling thread alone; `io` is what it calls.
 * Throws if the module was built from another `wasm/layout.ts` than this program.
 */
export async function instantiateLoops(memory: WebAssembly.Memory, io: PacketIo): Promise<Loops> {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const imports = { env: { memory }, sys: { ...io } };
  const { instance } = await WebAssembly.instantiate(bytes, imports);
  const loops = instance.exports as unknown as Loops;
  if (loops.layoutHash() !== LAYOUT_HASH) {
    throw new SelvageError("internal", "the packet loops were built for another memory layout", {
      hint: 'Build them again: "deno task wasm".',
    });
  }
  return loops;
}
