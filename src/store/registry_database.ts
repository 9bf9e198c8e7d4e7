/**
 * The registry's tables: the configuration, the leases, and the log of their changes. Leases are
 * kept as flannel's keys and values, so that they can be put into etcd as they are.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { errorText, SelvageError } from "../errors.ts";
import {
  knownExpiry_ms,
  type Lease,
  type LeaseChange,
  leaseKey,
  parseLeaseKey,
} from "../lease/lease.ts";
import { formatLeaseValue, parseLeaseValue } from "../lease/lease_value.ts";
import { LeaseTable } from "../lease/lease_table.ts";
import { type UnreadableKey, UnreadableKeys } from "../lease/unreadable_keys.ts";
import { KeptDatabase } from "./kept_database.ts";
import { completeFile, databaseError, openSqliteReadOnly } from "./sqlite_file.ts";

const LOG_SUBJECT = "store";

const SCHEMA = {
  what: "registry",
  version: 1,
  exclusive: true,
  create: `
    CREATE TABLE identity (registry_id TEXT NOT NULL) STRICT;
    CREATE TABLE config (text TEXT NOT NULL) STRICT;
    CREATE TABLE leases (
      key TEXT PRIMARY KEY,
      value TEXT NOT NULL,
      expiry_ms INTEGER -- null: a reservation
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
      revision INTEGER PRIMARY KEY, -- without gaps
      type TEXT NOT NULL CHECK (type IN ('put', 'delete', 'config')),
      key TEXT,
      value TEXT,
      expiry_ms INTEGER
    ) STRICT;
  `,
  // The configuration that the file of --net-config held when it was applied last.
  additions: "CREATE TABLE IF NOT EXISTS config_file (text TEXT NOT NULL) STRICT",
};

/** The registry's file in the state directory. */
export function registryPath(stateDir: string): string {
  return join(stateDir, "registry.db");
}

/** One entry of the log. `change` is null where it changed the configuration. */
export interface RegistryEvent {
  readonly revision: number;
  readonly change: LeaseChange | null;
}

/** What the tables hold, read at once. */
export interface RegistryContents {
  readonly configText: string | null;
  readonly table: LeaseTable;
  /** Number of the newest event; 0 if there never was one. */
  readonly revision: number;
  /** Leases that could not be read and are left out. */
  readonly unreadableCount: number;
  /** The first few of them. */
  readonly unreadable: readonly UnreadableKey[];
}

interface LeaseRow {
  readonly key: string;
  readonly value: string;
  readonly expiry_ms: number | null;
}

interface EventRow extends LeaseRow {
  readonly revision: number;
  readonly type: "put" | "delete" | "config";
}

/** A stored lease. Throws `invalid_argument` if it was damaged. */
function readLease(row: LeaseRow): Lease {
  const subnets = parseLeaseKey(row.key, "key");
  return { ...parseLeaseValue(row.value, row.key), subnets, expiry_ms: row.expiry_ms };
}

function readEvent(row: EventRow): RegistryEvent {
  const { revision, type, key } = row;
  if (type === "config") return { revision, change: null };
  if (type === "delete") return { revision, change: { type, key } };
  return { revision, change: { type, key, lease: readLease(row) } };
}

/** Number of the newest event; 0 if there never was one. */
function newestRevision(database: DatabaseSync): number {
  const newest = database.prepare("SELECT max(revision) AS revision FROM events").get();
  return Number(newest?.revision ?? 0);
}

/** Everything but the log, within a transaction. */
function loadContents(database: DatabaseSync, unreadable: UnreadableKeys): RegistryContents {
  const config = database.prepare("SELECT text FROM config").get();
  const leases: Lease[] = [];
  const reasons = new Map<string, string>();
  for (const row of database.prepare("SELECT key, value, expiry_ms FROM leases").all()) {
    try {
      leases.push(readLease(row as unknown as LeaseRow));
    } catch (error) {
      reasons.set(String(row.key), errorText(error));
    }
  }
  unreadable.replace(reasons);
  return {
    configText: config === undefined ? null : String(config.text),
    table: LeaseTable.of(leases),
    revision: newestRevision(database),
    unreadableCount: unreadable.count,
    unreadable: unreadable.shown,
  };
}

/**
 * Reads a registry that no process keeps, and changes nothing in it. Throws `not_found` if there is
 * none, `conflict` while a process has it open, else as `openSqlite`.
 */
export function readRegistry(path: string): RegistryContents {
  const database = openSqliteReadOnly(path, SCHEMA);
  try {
    database.exec("BEGIN");
    return loadContents(database, new UnreadableKeys(LOG_SUBJECT));
  } catch (error) {
    throw new SelvageError("unavailable", `registry ${path}: ${errorText(error)}`, {
      cause: error,
    });
  } finally {
    database.close();
  }
}

/** What a backup keeps of a registry, as it is stored: what cannot be read is kept, too. */
export interface RegistryRows {
  readonly configText: string | null;
  /** As of `readConfigFile`. */
  readonly configFileText: string | null;
  readonly leases: readonly LeaseRow[];
}

function readRows(database: DatabaseSync): RegistryRows {
  const text = (table: string): string | null => {
    const isThere = database.prepare("SELECT 1 FROM sqlite_schema WHERE name = ?").get(table);
    const row = isThere && database.prepare(`SELECT text FROM ${table}`).get();
    return row === undefined ? null : String(row.text);
  };
  const leases = database.prepare("SELECT key, value, expiry_ms FROM leases ORDER BY key").all()
    .map((row) => ({ ...row }) as unknown as LeaseRow);
  return { configText: text("config"), configFileText: text("config_file"), leases };
}

