/**
 * The boundary between the netlink codec and the kernel. `ffi/netlink_socket.ts` is the real one,
 * `tests/netlink/scripted_socket.ts` its twin.
 */

/** A netlink socket of any protocol. Synchronous: the kernel answers a request inside `send`. */
export interface NetlinkSocket {
  /** Sends all messages in `bytes` (borrowed for the call) at once. Throws `SystemError`. */
  send(bytes: Uint8Array): void;

  /**
   * The next datagram as an owned array; the kernel's answers are waiting already. Throws
   * `SystemError`: `EAGAIN` after 5 s without one, `ENOBUFS` when the kernel had to drop answers.
   */
  receive(): Uint8Array;

  close(): void;
}
