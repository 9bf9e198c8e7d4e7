/** What is common to all file descriptors. */
import { check, cString, libc } from "./libc.ts";

/** Opens a file; `flags` as in `asm-generic/fcntl.h`. The caller owns it. Throws `SystemError`. */
export function openFd(path: string, flags: number): number {
  return check(libc.open(cString(path), flags, 0), `open ${path}`);
}

/** Closes a descriptor. A failure is ignored: Linux frees the number all the same. */
export function closeFd(fd: number): void {
  libc.close(fd);
}
