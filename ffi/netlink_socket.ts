/** Netlink sockets (`linux/netlink.h`). */
import { closeFd } from "./fd.ts";
import { check, libc } from "./libc.ts";
import { AF_NETLINK, int32Option, SOCK_CLOEXEC, SOCK_RAW, SOL_SOCKET } from "./socket_address.ts";

const NETLINK_ROUTE = 0;
const NETLINK_NETFILTER = 12;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
/** Makes the kernel check what a request filters by, instead of ignoring what it does not know. */
const NETLINK_GET_STRICT_CHK = 12;
const SO_RCVTIMEO = 20;
const SO_RCVBUFFORCE = 33;
const RECEIVE_TIMEOUT_S = 5;
/** The acks of a whole batch must fit: the kernel drops them silently otherwise. */
const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024;
/** The kernel's dumps come in datagrams of at most 32 KiB (`NLMSG_GOODSIZE` and up). */
const DATAGRAM_BYTES_MAX = 64 * 1024;

/** Synchronous: the kernel has answered by the time `send` returns. */
class ProtocolSocket {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(DATAGRAM_BYTES_MAX);

  /**
   * Opens a socket of the protocol in the network namespace of the calling thread, with these
   * options switched on. Throws `SystemError`: `EPROTONOSUPPORT` where the kernel lacks it.
   */
  constructor(protocol: number, options: readonly number[]) {
    const type = SOCK_RAW | SOCK_CLOEXEC;
    this.#fd = check(libc.socket(AF_NETLINK, type, protocol), "open a netlink socket");
    try {
      for (const option of options) {
        const one = int32Option(1);
        check(libc.setsockopt(this.#fd, SOL_NETLINK, option, one, one.length), "set up netlink");
      }
      const timeout = new Uint8Array(new BigInt64Array([BigInt(RECEIVE_TIMEOUT_S), 0n]).buffer);
      check(
        libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length),
        "set up netlink",
      );
      const size = int32Option(RECEIVE_BUFFER_BYTES);
      libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVBUFFORCE, size, size.length);
    } catch (error) {
      closeFd(this.#fd);
      throw error;
    }
  }

  /** Sends all messages in `bytes` (borrowed) at once. Throws `SystemError`. */
  send(bytes: Uint8Array): void {
    check(libc.sendto(this.#fd, bytes, bytes.length, 0, null, 0), "send to netlink");
  }

  /**
   * The next datagram as an owned array. Throws `SystemError`: `EAGAIN` after 5 s without one,
   * `ENOBUFS` when the kernel had to drop messages.
   */
  receive(): Uint8Array {
    const size = check(
      libc.recv(this.#fd, this.#buffer, this.#buffer.length, 0),
      "receive from netlink",
    );
    return this.#buffer.slice(0, size);
  }

  close(): void {
    closeFd(this.#fd);
  }
}

/** Links, addresses, routes, neighbours (`linux/rtnetlink.h`). */
export class NetlinkRouteSocket extends ProtocolSocket {
  /** Opens it in the network namespace of the calling thread. Throws `SystemError`. */
  constructor() {
    super(NETLINK_ROUTE, [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK]);
  }
}

/** nftables (`linux/netfilter/nfnetlink.h`). */
export class NetlinkNetfilterSocket extends ProtocolSocket {
  /**
   * Opens it in the network namespace of the calling thread. Throws `SystemError`:
   * `EPROTONOSUPPORT` where the kernel has no netfilter over netlink.
   */
  constructor() {
    super(NETLINK_NETFILTER, [NETLINK_CAP_ACK, NETLINK_EXT_ACK]);
  }
}
