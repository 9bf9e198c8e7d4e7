/** One datagram to a unix socket, as sd_notify(3) wants it. */
import { closeFd } from "./fd.ts";
import { check, libc } from "./libc.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, sockaddrUn } from "./socket_address.ts";

/** Sends `text` to the socket at `path` (`@name`: abstract). Throws `SystemError`. */
export function sendUnixDatagram(path: string, text: string): void {
  const fd = check(libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), "open a unix socket");
  try {
    const bytes = new TextEncoder().encode(text);
    const name = sockaddrUn(path);
    check(libc.sendto(fd, bytes, bytes.length, 0, name, name.length), `send to ${path}`);
  } finally {
    closeFd(fd);
  }
}