/** The rows of a registry that no process keeps. Throws as `readRegistry`. */
export function exportRegistry(path: string): RegistryRows {
  const database = openSqliteReadOnly(path, SCHEMA);
  try {
    database.exec("BEGIN");
    return readRows(database);
  } catch (error) {
    throw databaseError(`registry ${path}`, error);
  } finally {
    database.close();
  }
}

/** Makes a new registry file of these rows, complete without a log. Throws as `openSqlite`. */
export function importRegistry(path: string, rows: RegistryRows): void {
  const database = new RegistryDatabase(path);
  try {
    database.importRows(rows);
  } finally {
    database.close();
  }
}

/** The tables in one SQLite file. It keeps nothing in memory and decides nothing. */
export class RegistryDatabase {
  readonly #kept: KeptDatabase;
  readonly #unreadable = new UnreadableKeys(LOG_SUBJECT);
  /** Random, made with the file: a client that meets another one must list anew. */
  readonly registryId: string;

  /** Opens or makes the file; throws as `openSqlite`. */
  constructor(readonly path: string) {
    this.#kept = new KeptDatabase(path, SCHEMA);
    try {
      this.registryId = this.#readIdentity();
    } catch (error) {
      this.#kept.close();
      throw error;
    }
  }

  get #database(): DatabaseSync {
    return this.#kept.database;
  }

  /** Why changes cannot be made, with what to do; null: the last one was made. */
  get failure(): string | null {
    return this.#kept.failure;
  }

  /** Looks whether changes can be made, as `KeptDatabase.check`. */
  check(): void {
    this.#kept.check();
  }

  #readIdentity(): string {
    return this.transact(() => {
      const row = this.#database.prepare("SELECT registry_id FROM identity").get();
      if (row !== undefined) return String(row.registry_id);
      const id = randomBytes(16).toString("hex");
      this.#database.prepare("INSERT INTO identity (registry_id) VALUES (?)").run(id);
      return id;
    });
  }

  /** Runs `work` in one transaction; throws as `KeptDatabase.transact`. */
  transact<T>(work: () => T): T {
    return this.#kept.transact(work);
  }

  /** Everything but the log. */
  load(): RegistryContents {
    return this.#kept.read((database) => loadContents(database, this.#unreadable));
  }

  /** Number of the newest event; 0 if there never was one. Throws if it cannot be read. */
  newestRevision(): number {
    return this.#kept.read(newestRevision);
  }

  /** All that a backup keeps. */
  exportRows(): RegistryRows {
    return this.#kept.read(readRows);
  }

  /** Fills the tables of a new file. */
  importRows({ configText, configFileText, leases }: RegistryRows): void {
    this.transact(() => {
      if (configText !== null) this.writeConfig(configText, 0);
      if (configFileText !== null) this.writeConfigFile(configFileText);
      const put = this.#database.prepare(
        "INSERT INTO leases (key, value, expiry_ms) VALUES (?, ?, ?)",
      );
      for (const { key, value, expiry_ms } of leases) put.run(key, value, expiry_ms);
    });
    completeFile(this.#database, `registry ${this.path}`);
  }

  /** Within `transact`: carries the changes out and logs them as the revisions after this one. */
  write(changes: readonly LeaseChange[], revision: number): RegistryEvent[] {
    const put = this.#database.prepare(
      "INSERT OR REPLACE INTO leases (key, value, expiry_ms) VALUES (?, ?, ?)",
    );
    const remove = this.#database.prepare("DELETE FROM leases WHERE key = ?");
    const log = this.#database.prepare(
      "INSERT INTO events (revision, type, key, value, expiry_ms) VALUES (?, ?, ?, ?, ?)",
    );
    return changes.map((change, i) => {
      const number = revision + i + 1;
      if (change.type === "delete") {
        remove.run(change.key);
        log.run(number, "delete", change.key, null, null);
      } else {
        const value = formatLeaseValue(change.lease);
        const key = leaseKey(change.lease.subnets);
        const expiry_ms = knownExpiry_ms(change.lease);
        put.run(key, value, expiry_ms);
        log.run(number, "put", key, value, expiry_ms);
      }
      return { revision: number, change };
    });
  }

  /** Within `transact`: replaces the configuration and logs that as the revision after this. */
  writeConfig(text: string, revision: number): RegistryEvent {
    this.#database.prepare("DELETE FROM config").run();
    this.#database.prepare("INSERT INTO config (text) VALUES (?)").run(text);
    this.#database.prepare("INSERT INTO events (revision, type) VALUES (?, 'config')")
      .run(revision + 1);
    return { revision: revision + 1, change: null };
  }

  /** The text that `writeConfigFile` got last; null: none. */
  readConfigFile(): string | null {
    const row = this.#database.prepare("SELECT text FROM config_file").get();
    return row === undefined ? null : String(row.text);
  }

  /** Within `transact`: keeps what the configuration file said when it was applied. */
  writeConfigFile(text: string): void {
    this.#database.prepare("DELETE FROM config_file").run();
    this.#database.prepare("INSERT INTO config_file (text) VALUES (?)").run(text);
  }

  /** Within `transact`: forgets events up to this revision. */
  compact(revision: number): void {
    this.#database.prepare("DELETE FROM events WHERE revision <= ?").run(revision);
  }

  /** The events after a revision, oldest first, `countMax` at most. Throws if that fails. */
  eventsAfter(revision: number, countMax: number): RegistryEvent[] {
    const rows = this.#database.prepare(
      "SELECT revision, type, key, value, expiry_ms FROM events " +
        "WHERE revision > ? ORDER BY revision LIMIT ?",
    ).all(revision, countMax);
    return rows.map((row) => readEvent(row as unknown as EventRow));
  }

  close(): void {
    this.#kept.close();
  }
}
