/** Numbers of the kernel's interface, the same on x64 and arm64. */

// include/uapi/asm-generic/errno-base.h, errno.h
export const EINTR = 4;
export const EIO = 5;
export const ENXIO = 6;
export const EBADF = 9;
export const EAGAIN = 11;
export const EFAULT = 14;
export const ENODEV = 19;
export const EINVAL = 22;
export const EBADFD = 77;
export const ENOTSOCK = 88;
export const EMSGSIZE = 90;
export const EOPNOTSUPP = 95;
export const ENETDOWN = 100;
export const ENETUNREACH = 101;
export const EHOSTUNREACH = 113;

// include/uapi/asm-generic/poll.h
export const POLLIN = 0x0001;
export const POLLOUT = 0x0004;
export const POLLNVAL = 0x0020;

// include/linux/socket.h
export const AF_INET = 2;
export const AF_INET6 = 10;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;

// include/uapi/linux/udp.h
export const SOL_UDP = 17;
export const UDP_SEGMENT = 103;
export const UDP_GRO = 104;

/**
 * Whether a result says that the descriptor itself is dead: closed, or its device deleted (a TUN
 * descriptor answers EBADFD then). Nothing done again on it can succeed.
 */
export function isDead(result: i32): bool {
  const errno = -result;
  return errno === EBADF || errno === EBADFD || errno === ENODEV || errno === ENXIO ||
    errno === EFAULT || errno === ENOTSOCK;
}

/** Whether a send failed because there is no way to the peer. */
export function isNoWay(result: i32): bool {
  const errno = -result;
  return errno === ENETUNREACH || errno === EHOSTUNREACH || errno === ENETDOWN;
}

/**
 * Whether a failed send of many packets says that they cannot go together, while each by itself
 * can: one is longer than the path's MTU, or the way out has no checksum offload.
 */
export function isTooMuchAtOnce(result: i32): bool {
  const errno = -result;
  return errno === EINVAL || errno === EMSGSIZE || errno === EIO || errno === EOPNOTSUPP;
}
