/**
 * A SQLite file that a daemon keeps open for as long as it runs. SQLite goes on writing into a file
 * that was deleted or replaced under it, and says that all is well. So before each change, and
 * every few seconds, this looks whether the path still leads to the open file:
 *
 * 1. The file, or its directory, is gone: the open file still holds everything, so a copy of it is
 *    put at the path, and the daemon goes on with that copy.
 * 2. Another file is there, or another file system is mounted over it: nobody but the operator
 *    knows which of the two is right. Changes are refused until the path leads to the open file
 *    again, or to no file.
 */
import {
  accessSync,
  closeSync,
  constants,
  fsyncSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
} from "node:fs";
import { randomBytes } from "node:crypto";
import { basename, dirname, join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { adviceText, isStoreFault, SelvageError } from "../errors.ts";
import { syncDirectory } from "../files.ts";
import { logger } from "../log.ts";
import {
  databaseError,
  IN_MEMORY,
  LOG_SUFFIXES,
  openSqlite,
  type SqliteSchema,
  transact,
} from "./sqlite_file.ts";

/** With less free space than this, `check` tries whether a small write still succeeds. */
const FREE_SPACE_MIN_BYTES = 1024 * 1024;
/** How often it does so at most while the writes succeed: each one wears the disk. */
const PROBE_INTERVAL_MS = 30_000;

/** Which file a path leads to. */
interface FileIdentity {
  readonly dev: bigint;
  readonly ino: bigint;
}

/** null: there is no such file. Throws what else stat(2) says. */
function identityOf(path: string): FileIdentity | null {
  return statSync(path, { bigint: true, throwIfNoEntry: false }) ?? null;
}

function isSame(a: FileIdentity | null, b: FileIdentity | null): boolean {
  return a !== null && b !== null && a.dev === b.dev && a.ino === b.ino;
}

/** The device of the directory, or of the nearest one above it that exists. */
function deviceOf(directory: string): bigint {
  return identityOf(directory)?.dev ?? deviceOf(dirname(directory));
}

/** One open file with its write-ahead log. */
export class KeptDatabase {
  readonly #schema: SqliteSchema;
  readonly #log = logger("store");
  /** null after `close`, and while a copy at the path could not be opened yet. */
  #database: DatabaseSync | null;
  #isClosed = false;
  /** What was opened; null in memory. */
  #file: FileIdentity | null = null;
  /** null: SQLite has not made it yet. */
  #walFile: FileIdentity | null = null;
  #device: bigint | null = null;
  #failure: SelvageError | null = null;
  #probed_ms = -Infinity;

  /** Opens or makes the file. Throws as `openSqlite`. */
  constructor(readonly path: string, schema: SqliteSchema) {
    this.#schema = schema;
    this.#database = openSqlite(path, schema);
    this.#remember();
  }

  get #walPath(): string {
    return `${this.path}-wal`;
  }

  /** What the file is and where, for errors. */
  get #name(): string {
    return `${this.#schema.what} ${this.path}`;
  }

  /** The open database. Throws `unavailable` if there is none. */
  get database(): DatabaseSync {
    if (this.#database !== null) return this.#database;
    throw new SelvageError("unavailable", `${this.#name}: it is not open`);
  }

  /** Why changes cannot be made, with what to do; null: the last one was made. */
  get failure(): string | null {
    return this.#failure === null ? null : adviceText(this.#failure);
  }

  #remember(): void {
    if (this.path === IN_MEMORY) return;
    this.#file = identityOf(this.path);
    this.#walFile = identityOf(this.#walPath);
    this.#device = deviceOf(dirname(this.path));
  }

  /**
   * Makes the changes of `work` in one transaction, and returns what it returns once they are on
   * the disk. Throws what it throws, and as `transact` or `#ensurePlace`; nothing is changed then.
   */
  transact<T>(work: (database: DatabaseSync) => T): T {
    try {
      this.#ensurePlace();
      const { database } = this;
      const result = transact(database, this.#name, () => work(database));
      this.#failure = null;
      return result;
    } catch (error) {
      // A refusal by `work` is no failure of the file.
      if (error instanceof SelvageError && isStoreFault(error)) this.#failure = error;
      throw error;
    }
  }

  /** Runs `work`, which must only read, in one transaction. Throws as `transact`. */
  read<T>(work: (database: DatabaseSync) => T): T {
    const { database } = this;
    return transact(database, this.#name, () => work(database));
  }

  /**
   * Looks whether changes can be made, repairs what can be repaired, and sets `failure`. It is
   * called every few seconds; it writes only if the last change failed or the disk is nearly full.
   */
  check(): void {
    if (this.#isClosed || this.path === IN_MEMORY) return;
    try {
      this.#ensurePlace();
      const isNearlyFull = this.#freeSpace_bytes() < FREE_SPACE_MIN_BYTES;
      const isDue = performance.now() - this.#probed_ms > PROBE_INTERVAL_MS;
      if (this.#failure === null && !(isNearlyFull && isDue)) return;
      this.#probed_ms = performance.now();
      // It changes nothing, and is written to the disk all the same.
      this.transact((database) => database.exec(`PRAGMA user_version = ${this.#schema.version}`));
    } catch (error) {
      this.#failure = databaseError(this.#name, error);
    }
  }

  #freeSpace_bytes(): number {
    // Without the space reserved for root, because this process may run as another user.
    const { bavail, bsize } = statfsSync(dirname(this.path));
    return bavail * bsize;
  }

  /** Throws unless the path leads to the open file or can be repaired so that it does. */
  #ensurePlace(): void {
    if (this.path === IN_MEMORY || this.#isClosed) return;
    if (this.#database === null) this.#reopen();
    let isThere: boolean;
    try {
      isThere = this.#isInPlace();
    } catch (error) {
      throw databaseError(this.#name, error);
    }
    if (!isThere) this.#restorePlace();
    try {
      accessSync(dirname(this.path), constants.W_OK);
    } catch (error) {
      throw databaseError(this.#name, error);
    }
  }

  /** False: the file is gone. Throws `unavailable` if another one is in its place. */
  #isInPlace(): boolean {
    const directory = dirname(this.path);
    if (deviceOf(directory) !== this.#device) {
      const text = `${this.#name}: its directory is on another file system than when the file ` +
        "was opened. Changes are refused";
      throw new SelvageError("unavailable", text, {
        hint: `Mount the right file system at ${directory}, or restart selvage to use this one.`,
      });
    }
    const file = identityOf(this.path);
    if (file === null) return false;
    const walFile = identityOf(this.#walPath);
    this.#walFile ??= walFile;
    const isOther = !isSame(file, this.#file) ||
      (walFile !== null && !isSame(walFile, this.#walFile));
    if (!isOther) return walFile !== null || this.#walFile === null;
    const text = `${this.#name}: another file was put in its place while selvage has it open. ` +
      "Changes are refused";
    throw new SelvageError("unavailable", text, {
      hint: "Restart selvage to use the new file, or move it away: selvage then writes the " +
        "file that it has open there again.",
    });
  }

  /** Puts a copy of what is open at the path, and goes on with it. Throws as `databaseError`. */
  #restorePlace(): void {
    const directory = dirname(this.path);
    const copy = join(directory, `.${basename(this.path)}.${randomBytes(6).toString("hex")}`);
    try {
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      copyDatabase(this.database, copy);
      // A log that is left there belongs to a file that is gone.
      for (const suffix of LOG_SUFFIXES) rmSync(this.path + suffix, { force: true });
      renameSync(copy, this.path);
      syncDirectory(directory);
    } catch (error) {
      removeQuietly(copy);
      throw databaseError(this.#name, error);
    }
    // Closing deletes the log by its name, so it comes before the copy makes its own.
    this.database.close();
    this.#database = null;
    this.#reopen();
    this.#log.warning`${this.#name} was deleted; it is written again from the open file`;
  }

  #reopen(): void {
    this.#database = openSqlite(this.path, this.#schema);
    this.#remember();
  }

  close(): void {
    this.#isClosed = true;
    this.#database?.close();
    this.#database = null;
  }
}

/** Writes all that the database holds into a new file, for the owner alone, and syncs it. */
export function copyDatabase(database: DatabaseSync, path: string): void {
  // VACUUM INTO accepts an empty file, and keeps its mode.
  closeSync(openSync(path, "wx", 0o600));
  database.prepare("VACUUM INTO ?").run(path);
  const file = openSync(path, "r+");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function removeQuietly(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    // The directory may be what failed, and that error counts.
  }
}
