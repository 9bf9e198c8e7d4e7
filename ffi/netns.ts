/** Network namespaces (namespaces(7)), held by descriptor: the last user's end is theirs. */
import { closeFd, openFd } from "./fd.ts";
import { check, libc } from "./libc.ts";

const CLONE_NEWNET = 0x40000000;
const O_RDONLY = 0;
const O_CLOEXEC = 0o2000000;
/** The namespace of the calling thread, which `/proc/self` is not: that is the first thread's. */
const THREAD_NAMESPACE = "/proc/thread-self/ns/net";

/** A namespace that lives while its descriptor is open or a process or device is in it. */
export interface Netns {
  readonly fd: number;
}

/** The namespace the calling thread is in. The caller owns the result (`closeNetns`). */
export function currentNetns(): Netns {
  return { fd: openFd(THREAD_NAMESPACE, O_RDONLY | O_CLOEXEC) };
}

/** Moves the calling thread, and no other, into the namespace. Throws `SystemError`. */
function enter(netns: Netns): void {
  check(libc.setns(netns.fd, CLONE_NEWNET), "enter a network namespace");
}

/**
 * A new, empty namespace with its loopback down. The calling thread is where it was afterwards.
 * Throws `SystemError`: `EPERM` without CAP_SYS_ADMIN. The caller owns it (`closeNetns`).
 */
export function createNetns(): Netns {
  const before = currentNetns();
  try {
    check(libc.unshare(CLONE_NEWNET), "make a network namespace");
    try {
      return currentNetns();
    } finally {
      enter(before);
    }
  } finally {
    closeNetns(before);
  }
}

/**
 * Runs a function with the calling thread inside the namespace: sockets it opens and processes it
 * starts are born there and stay. It must be synchronous. The thread is back afterwards, also when
 * the function throws.
 */
export function withNetns<T>(netns: Netns, run: () => T): T {
  const before = currentNetns();
  try {
    enter(netns);
    try {
      return run();
    } finally {
      enter(before);
    }
  } finally {
    closeNetns(before);
  }
}

export function closeNetns(netns: Netns): void {
  closeFd(netns.fd);
}
