/**
 * The C library functions that Selvage uses, once for both runtimes. Variadic functions (`open`,
 * `ioctl`, `prctl`) are declared with the arguments used: on Linux x64 and arm64 they are passed
 * alike. Results that the C library types `ssize_t` are declared `i32`: none here exceeds it, and
 * a 64-bit result would cost a BigInt a call.
 */

/** `buffer` is borrowed for the call alone; `usize` is a number or a native address. */
export type NativeType = "i32" | "u32" | "usize" | "buffer";

export interface Signature {
  readonly parameters: readonly NativeType[];
}

/** All of them return `i32`. */
export const SYMBOLS = {
  open: { parameters: ["buffer", "i32", "u32"] },
  close: { parameters: ["i32"] },
  read: { parameters: ["i32", "buffer", "usize"] },
  write: { parameters: ["i32", "buffer", "usize"] },
  ioctl: { parameters: ["i32", "usize", "buffer"] },
  socket: { parameters: ["i32", "i32", "i32"] },
  bind: { parameters: ["i32", "buffer", "u32"] },
  listen: { parameters: ["i32", "i32"] },
  accept4: { parameters: ["i32", "usize", "usize", "i32"] },
  connect: { parameters: ["i32", "buffer", "u32"] },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"] },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"] },
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"] },
  recv: { parameters: ["i32", "buffer", "usize", "i32"] },
  eventfd: { parameters: ["u32", "i32"] },
  unshare: { parameters: ["i32"] },
  setns: { parameters: ["i32", "i32"] },
  poll: { parameters: ["buffer", "usize", "i32"] },
  madvise: { parameters: ["usize", "usize", "i32"] },
  prctl: { parameters: ["i32", "usize", "usize", "usize", "usize"] },
} as const satisfies Record<string, Signature>;

/** `ioctl` for requests whose argument is a number instead of a pointer. */
export const NUMBER_IOCTL = {
  ioctl: { parameters: ["i32", "usize", "usize"] },
} as const satisfies Record<string, Signature>;

/** What is asked once about the host: `syscall` as `io_uring_setup` takes it. */
export const HOST_SYMBOLS = {
  syscall: { parameters: ["usize", "u32", "buffer"] },
  adjtimex: { parameters: ["buffer"] },
  clock_gettime: { parameters: ["i32", "buffer"] },
} as const satisfies Record<string, Signature>;

/** How a process becomes another program; the vectors are arrays of native addresses. */
export const EXEC_SYMBOLS = {
  execve: { parameters: ["buffer", "buffer", "buffer"] },
} as const satisfies Record<string, Signature>;

/** The same on native addresses, for the packet loops. */
export const PACKET_SYMBOLS = {
  read: { parameters: ["i32", "usize", "usize"] },
  write: { parameters: ["i32", "usize", "usize"] },
  writev: { parameters: ["i32", "usize", "i32"] },
  recvmmsg: { parameters: ["i32", "usize", "u32", "i32", "usize"] },
  syscall: { parameters: ["usize", "i32", "usize", "u32", "i32"] },
  poll: { parameters: ["usize", "usize", "i32"] },
} as const satisfies Record<string, Signature>;

type Argument<T extends NativeType> = T extends "buffer" ? Uint8Array | null : number;
type Arguments<P extends readonly NativeType[]> = { -readonly [K in keyof P]: Argument<P[K]> };

/** The functions of a table as they are called. */
export type Functions<T extends Record<string, Signature>> = {
  readonly [K in keyof T]: (...args: Arguments<T[K]["parameters"]>) => number;
};
