/** Files that are replaced whole: their reader sees the old or the new, never a part. */
import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { randomBytes } from "node:crypto";
import { basename, dirname, join } from "node:path";
import { fileReason, SelvageError } from "./errors.ts";

/** What the system said, as a code of ours. */
function fileError(action: string, path: string, error: unknown): SelvageError {
  const code = (error as { code?: unknown }).code;
  const denied = code === "EACCES" || code === "EPERM" || code === "EROFS";
  const kind = denied ? "permission" : code === "ENOENT" ? "not_found" : "unavailable";
  const hint = fileHint(typeof code === "string" ? code : "", path);
  return new SelvageError(kind, `cannot ${action} ${path}: ${fileReason(error)}`, {
    hint,
    cause: error,
  });
}

/** What to do about an errno of a file; empty where that depends on what the file is for. */
export function fileHint(code: string, path: string): string {
  switch (code) {
    case "EROFS":
      return `The file system of ${path} is read-only: mount it writable.`;
    case "ENOSPC":
    case "EDQUOT":
      return `The file system of ${path} is full, or this user's share of it: make room there.`;
    case "EIO":
      return "The disk fails: see the kernel's log (dmesg).";
    case "EMFILE":
    case "ENFILE":
      return "Too many files are open: raise the limit (ulimit -n, LimitNOFILE of the unit).";
    case "EACCES":
    case "EPERM":
      return process.geteuid!() === 0
        ? "Root may not do this here: see the mount's options, lsattr, and security modules " +
          "(SELinux, AppArmor, the unit's sandbox)."
        : "Run it as root, or give this user the right to it.";
    default:
      return "";
  }
}

/** fsync of a directory, so that a rename in it survives a loss of power. */
export function syncDirectory(path: string): void {
  const directory = openSync(path, "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}

/** Tidies up after a failure, which is the error that counts. */
function removeIfThere(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // The directory itself may be what failed.
  }
}

/**
 * Throws if a rename to this path would replace a device (such as /dev/null), a FIFO or a socket.
 */
function requireReplaceable(path: string): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined || stat.isFile() || stat.isDirectory()) return;
  throw new Error("not a regular file");
}

/**
 * Throws as `writeFileAtomic` would, if it could not put a file at this path; a parent directory
 * that is missing is made. Without `content` a full file system is not noticed, because an empty
 * file needs no room there.
 */
export function probeWritable(path: string, content: Uint8Array = new Uint8Array()): void {
  const probe = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}`);
  try {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw new Error("a directory");
    requireReplaceable(path);
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    const file = openSync(probe, "wx", 0o600);
    try {
      // Some file systems report only here that the disk is full.
      if (content.length > 0) {
        for (let at = 0; at < content.length;) at += writeSync(file, content, at);
        fsyncSync(file);
      }
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw fileError("write", path, error);
  } finally {
    removeIfThere(probe);
  }
}

/**
 * Writes a whole file by way of a temporary one in the same directory: written, synced, renamed. A
 * device, a FIFO or a socket at this path is never replaced. The file gets `mode`, whatever the
 * umask is. A parent directory that is missing is made, with `directoryMode`. Throws `permission`,
 * `not_found` or `unavailable`; the old file then stays as it was.
 */
export function writeFileAtomic(
  path: string,
  text: string,
  options: { mode: number; directoryMode?: number },
): void {
  const directory = dirname(path);
  const temporary = join(directory, `.${basename(path)}.${randomBytes(6).toString("hex")}`);
  try {
    requireReplaceable(path);
    mkdirSync(directory, { recursive: true, mode: options.directoryMode ?? 0o755 });
    // "wx": a file or link that someone put there in advance is not followed.
    const file = openSync(temporary, "wx", 0o600);
    try {
      const bytes = new TextEncoder().encode(text);
      for (let at = 0; at < bytes.length;) at += writeSync(file, bytes, at);
      fchmodSync(file, options.mode);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
    syncDirectory(directory);
  } catch (error) {
    removeIfThere(temporary);
    throw fileError("write", path, error);
  }
}

/**
 * The text of a file of at most `sizeMax_bytes`. Throws `not_found`, `permission`, `too_large`,
 * or `unavailable` (a directory, an I/O error), each naming the path.
 */
export function readFileBounded(path: string, sizeMax_bytes = 64 * 1024): string {
  let file: number | null = null;
  try {
    // Without waiting, as a FIFO would have it whose other end nobody opens.
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (!fstatSync(file).isFile()) throw new Error("not a regular file");
    const bytes = new Uint8Array(sizeMax_bytes + 1);
    let length = 0;
    while (length < bytes.length) {
      const count = readSync(file, bytes, length, bytes.length - length, null);
      if (count === 0) break;
      length += count;
    }
    if (length <= sizeMax_bytes) return new TextDecoder().decode(bytes.subarray(0, length));
  } catch (error) {
    throw fileError("read", path, error);
  } finally {
    if (file !== null) closeSync(file);
  }
  throw new SelvageError("too_large", `cannot read ${path}: larger than ${sizeMax_bytes} bytes`);
}
