/** What all netlink structures have in common: byte order and alignment. */

/** netlink is in host order; both processors we run on, x64 and arm64, are little-endian. */
export const HOST_LITTLE_ENDIAN = true;

/** `NLMSG_ALIGNTO` and `NLA_ALIGNTO` */
const ALIGNTO = 4;

/** `NLMSG_ALIGN`, `NLA_ALIGN`: the next multiple of 4. */
export function align(size_bytes: number): number {
  return Math.ceil(size_bytes / ALIGNTO) * ALIGNTO;
}

/** A view on exactly these bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** `AF_*` of `linux/socket.h` */
export const AF_UNSPEC = 0;
export const AF_INET = 2;
export const AF_INET6 = 10;

/** The kernel's number of an address family. */
export function familyNumber(family: 4 | 6): number {
  return family === 4 ? AF_INET : AF_INET6;
}
