/** eventfd(2): what wakes a loop that waits in poll. */
import { check, libc } from "./libc.ts";

const EFD_CLOEXEC = 0o2000000;
const EFD_NONBLOCK = 0o4000;

/** A new eventfd with count 0, non-blocking. The caller owns it (`closeFd`). */
export function createEventFd(): number {
  return check(libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd");
}

/** Adds 1: everyone who polls it wakes, until it is read. */
export function signalEventFd(fd: number): void {
  const one = new Uint8Array(new BigUint64Array([1n]).buffer);
  check(libc.write(fd, one, one.length), "write to an eventfd");
}
