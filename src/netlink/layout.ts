/** What all netlink structures have in common: byte order and alignment. */

/** netlink is in host order; both processors we run on, x64 and arm64, are little-endian. */
export const HOST_LITTLE_ENDIAN = true;

/** `NLMSG_ALIGNTO` and `NLA_ALIGNTO` */
const ALIGNTO = 4;

/** `NLMSG_ALIGN`, `NLA_ALIGN`: the next multiple of 4. */
export function align(size_bytes: number): number {
  return (size_bytes + ALIGNTO - 1) & -ALIGNTO;
}

/** A view on exactly these bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/**
 * A u16 in host order. This and those below make no `DataView`, which would cost more than what is
 * read; the caller has checked the length.
 */
export function readU16(bytes: Uint8Array, offset: number): number {
  return bytes[offset]! | (bytes[offset + 1]! << 8);
}

/** A u32 in host order. */
export function readU32(bytes: Uint8Array, offset: number): number {
  return (readU16(bytes, offset) | (readU16(bytes, offset + 2) << 16)) >>> 0;
}

/** A u32 in network order. */
export function readU32be(bytes: Uint8Array, offset: number): number {
  const high = (bytes[offset]! << 8) | bytes[offset + 1]!;
  return ((high << 16) | (bytes[offset + 2]! << 8) | bytes[offset + 3]!) >>> 0;
}

/** Writes a u16 in host order. */
export function writeU16(bytes: Uint8Array, offset: number, value: number): void {
  bytes[offset] = value;
  bytes[offset + 1] = value >>> 8;
}

/** Writes a u32 in host order. */
export function writeU32(bytes: Uint8Array, offset: number, value: number): void {
  writeU16(bytes, offset, value);
  writeU16(bytes, offset + 2, value >>> 16);
}

/** `AF_*` of `linux/socket.h` */
export const AF_UNSPEC = 0;
export const AF_INET = 2;
export const AF_BRIDGE = 7;
export const AF_INET6 = 10;

/** The kernel's number of an address family. */
export function familyNumber(family: 4 | 6): number {
  return family === 4 ? AF_INET : AF_INET6;
}
