/** Whether a program still reads what we write. */
import { libc } from "./libc.ts";

/** Of poll(2) (asm-generic/poll.h); both are reported without being asked for. */
const POLLERR = 0x008;
const POLLHUP = 0x010;
/** struct pollfd: int fd, short events, short revents. */
const POLLFD_SIZE_BYTES = 8;
const REVENTS = 6;

/**
 * Whether the other end of a pipe, a socket or a terminal is gone, so that a write would fail. The
 * writer of a pipe learns of it in no other way before its next write.
 */
export function isHungUp(fd: number): boolean {
  const entry = new DataView(new ArrayBuffer(POLLFD_SIZE_BYTES));
  entry.setInt32(0, fd, true);
  if (libc.poll(new Uint8Array(entry.buffer), 1, 0) <= 0) return false;
  return (entry.getInt16(REVENTS, true) & (POLLERR | POLLHUP)) !== 0;
}
