/** A raw ICMP socket (raw(7)), for pings. */
import { errnoNumber, SystemError } from "./errno.ts";
import { closeFd } from "./fd.ts";
import { check, lastErrno, libc } from "./libc.ts";
import { AF_INET, SOCK_CLOEXEC, SOCK_RAW, sockaddrIn, SOL_SOCKET } from "./socket_address.ts";

const IPPROTO_ICMP = 1;
const SO_RCVTIMEO = 20;
const PACKET_BYTES_MAX = 65_535;
const EAGAIN = errnoNumber("EAGAIN");
const EINTR = errnoNumber("EINTR");

export class IcmpSocket {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(PACKET_BYTES_MAX);

  /** Throws `SystemError`: `EPERM` without CAP_NET_RAW. */
  constructor() {
    const type = SOCK_RAW | SOCK_CLOEXEC;
    this.#fd = check(libc.socket(AF_INET, type, IPPROTO_ICMP), "open an ICMP socket");
  }

  /** Sends one ICMP message (borrowed) to `address`, 4 bytes in network order. */
  send(address: Uint8Array, message: Uint8Array): void {
    const name = sockaddrIn(address, 0);
    check(
      libc.sendto(this.#fd, message, message.length, 0, name, name.length),
      `ping ${address.join(".")}`,
    );
  }

  /**
   * The next packet, IP header included, or null if none comes within `timeout_ms` (at least 1).
   * It blocks the thread. The array is borrowed until the next call.
   */
  receive(timeout_ms: number): Uint8Array | null {
    const micros = BigInt(Math.max(1, Math.ceil(timeout_ms * 1000)));
    // struct timeval; a whole second of microseconds would be EDOM, none at all means for ever.
    const timeval = new Uint8Array(
      new BigInt64Array([micros / 1_000_000n, micros % 1_000_000n]).buffer,
    );
    check(
      libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, timeval, timeval.length),
      "set the time to wait",
    );
    const size = libc.recv(this.#fd, this.#buffer, this.#buffer.length, 0);
    if (size >= 0) return this.#buffer.subarray(0, size);
    const errno = lastErrno();
    if (errno === EAGAIN) return null;
    // A signal cut the wait short, which the kernel never resumes for a socket with a time limit.
    if (errno === EINTR) return this.receive(timeout_ms);
    throw new SystemError("receive an ICMP message", errno);
  }

  close(): void {
    closeFd(this.#fd);
  }
}
