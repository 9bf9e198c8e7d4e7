/** What the kernel tells of its own accord: multicast groups of netlink (`linux/netlink.h`). */
import { closeFd } from "./fd.ts";
import { check, libc } from "./libc.ts";
import { receivedChunks } from "./readable.ts";
import {
  AF_NETLINK,
  int32Option,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOL_SOCKET,
} from "./socket_address.ts";

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;
const SO_RCVBUFFORCE = 33;
/** Room for what comes while we are busy; more than that is told as lost. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;

/** `struct sockaddr_nl`, with the groups 1 to 32 as bits. */
function sockaddrNl(groups: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(12);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_NETLINK, true);
  view.setUint32(8, groups.reduce((bits, group) => bits | (1 << (group - 1)), 0) >>> 0, true);
  return bytes;
}

export class NetlinkListener {
  readonly #fd: number;

  /**
   * Listens in the network namespace of the calling thread to groups (1 to 32) of a protocol.
   * Throws `SystemError`: `EPROTONOSUPPORT` where the kernel lacks it.
   */
  constructor(protocol: number, groups: readonly number[]) {
    const type = SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK;
    this.#fd = check(libc.socket(AF_NETLINK, type, protocol), "open a netlink socket");
    try {
      const size = int32Option(RECEIVE_BUFFER_BYTES);
      libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, size, size.length);
      const address = sockaddrNl(groups);
      check(libc.bind(this.#fd, address, address.length), "listen to netlink groups");
    } catch (error) {
      closeFd(this.#fd);
      throw error;
    }
  }

  /**
   * What comes in, once: each chunk, which is the caller's, is one or more whole messages. Ends
   * when the signal is aborted; throws an error of code `ENOBUFS` when the kernel had to drop some.
   */
  chunks(signal: AbortSignal): AsyncGenerator<Uint8Array> {
    return receivedChunks(this.#fd, signal);
  }

  close(): void {
    closeFd(this.#fd);
  }
}
