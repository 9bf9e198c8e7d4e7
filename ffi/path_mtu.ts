/** What the path to an address carries, as the kernel knows it (ip(7), ipv6(7)). */
import { closeFd } from "./fd.ts";
import { lastErrno, libc } from "./libc.ts";
import { AF_INET, AF_INET6, int32Option, SOCK_CLOEXEC, SOCK_DGRAM } from "./socket_address.ts";

/** `linux/in.h`, `linux/in6.h`: of a connected socket. */
const OPTIONS = {
  [AF_INET]: { level: 0, name: 14 },
  [AF_INET6]: { level: 41, name: 24 },
} as const;

function ask(fd: number, name: Uint8Array, family: keyof typeof OPTIONS): number {
  // A datagram socket's connect only looks up the route, and nothing is sent.
  if (libc.connect(fd, name, name.length) < 0) return -lastErrno();
  const value = int32Option(0);
  const option = OPTIONS[family];
  const size = int32Option(value.length);
  if (libc.getsockopt(fd, option.level, option.name, value, size) < 0) return -lastErrno();
  return new DataView(value.buffer).getInt32(0, true);
}

/**
 * Bytes of the largest IP packet that goes to an address uncut, path MTU discovery included; or
 * -errno. `name` is a `sockaddr_in` or `sockaddr_in6`, borrowed.
 */
export function pathMtu(name: Uint8Array): number {
  const family = name[0] === AF_INET6 ? AF_INET6 : AF_INET;
  const fd = libc.socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -lastErrno();
  try {
    return ask(fd, name, family);
  } finally {
    closeFd(fd);
  }
}
