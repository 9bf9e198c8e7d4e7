/** What the kernel says of the host as a whole. */
import { closeFd } from "./fd.ts";
import { binding, check, LIBRARY } from "./libc.ts";
import { HOST_SYMBOLS } from "./symbols.ts";

/** `asm-generic/unistd.h`, and x64's: the same number. */
const SYS_IO_URING_SETUP = 425;
/** `sizeof(struct io_uring_params)` (`linux/io_uring.h`) */
const IO_URING_PARAMS_BYTES = 120;
/** `struct timex` (`linux/timex.h`) on 64-bit machines, and more room than it takes. */
const TIMEX_BYTES = 256;
const TIMEX_STATUS_OFFSET = 40;
const STA_UNSYNC = 0x40;
/** `linux/time.h` */
const CLOCK_BOOTTIME = 7;

const host = binding.load(LIBRARY, HOST_SYMBOLS);

/**
 * Makes an io_uring and closes it. Throws `SystemError`: `ENOSYS` before Linux 5.1, `EPERM` where
 * it is switched off.
 */
export function probeIoUring(): void {
  const params = new Uint8Array(IO_URING_PARAMS_BYTES);
  closeFd(check(host.syscall(SYS_IO_URING_SETUP, 1, params), "io_uring_setup"));
}

/** `struct timespec` on 64-bit machines: seconds, nanoseconds. */
const timespec = new BigInt64Array(2);
const timespecBytes = new Uint8Array(timespec.buffer);

/** Milliseconds since the machine was started, including its sleep; this clock cannot be set. */
export function bootTime_ms(): number {
  check(host.clock_gettime(CLOCK_BOOTTIME, timespecBytes), "read the clock");
  return Number(timespec[0]) * 1e3 + Number(timespec[1]) / 1e6;
}

/** Whether something keeps the kernel's clock right (adjtimex(2)). Throws `SystemError`. */
export function isClockSynchronised(): boolean {
  // With modes 0, which it begins with, nothing is changed.
  const timex = new Uint8Array(TIMEX_BYTES);
  check(host.adjtimex(timex), "read the clock's state");
  const status = new DataView(timex.buffer).getInt32(TIMEX_STATUS_OFFSET, true);
  return (status & STA_UNSYNC) === 0;
}
