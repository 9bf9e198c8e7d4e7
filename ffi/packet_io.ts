/** The system calls that the WASM packet loops import, on offsets into their shared memory. */
import { binding, lastErrno, LIBRARY } from "./libc.ts";
import { pathMtu } from "./path_mtu.ts";
import { PACKET_SYMBOLS } from "./symbols.ts";

/** Every call returns the system call's result, or -errno. Offsets are bytes into the memory. */
export interface PacketIo {
  read(fd: number, offset: number, size_bytes: number): number;
  write(fd: number, offset: number, size_bytes: number): number;
  writev(fd: number, iovecs_offset: number, count: number): number;
  recvmmsg(fd: number, vector_offset: number, count: number, flags: number): number;
  sendmmsg(fd: number, vector_offset: number, count: number, flags: number): number;
  poll(fds_offset: number, count: number, timeout_ms: number): number;
  /** Bytes of the largest IP packet that the path to the address at `name_offset` carries. */
  path_mtu(name_offset: number, size_bytes: number): number;
  /** Milliseconds since 1970. */
  now_ms(): number;
}

/**
 * `asm/unistd.h`. Called by number, since musl's sendmmsg is a loop over sendmsg: one system call a
 * packet.
 */
const SYS_SENDMMSG = process.arch === "arm64" ? 269 : 307;

/** The native address of a shared memory that was made with initial = maximum, so never moves. */
export function memoryAddress(memory: WebAssembly.Memory): number {
  return binding.addressOf(new Uint8Array(memory.buffer));
}

/** The calls for one memory, for use on the calling thread alone. */
export function packetIo(memory: WebAssembly.Memory): PacketIo {
  const base = memoryAddress(memory);
  const native = binding.load(LIBRARY, PACKET_SYMBOLS);
  const result = (value: number): number => value < 0 ? -lastErrno() : value;
  return {
    read: (fd, offset, size_bytes) => result(native.read(fd, base + offset, size_bytes)),
    write: (fd, offset, size_bytes) => result(native.write(fd, base + offset, size_bytes)),
    writev: (fd, iovecs_offset, count) => result(native.writev(fd, base + iovecs_offset, count)),
    recvmmsg: (fd, vector_offset, count, flags) =>
      result(native.recvmmsg(fd, base + vector_offset, count, flags, 0)),
    sendmmsg: (fd, vector_offset, count, flags) =>
      result(native.syscall(SYS_SENDMMSG, fd, base + vector_offset, count, flags)),
    poll: (fds_offset, count, timeout_ms) =>
      result(native.poll(base + fds_offset, count, timeout_ms)),
    path_mtu: (name_offset, size_bytes) =>
      // A copy: the library takes no view of shared memory.
      pathMtu(new Uint8Array(memory.buffer, name_offset, size_bytes).slice()),
    now_ms: Date.now,
  };
}
