/**
 * The place of the Unix socket in the file system. The socket is bound inside a fresh directory
 * that only we can enter, gets its mode there, and is then renamed to its place: at no instant can
 * another user connect, and a stale file is replaced in one step. The fresh directory is made
 * inside the socket's own directory, because a service's sandbox may allow writes nowhere else,
 * and because a rename cannot cross a mount.
 */
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  statSync,
  unlinkSync,
} from "node:fs";
import { connect } from "node:net";
import { dirname, join, resolve } from "node:path";
import { fileReason, SelvageError } from "../errors.ts";
import { fileHint } from "../files.ts";

/** `sizeof(sockaddr_un.sun_path)` less its final zero byte (linux/un.h). */
const SOCKET_PATH_SIZE_MAX_BYTES = 107;

/** Whether a server answers at this socket. */
export function isSocketLive(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}

function fileError(path: string, error: unknown): SelvageError {
  const code = (error as { code?: unknown }).code;
  const denied = code === "EACCES" || code === "EPERM" || code === "EROFS";
  const hint = fileHint(typeof code === "string" ? code : "", path);
  return new SelvageError(
    denied ? "permission" : "unavailable",
    `API socket ${path}: ${fileReason(error)}`,
    { cause: error, hint: `${hint} Choose another place with --api-socket.`.trim() },
  );
}

/** Throws unless a socket may be made at `path`: nothing there, or a socket nobody serves. */
async function checkFree(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) {
    throw new SelvageError("conflict", `API socket ${path}: a file that is no socket is there`, {
      hint: "Remove it, or choose another place with --api-socket.",
    });
  }
  if (await isSocketLive(path)) {
    throw new SelvageError("conflict", `API socket ${path}: another selvage runs and serves it`, {
      hint: "Stop that one first, or choose another place with --api-socket.",
    });
  }
}

export interface PlacedSocket {
  /** The absolute path. */
  readonly path: string;
  /** Removes the file if it is still ours. */
  remove(): void;
}

/**
 * Has `bind` bind a Unix socket at a path that it is given, and puts that socket at `path` with
 * mode 0600. Makes the parent directory, with mode 0755, where it is missing. Throws `conflict` if
 * a server lives there, `invalid_argument` if the path is too long, `permission`, `unavailable`.
 */
export async function placeSocket(
  path: string,
  bind: (bindPath: string) => Promise<void>,
): Promise<PlacedSocket> {
  const place = resolve(path);
  const parent = dirname(place);
  let scratch: string | null = null;
  try {
    if (!existsSync(parent)) {
      mkdirSync(parent, { recursive: true });
      chmodSync(parent, 0o755);
    }
    await checkFree(place);
    scratch = mkdtempSync(join(parent, ".selvage-"));
    const bindPath = join(scratch, "s");
    if (
      Math.max(Buffer.byteLength(bindPath), Buffer.byteLength(place)) > SOCKET_PATH_SIZE_MAX_BYTES
    ) {
      throw new SelvageError("invalid_argument", `API socket ${place}: the path is too long`, {
        hint: "Choose a shorter one with --api-socket.",
      });
    }
    await bind(bindPath);
    chmodSync(bindPath, 0o600);
    renameSync(bindPath, place);
    const { ino, dev } = statSync(place);
    return {
      path: place,
      remove() {
        const now = lstatSync(place, { throwIfNoEntry: false });
        if (now === undefined || now.ino !== ino || now.dev !== dev) return;
        try {
          unlinkSync(place);
        } catch (error) {
          throw new SelvageError("unavailable", `cannot remove ${place}: ${fileReason(error)}`, {
            hint: "The next start replaces it.",
            cause: error,
          });
        }
      },
    };
  } catch (error) {
    throw error instanceof SelvageError ? error : fileError(place, error);
  } finally {
    if (scratch !== null) rmSync(scratch, { recursive: true, force: true });
  }
}
