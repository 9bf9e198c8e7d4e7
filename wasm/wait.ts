/** Waiting, always on the wake descriptor too; `struct pollfd` (`asm-generic/poll.h`). */
import {
  BATCH_SIZE_MAX,
  COUNTER_READ_ERRORS,
  LANE_WAKE_FD_OFFSET,
  POLLFD_SIZE,
  STOP_FLAG_OFFSET,
  WORK_POLL_OFFSET,
} from "./layout.ts";
import { count } from "./counters.ts";
import { EAGAIN, EBADF, EINTR, EIO, isDead, POLLIN, POLLNVAL } from "./kernel.ts";
import * as lane from "./lane.ts";
import { poll } from "./sys.ts";

const POLLFD_FD = 0;
const POLLFD_EVENTS = 4;
const POLLFD_REVENTS = 6;

/** The loop was asked to end. */
export const WOKEN: i32 = 1 << 16;

/** Failed reads in a row after which a loop gives up, about a second with the pause between. */
const FAILURES_MAX = 100;
const FAILURE_PAUSE_MS = 10;

/** Failed reads since one succeeded. Of this instance, which runs one loop. */
let failures: i32 = 0;
/** What the last wait said that the descriptor is ready for. */
let ready: i32 = 0;

export function isStopped(): bool {
  return atomic.load<u32>(STOP_FLAG_OFFSET) !== 0;
}

function setFd(at: i32, fd: i32, events: i32): void {
  store<i32>(at + POLLFD_FD, fd);
  store<i16>(at + POLLFD_EVENTS, <i16> events);
  store<i16>(at + POLLFD_REVENTS, 0);
}

/**
 * Waits until `fd` (-1: none) is ready for `events`, at most `timeout_ms` (-1: for ever). Returns
 * what it is ready for, with the kernel's error bits; 0 if time is up or a signal came; WOKEN; or
 * -errno. Anything at all about the wake descriptor means WOKEN: it is the last thing that happens.
 */
export function wait(fd: i32, events: i32, timeout_ms: i32): i32 {
  const fds = lane.work + WORK_POLL_OFFSET;
  setFd(fds, fd, events);
  setFd(fds + POLLFD_SIZE, lane.field(LANE_WAKE_FD_OFFSET), POLLIN);
  const result = poll(fds, 2, timeout_ms);
  if (result < 0) return result === -EINTR ? 0 : result;
  if (load<i16>(fds + POLLFD_SIZE + POLLFD_REVENTS) !== 0) return WOKEN;
  const ready = <i32> load<u16>(fds + POLLFD_REVENTS);
  return (ready & POLLNVAL) !== 0 ? -EBADF : ready;
}

/** Before a loop's first batch. */
export function startWaiting(): void {
  failures = 0;
  ready = 0;
}

/**
 * After a batch, outside it: waits for the next as the last result of reading from `fd` asks.
 * A full batch: not at all. Less, or -EAGAIN: until there is more. Any other -errno: a moment, and
 * not too often in a row. Returns 0 to go on, WOKEN, or -errno to end with.
 */
export function waitForMore(fd: i32, result: i32): i32 {
  // The kernel says that something is wrong with the descriptor, yet a read finds nothing.
  const isBroken = result === -EAGAIN && (ready & ~POLLIN) !== 0;
  const error = isBroken ? -EIO : min(result, 0);
  ready = 0;
  if (isDead(error)) return error;
  if (result > 0) failures = 0;
  if (result === BATCH_SIZE_MAX) return 0;
  if (error === 0 || error === -EAGAIN || error === -EINTR) {
    ready = wait(fd, POLLIN, -1);
    if (ready === POLLIN) failures = 0;
  } else {
    count(COUNTER_READ_ERRORS, 1);
    failures++;
    if (failures === FAILURES_MAX) return error;
    ready = wait(-1, 0, FAILURE_PAUSE_MS);
  }
  return ready < 0 || ready === WOKEN ? ready : 0;
}
