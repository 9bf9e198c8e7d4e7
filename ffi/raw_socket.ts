/** A socket that takes whole IPv4 packets, header included (raw(7)). */
import { check, libc } from "./libc.ts";
import { AF_INET, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW } from "./socket_address.ts";

/** `linux/in.h`: for sending alone, and the header is the sender's (IP_HDRINCL). */
const IPPROTO_RAW = 255;

/**
 * Opens a non-blocking socket for sending IPv4 packets; the kernel routes each by the address it is
 * sent to. Throws `SystemError`, `EPERM` without CAP_NET_RAW. The caller owns the descriptor.
 */
export function openRawSocket(): number {
  const type = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC;
  return check(libc.socket(AF_INET, type, IPPROTO_RAW), "open a raw socket");
}
