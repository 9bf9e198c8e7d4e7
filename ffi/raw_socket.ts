/** A socket that takes whole IP packets, header included (raw(7), ipv6(7)). */
import { check, libc } from "./libc.ts";
import { AF_INET, AF_INET6, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW } from "./socket_address.ts";

/** `linux/in.h`: for sending alone, and the header is the sender's (IP_HDRINCL). */
const IPPROTO_RAW = 255;

/**
 * Opens a non-blocking socket for sending packets of the family, IPv4 if left out; the kernel
 * routes each by the address it is sent to. Throws `SystemError`, `EPERM` without CAP_NET_RAW,
 * `EAFNOSUPPORT` where the kernel has no IPv6. The caller owns the descriptor.
 */
export function openRawSocket(family: 4 | 6 = 4): number {
  const type = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const domain = family === 4 ? AF_INET : AF_INET6;
  return check(libc.socket(domain, type, IPPROTO_RAW), `open a raw IPv${family} socket`);
}
