/** The binding for Bun: `bun:ffi`. */
import type { Binding } from "./libc.ts";
import type { Functions, NativeType, Signature } from "./symbols.ts";

const TYPES: Record<NativeType, string> = { i32: "i32", u32: "u32", usize: "usize", buffer: "ptr" };

/** Throws where there is no `bun:ffi`. Not an import: Deno, which has none, reads this file too. */
export function createBunBinding(): Binding {
  const ffi: unknown = process.getBuiltinModule("bun:ffi");
  const { dlopen, ptr, read } = ffi as typeof import("bun:ffi");
  return {
    load<T extends Record<string, Signature>>(library: string, table: T): Functions<T> {
      const definitions = Object.fromEntries(
        Object.entries(table).map(([name, symbol]) => [
          name,
          { args: symbol.parameters.map((type) => TYPES[type]), returns: "i32" },
        ]),
      );
      return dlopen(library, definitions).symbols as unknown as Functions<T>;
    },

    errnoReader(library: string): () => number {
      const definition = { args: [], returns: "ptr" };
      const { symbols } = dlopen(library, { __errno_location: definition });
      // The address is this thread's for as long as it lives.
      const address = symbols["__errno_location"]!();
      return () => read.i32(address, 0);
    },

    addressOf(bytes: Uint8Array): number {
      return ptr(bytes);
    },
  };
}
