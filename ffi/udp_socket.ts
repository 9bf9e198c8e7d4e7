/** The outer UDP sockets. The packet loops work on their descriptors. */
import { closeFd } from "./fd.ts";
import { check, libc } from "./libc.ts";
import {
  AF_INET6,
  int32Option,
  IPV4_BYTES,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  sockaddrOf,
  SOL_SOCKET,
} from "./socket_address.ts";

/** `asm-generic/socket.h`; the FORCE forms pass `net.core.{r,w}mem_max` and need CAP_NET_ADMIN. */
const SO_REUSEPORT = 15;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
/** `linux/in.h`, `linux/in6.h`, `linux/udp.h`. */
const IPPROTO_IP = 0;
const IPPROTO_UDP = 17;
const IPPROTO_IPV6 = 41;
const IP_MTU_DISCOVER = 10;
const IPV6_MTU_DISCOVER = 23;
const IPV6_V6ONLY = 26;
const PMTUDISC_PROBE = 3;
const UDP_SEGMENT = 103;
const UDP_GRO = 104;
/** Room for a burst while the other loop has the processor. */
const SOCKET_BUFFER_BYTES = 4 * 1024 * 1024;

export interface UdpSocketOptions {
  /**
   * Others of this process's user may bind the same address and port, if they all say so; the
   * kernel keeps each flow on one of the sockets. False if left out.
   */
  readonly isPortShared?: boolean;
  /**
   * No datagram is cut on its way: one larger than the interface carries fails with `EMSGSIZE`.
   * ICMP messages about the path change nothing, because anybody can forge them. False if left
   * out: this host cuts what is larger than the path is known to carry.
   */
  readonly isWhole?: boolean;
  /** Nobody will read from it: it keeps as little as can be of what is sent to it. */
  readonly isSendOnly?: boolean;
}

function setOption(fd: number, level: number, option: number, value: number, what: string): void {
  const bytes = int32Option(value);
  check(libc.setsockopt(fd, level, option, bytes, bytes.length), what);
}

/** What must hold before the socket is bound. */
function prepare(fd: number, isV6: boolean, { isPortShared, isWhole }: UdpSocketOptions): void {
  if (isV6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1, "keep a socket to IPv6");
  if (isPortShared) setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1, "share a UDP port");
  if (!isWhole) return;
  const [level, option] = isV6 ? [IPPROTO_IPV6, IPV6_MTU_DISCOVER] : [IPPROTO_IP, IP_MTU_DISCOVER];
  setOption(fd, level, option, PMTUDISC_PROBE, "set path MTU discovery");
}

/**
 * Opens a non-blocking socket bound to `address` (4 or 16 bytes, network order) and `port`; 0: one
 * that is free. One of IPv6 carries no IPv4. Throws `SystemError`, `EADDRINUSE` if the port is
 * taken. The caller owns the descriptor.
 */
export function openUdpSocket(
  address: Uint8Array,
  port: number,
  options: UdpSocketOptions = {},
): number {
  const { family, name } = sockaddrOf(address, port);
  const type = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const fd = check(libc.socket(family, type, 0), "open a UDP socket");
  try {
    prepare(fd, family === AF_INET6, options);
    check(libc.bind(fd, name, name.length), `bind ${whereText(address, port)}/udp`);
    // Without CAP_NET_ADMIN in the first user namespace this fails; the default size serves too.
    const size = int32Option(SOCKET_BUFFER_BYTES);
    const receiveSize = options.isSendOnly ? int32Option(0) : size;
    libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, receiveSize, receiveSize.length);
    libc.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, size, size.length);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** `192.0.2.1:8285`, `[2001:db8:0:0:0:0:0:1]:8472` */
function whereText(address: Uint8Array, port: number): string {
  if (address.length === IPV4_BYTES) return `${address.join(".")}:${port}`;
  const view = new DataView(address.buffer, address.byteOffset);
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(i * 2).toString(16));
  return `[${groups.join(":")}]:${port}`;
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
