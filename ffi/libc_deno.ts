/** The binding for Deno: `Deno.dlopen`. */
import type { Binding } from "./libc.ts";
import type { Functions, Signature } from "./symbols.ts";

export const binding: Binding = {
  load<T extends Record<string, Signature>>(library: string, table: T): Functions<T> {
    const definitions = Object.fromEntries(
      Object.entries(table).map(([name, symbol]) => [
        name,
        { parameters: [...symbol.parameters], result: "i32" as const },
      ]),
    );
    return Deno.dlopen(library, definitions).symbols as unknown as Functions<T>;
  },

  errnoReader(library: string): () => number {
    const definition = { parameters: [], result: "pointer" } as const;
    const { symbols } = Deno.dlopen(library, { __errno_location: definition });
    const location = symbols.__errno_location();
    if (location === null) throw new Error("__errno_location returned NULL");
    // The address is this thread's for as long as it lives.
    const view = new Deno.UnsafePointerView(location);
    return () => view.getInt32();
  },

  addressOf(bytes: Uint8Array): number {
    return Number(
      Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes as Uint8Array<ArrayBuffer>)),
    );
  },
};
