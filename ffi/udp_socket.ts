/** The outer UDP socket. The packet loops work on its descriptor. */
import { closeFd } from "./fd.ts";
import { check, libc } from "./libc.ts";
import {
  AF_INET,
  int32Option,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  sockaddrIn,
  SOL_SOCKET,
} from "./socket_address.ts";

/** `asm-generic/socket.h`; the FORCE forms pass `net.core.{r,w}mem_max` and need CAP_NET_ADMIN. */
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
/** Room for a burst while the other loop has the processor. */
const SOCKET_BUFFER_BYTES = 4 * 1024 * 1024;

/**
 * Opens a non-blocking IPv4 socket bound to `address` (4 bytes, network order) and `port`.
 * Throws `SystemError`, `EADDRINUSE` if the port is taken. The caller owns the descriptor.
 */
export function openUdpSocket(address: Uint8Array, port: number): number {
  const where = `${address.join(".")}:${port}`;
  const type = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const fd = check(libc.socket(AF_INET, type, 0), "open a UDP socket");
  try {
    const name = sockaddrIn(address, port);
    check(libc.bind(fd, name, name.length), `bind ${where}/udp`);
    // Without CAP_NET_ADMIN in the first user namespace this fails; the default size serves too.
    const size = int32Option(SOCKET_BUFFER_BYTES);
    libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, size, size.length);
    libc.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, size, size.length);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}
