/** The part of Bun's `bun:ffi` that Selvage uses; `deno.json` maps the name to this file. */
export interface Definition {
  args: string[];
  returns: string;
}
// deno-lint-ignore no-explicit-any -- the argument types come from the symbol table
export type NativeFunction = (...args: any[]) => number;
export function dlopen(
  library: string,
  symbols: Record<string, Definition>,
): { symbols: Record<string, NativeFunction> };
export function ptr(view: Uint8Array): number;
export const read: { i32(address: number, offset: number): number };
