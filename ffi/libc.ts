/** The C library behind one interface, whichever runtime this is. Only `ffi/` imports it. */
import { existsSync, readFileSync } from "node:fs";
import { SystemError } from "./errno.ts";
import { createBunBinding } from "./libc_bun.ts";
import { binding as denoBinding } from "./libc_deno.ts";
import { type Functions, type Signature, SYMBOLS } from "./symbols.ts";

/** What each of the two bindings offers. */
export interface Binding {
  /** Opens the library and binds every function of the table. */
  load<T extends Record<string, Signature>>(library: string, table: T): Functions<T>;
  /** Reads this thread's errno; valid until the next call of any kind on this thread. */
  errnoReader(library: string): () => number;
  /** The native address of a buffer that never moves (shared WebAssembly memory). */
  addressOf(bytes: Uint8Array): number;
}

/** Whether `/proc/self/maps` names musl; false also where there is no `/proc` to ask. */
function isOnMusl(): boolean {
  try {
    return readFileSync("/proc/self/maps", "latin1").includes("ld-musl");
  } catch {
    // Glibc's runtime does not get this far without /proc; musl's does.
    return !existsSync("/proc/self");
  }
}

/** The file name of the C library this very process runs on. */
function libraryName(): string {
  if (!isOnMusl()) return "libc.so.6";
  return `libc.musl-${process.arch === "arm64" ? "aarch64" : "x86_64"}.so.1`;
}

/**
 * The binding of the runtime that this is. Without an `await`: a worker whose module waits for
 * another never begins where that comes as bytecode (Bun 1.4).
 */
function createBinding(): Binding {
  return "Bun" in globalThis ? createBunBinding() : denoBinding;
}

export const LIBRARY: string = libraryName();
export const binding: Binding = createBinding();
export const libc: Functions<typeof SYMBOLS> = binding.load(LIBRARY, SYMBOLS);

/** errno of the call just before, on this thread. */
export const lastErrno: () => number = binding.errnoReader(LIBRARY);

/** Passes a result on; throws a `SystemError` for `operation` if it is negative. */
export function check(result: number, operation: string): number {
  if (result >= 0) return result;
  throw new SystemError(operation, lastErrno());
}

/** A C string, owned by the caller. Throws if the text holds a NUL. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  if (text.includes("\0")) throw new TypeError(`a NUL in ${JSON.stringify(text)}`);
  return new TextEncoder().encode(text + "\0");
}
