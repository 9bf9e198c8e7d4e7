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
/** `linux/in.h`, `linux/udp.h`. */
const IPPROTO_UDP = 17;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;
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

/**
 * What the kernel can do with many datagrams at once: send those of one size as one (Linux 4.18),
 * and hand over those of one sender as one (5.0).
 */
export type UdpOffload = "udp-segment" | "udp-gro";

/**
 * Switches on what is wanted and the kernel has, and returns that. A socket with `udp-gro` must be
 * read with room for a control message; `udp-segment` needs one with each send.
 */
export function enableUdpOffloads(fd: number, wanted: readonly UdpOffload[]): UdpOffload[] {
  // Size 0 changes nothing: whether it can be set is what is asked.
  const options = { "udp-segment": [UDP_SEGMENT, 0], "udp-gro": [UDP_GRO, 1] } as const;
  return wanted.filter((offload) => {
    const [option, value] = options[offload];
    const bytes = int32Option(value);
    return libc.setsockopt(fd, IPPROTO_UDP, option, bytes, bytes.length) === 0;
  });
}
