/** What a connection over TCP fails of, as the kernel says it (tcp(7), connect(2)). */
import { errnoName, errnoNumber } from "./errno.ts";
import { closeFd } from "./fd.ts";
import { lastErrno, libc } from "./libc.ts";
import {
  int32Option,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  sockaddrOf,
  SOL_SOCKET,
} from "./socket_address.ts";

/** `asm-generic/socket.h` */
const SO_ERROR = 4;
/** How often a connection that is coming about is looked at. */
const LOOK_MS = 5;
const UNDER_WAY = ["EINPROGRESS", "EALREADY"].map(errnoNumber);
const CONNECTED = errnoNumber("EISCONN");

/** What the network has said meanwhile, for which the kernel itself may try on; 0: nothing. */
function pendingErrno(fd: number): number {
  const value = int32Option(0);
  const size = int32Option(value.length);
  if (libc.getsockopt(fd, SOL_SOCKET, SO_ERROR, value, size) < 0) return lastErrno();
  return new DataView(value.buffer).getInt32(0, true);
}

/**
 * Tries to connect to `address` (4 or 16 bytes, network order), and lets go of the connection.
 * Resolves with the name of what it fails of, `ETIMEDOUT` after `timeout_ms`; null: it does not
 * fail.
 */
export async function tryTcpConnect(
  address: Uint8Array,
  port: number,
  timeout_ms: number,
): Promise<string | null> {
  const { family, name } = sockaddrOf(address, port);
  const fd = libc.socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return errnoName(lastErrno());
  const until_ms = performance.now() + timeout_ms;
  try {
    while (true) {
      // Called again on the same socket it tells what has become of the attempt.
      if (libc.connect(fd, name, name.length) === 0) return null;
      const errno = lastErrno();
      if (errno === CONNECTED) return null;
      const failed = UNDER_WAY.includes(errno) ? pendingErrno(fd) : errno;
      if (failed !== 0) return errnoName(failed);
      if (performance.now() > until_ms) return "ETIMEDOUT";
      await new Promise<void>((resolve) => setTimeout(resolve, LOOK_MS));
    }
  } finally {
    closeFd(fd);
  }
}
