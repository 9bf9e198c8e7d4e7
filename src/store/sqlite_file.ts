/** Opening a SQLite file of ours: private to its owner, durable, for one process or for many. */
import { chmodSync, closeSync, mkdirSync, openSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { errorText, fileReason, SelvageError } from "../errors.ts";
import { fileHint, syncDirectory } from "../files.ts";

/** In place of a path: a database that ends with its process. */
export const IN_MEMORY = ":memory:";

/** What SQLite may put beside a file; a log that is there is taken for that of the file. */
export const LOG_SUFFIXES = ["-wal", "-shm", "-journal"] as const;

const FULL_HINT = "Free some space on its file system.";
const DISK_HINT = "Look whether its file system has become read-only (mount), and why (dmesg).";

/** What a file of ours holds, and how it is opened. */
export interface SqliteSchema {
  /** What the file is, for errors: "registry". */
  readonly what: string;
  /** `user_version` of the schema that `create` makes. */
  readonly version: number;
  /** Statements that make an empty file into one of this version. */
  readonly create: string;
  /** Statements that add what a file of this version may lack; run at each opening. */
  readonly additions?: string;
  /** Whether one process alone may have it open. */
  readonly exclusive: boolean;
}

/** Makes the file, and its directory, for the owner alone; SQLite's side files follow its mode. */
function prepareFile(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const isNew = statSync(path, { throwIfNoEntry: false }) === undefined;
  closeSync(openSync(path, "a", 0o600));
  if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
  if (isNew) syncDirectory(dirname(path));
}

function openError(schema: SqliteSchema, path: string, error: unknown): SelvageError {
  if (error instanceof SelvageError) return error;
  const text = `cannot open the ${schema.what} ${path}: ${fileReason(error)}`;
  const code = (error as { code?: unknown }).code;
  if (code === "EACCES" || code === "EPERM" || code === "EROFS") {
    const hint = fileHint(code, dirname(path));
    return new SelvageError("permission", text, { hint, cause: error });
  }
  // Bun gives the number as `errcode`, Deno the text alone (SQLITE_BUSY).
  if (/database is locked/.test(errorText(error))) {
    const hint =
      "Stop the other selvage that uses this state directory, or give this one another " +
      "directory with --state-dir.";
    const reason = `${schema.what} ${path}: another process has it open`;
    return new SelvageError("conflict", reason, { hint, cause: error });
  }
  const hint = isFull(error)
    ? FULL_HINT
    : "Restore the file from a backup, or move it away to start with an empty one.";
  return new SelvageError("unavailable", text, { hint, cause: error });
}

function formatVersion(database: DatabaseSync, schema: SqliteSchema, path: string): number {
  const row = database.prepare("PRAGMA user_version").get() as { user_version: number };
  if (row.user_version <= schema.version) return row.user_version;
  const text = `${schema.what} ${path}: version ${row.user_version} of its format, ` +
    `and this Selvage knows up to ${schema.version}`;
  throw new SelvageError("unsupported", text, { hint: "Run the newer Selvage that made it." });
}

/**
 * Opens a file that is there, for reading alone; what a process that was killed had committed is
 * seen. Throws `not_found` if there is none, else as `openSqlite`: `conflict` also while a process
 * has it open to itself. The caller closes the database.
 */
export function openSqliteReadOnly(path: string, schema: SqliteSchema): DatabaseSync {
  if (statSync(path, { throwIfNoEntry: false }) === undefined) {
    throw new SelvageError("not_found", `${schema.what} ${path}: there is no such file`);
  }
  let database: DatabaseSync | null = null;
  try {
    database = new DatabaseSync(path, { readOnly: true });
    // A process that has the file for itself keeps it for long.
    database.exec(`PRAGMA busy_timeout = ${schema.exclusive ? 0 : 5000}`);
    if (formatVersion(database, schema, path) === schema.version) return database;
    throw new SelvageError("invalid_argument", `${schema.what} ${path}: not a ${schema.what}`);
  } catch (error) {
    database?.close();
    throw openError(schema, path, error);
  }
}

function applySchema(database: DatabaseSync, schema: SqliteSchema, path: string): void {
  if (formatVersion(database, schema, path) !== schema.version) {
    database.exec(schema.create);
    database.exec(`PRAGMA user_version = ${schema.version}`);
  }
  if (schema.additions !== undefined) database.exec(schema.additions);
}

/**
 * Opens the file, or makes it: directory 0700, file 0600, write-ahead log, every commit synced.
 * Throws `conflict` if another process holds it, `unsupported` for a newer version, `permission`
 * or `unavailable` otherwise; each names the file. The caller closes the database.
 */
export function openSqlite(path: string, schema: SqliteSchema): DatabaseSync {
  let database: DatabaseSync | null = null;
  try {
    if (path !== IN_MEMORY) prepareFile(path);
    database = new DatabaseSync(path);
    database.exec(`PRAGMA busy_timeout = ${schema.exclusive ? 0 : 5000}`);
    // Before the first access: then the write-ahead log needs no shared memory file either.
    if (schema.exclusive) database.exec("PRAGMA locking_mode = EXCLUSIVE");
    database.exec("PRAGMA journal_mode = WAL");
    database.exec("PRAGMA synchronous = FULL");
    // Some hundred leases fit into far less; the default would keep 2 MB.
    database.exec("PRAGMA cache_size = -512");
    // Takes the lock now, so that a second process learns of it at its start.
    database.exec("BEGIN IMMEDIATE");
    applySchema(database, schema, path);
    database.exec("COMMIT");
    return database;
  } catch (error) {
    try {
      database?.close();
    } catch {
      // It never opened; what is thrown below says why.
    }
    throw openError(schema, path, error);
  }
}

/** Whether SQLite or the system says that the disk has no room. */
function isFull(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return code === "ENOSPC" || code === "EDQUOT" || /disk is full/.test(errorText(error));
}

/**
 * What went wrong with an open database or its file, as an error of ours: `store_full` without
 * space, else `unavailable`. An error of ours is returned as it is. `name` is what it is and where.
 */
export function databaseError(name: string, error: unknown): SelvageError {
  if (error instanceof SelvageError) return error;
  const text = `${name}: ${fileReason(error)}`;
  if (isFull(error)) return new SelvageError("store_full", text, { hint: FULL_HINT, cause: error });
  const isDisk = /EROFS|EIO\b|readonly|disk I\/O error/.test(text);
  return new SelvageError("unavailable", text, { hint: isDisk ? DISK_HINT : "", cause: error });
}

/**
 * Runs `work` in one transaction, and gives what it returns once that is on the disk. What `work`
 * throws undoes everything and is thrown on; a failure of the database is thrown as
 * `databaseError`.
 */
export function transact<T>(database: DatabaseSync, where: string, work: () => T): T {
  try {
    database.exec("BEGIN IMMEDIATE");
    const result = work();
    database.exec("COMMIT");
    return result;
  } catch (error) {
    try {
      database.exec("ROLLBACK");
    } catch {
      // No transaction is open: BEGIN failed, or SQLite has rolled it back itself.
    }
    throw databaseError(where, error);
  }
}

/**
 * Moves all that was committed from the write-ahead log into the file itself, and syncs that, so
 * that the file can be renamed without its log. Closing does so too, but passes over failures, such
 * as a full disk. Throws as `databaseError`.
 */
export function completeFile(database: DatabaseSync, name: string): void {
  try {
    database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  } catch (error) {
    throw databaseError(name, error);
  }
}
