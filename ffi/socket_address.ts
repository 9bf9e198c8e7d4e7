/** Socket addresses as the kernel reads them (`linux/in.h`, `linux/un.h`). */

export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;

/** The length of an IPv4 address. */
export const IPV4_BYTES = 4;

/** `struct sockaddr_in`; `address` is 4 bytes in network order. */
export function sockaddrIn(address: Uint8Array, port: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET, true);
  view.setUint16(2, port, false);
  bytes.set(address, 4);
  return bytes;
}

/** `struct sockaddr_in6`, of scope and flow 0; `address` is 16 bytes in network order. */
export function sockaddrIn6(address: Uint8Array, port: number): Uint8Array {
  const bytes = new Uint8Array(28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET6, true);
  view.setUint16(2, port, false);
  bytes.set(address, 8);
  return bytes;
}

/** That of the family of `address`, 4 or 16 bytes in network order, and the family. */
export function sockaddrOf(
  address: Uint8Array,
  port: number,
): { family: typeof AF_INET | typeof AF_INET6; name: Uint8Array } {
  return address.length === IPV4_BYTES
    ? { family: AF_INET, name: sockaddrIn(address, port) }
    : { family: AF_INET6, name: sockaddrIn6(address, port) };
}

/** `struct sockaddr_un`; a path that starts with `@` is in the abstract name space. */
export function sockaddrUn(path: string): Uint8Array {
  const name = new TextEncoder().encode(path.startsWith("@") ? `\0${path.slice(1)}` : `${path}\0`);
  const bytes = new Uint8Array(2 + name.length);
  new DataView(bytes.buffer).setUint16(0, AF_UNIX, true);
  bytes.set(name, 2);
  return bytes;
}

/** A 32-bit socket option in host order. */
export function int32Option(value: number): Uint8Array {
  return new Uint8Array(new Int32Array([value]).buffer);
}
