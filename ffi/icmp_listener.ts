/** ICMP messages of some types that come in (raw(7), `linux/icmp.h`, `linux/icmpv6.h`). */
import { closeFd } from "./fd.ts";
import { check, libc } from "./libc.ts";
import { receivedChunks } from "./readable.ts";
import {
  AF_INET,
  AF_INET6,
  int32Option,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
} from "./socket_address.ts";

const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const SOL_RAW = 255;
const ICMP_FILTER = 1;
const ICMP6_FILTER = 1;
/** A bit for each type of ICMPv6. */
const ICMP6_FILTER_BYTES = 32;
const MESSAGE_BYTES_MAX = 65_535;

/** The types that do not pass, as both protocols' filters have them: a bit each. */
function setFilter(fd: number, family: 4 | 6, types: readonly number[]): void {
  if (family === 4) {
    const blocked = int32Option(~types.reduce((bits, type) => bits | (1 << type), 0));
    check(libc.setsockopt(fd, SOL_RAW, ICMP_FILTER, blocked, blocked.length), "filter ICMP");
    return;
  }
  const blocked = new Uint8Array(ICMP6_FILTER_BYTES).fill(0xff);
  const words = new DataView(blocked.buffer);
  for (const type of types) {
    const at = (type >> 5) * 4;
    words.setUint32(at, words.getUint32(at, true) & ~(1 << (type & 31)), true);
  }
  check(
    libc.setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, blocked, blocked.length),
    "filter ICMPv6",
  );
}

export class IcmpListener {
  readonly #fd: number;
  #buffer: Uint8Array | null = null;

  /**
   * Hears messages of these types (ICMP: below 32) in the namespace of the calling thread. Throws
   * `SystemError`: `EPERM` without CAP_NET_RAW, `EAFNOSUPPORT` without IPv6.
   */
  constructor(family: 4 | 6, types: readonly number[]) {
    const [domain, protocol] = family === 4 ? [AF_INET, IPPROTO_ICMP] : [AF_INET6, IPPROTO_ICMPV6];
    const type = SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC;
    this.#fd = check(libc.socket(domain, type, protocol), `open an ICMP socket of IPv${family}`);
    try {
      setFilter(this.#fd, family, types);
    } catch (error) {
      closeFd(this.#fd);
      throw error;
    }
  }

  /** As `receivedChunks`: IPv4 messages with their IP header, those of IPv6 without. */
  chunks(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    return receivedChunks(this.#fd, signal);
  }

  /** The next message if one is there, borrowed until the next call; else null. */
  receiveNow(): Uint8Array | null {
    this.#buffer ??= new Uint8Array(MESSAGE_BYTES_MAX);
    const size = libc.recv(this.#fd, this.#buffer, this.#buffer.length, 0);
    return size < 0 ? null : this.#buffer.subarray(0, size);
  }

  close(): void {
    closeFd(this.#fd);
  }
}
