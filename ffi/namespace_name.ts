/**
 * A name that one process of a network namespace can have: that of a unix socket in its abstract
 * name space (unix(7)). The kernel takes it back when the process ends, however that is.
 */
import { errnoNumber } from "./errno.ts";
import { closeFd } from "./fd.ts";
import { check, lastErrno, libc } from "./libc.ts";
import {
  AF_UNIX,
  int32Option,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  sockaddrUn,
  SOL_SOCKET,
} from "./socket_address.ts";

const SO_PEERCRED = 17;
/** `struct ucred`: pid, uid and gid, 32 bits each. */
const UCRED_SIZE = 12;
const EADDRINUSE = errnoNumber("EADDRINUSE");

function openSocket(): number {
  const type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  return check(libc.socket(AF_UNIX, type, 0), "open a unix socket");
}

export class NamespaceName {
  readonly #fd: number;

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Takes the name; null: another process has it. Throws `SystemError`. */
  static take(name: string): NamespaceName | null {
    const fd = openSocket();
    const address = sockaddrUn(`@${name}`);
    const result = libc.bind(fd, address, address.length);
    if (result < 0 && lastErrno() === EADDRINUSE) {
      closeFd(fd);
      return null;
    }
    try {
      check(result, `take the name ${name}`);
      // What others connect to says whose it is; nobody is ever let in.
      check(libc.listen(fd, 1), `listen at ${name}`);
    } catch (error) {
      closeFd(fd);
      throw error;
    }
    return new NamespaceName(fd);
  }

  /** Gives the name back. */
  close(): void {
    closeFd(this.#fd);
  }
}

export interface NameHolder {
  /** 0 where it is of another process namespace. */
  readonly pid: number;
  readonly uid: number;
}

/** Which process has the name, by the kernel's word; null: none that could be asked. */
export function holderOf(name: string): NameHolder | null {
  const fd = openSocket();
  try {
    const address = sockaddrUn(`@${name}`);
    if (libc.connect(fd, address, address.length) < 0) return null;
    const credentials = new Uint8Array(UCRED_SIZE);
    const size = int32Option(UCRED_SIZE);
    check(
      libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, size),
      `ask who has the name ${name}`,
    );
    const view = new DataView(credentials.buffer);
    return { pid: view.getInt32(0, true), uid: view.getUint32(4, true) };
  } finally {
    closeFd(fd);
  }
}
