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
const EAGAIN = errnoNumber("EAGAIN");

function openSocket(): number {
  const type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  return check(libc.socket(AF_UNIX, type, 0), "open a unix socket");
}

/** How many processes can ask for the holder between two rounds of `DRAIN_MS`. */
const BACKLOG = 128;
const DRAIN_MS = 10_000;

export class NamespaceName {
  readonly #fd: number;
  readonly #timer: ReturnType<typeof setInterval>;

  private constructor(fd: number) {
    this.#fd = fd;
    this.#timer = setInterval(() => this.#drain(), DRAIN_MS);
    this.#timer.unref();
  }

  /**
   * Removes the connections of processes that asked for the holder. The kernel keeps them in the
   * queue after those processes have ended, and once it is full, nobody can ask any more.
   */
  #drain(): void {
    for (let count = 0; count <= BACKLOG; count++) {
      const fd = libc.accept4(this.#fd, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
      if (fd < 0) return;
      closeFd(fd);
    }
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
      // A connection shows others the holder (SO_PEERCRED). Nothing is ever sent through it.
      check(libc.listen(fd, BACKLOG), `listen at ${name}`);
    } catch (error) {
      closeFd(fd);
      throw error;
    }
    return new NamespaceName(fd);
  }

  /** Gives the name back. */
  close(): void {
    clearInterval(this.#timer);
    closeFd(this.#fd);
  }
}

export interface NameHolder {
  /** 0 where it is of another process namespace. */
  readonly pid: number;
  readonly uid: number;
}

/**
 * Which process has the name; null: none that listens there was found. The kernel answers, unless
 * so many processes have asked that the holder's queue is full: then `searchHolder` does.
 */
export function holderOf(
  name: string,
  searchHolder: (name: string) => NameHolder | null,
): NameHolder | null {
  const fd = openSocket();
  try {
    const address = sockaddrUn(`@${name}`);
    if (libc.connect(fd, address, address.length) < 0) {
      return lastErrno() === EAGAIN ? searchHolder(name) : null;
    }
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
