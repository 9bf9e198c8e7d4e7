/**
 * The tokens by which others prove that they may join, or change things over the API.
 *
 * A token is `ID.SECRET`. The secret is 256 random bits, so its plain SHA-256 is safe to keep: no
 * list of likely secrets can be tried against it, which is all that a slow hash would hinder.
 */
import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { DatabaseSync } from "node:sqlite";
import { SelvageError } from "../errors.ts";
import { KeptDatabase } from "../store/kept_database.ts";
import { completeFile, openSqlite, openSqliteReadOnly, transact } from "../store/sqlite_file.ts";

/** What a token is good for: the registry, or the changing half of the API. */
export type TokenScope = "join" | "api";

/** A token without its secret. */
export interface TokenInfo {
  readonly id: string;
  readonly scope: TokenScope;
  /** As given at its creation; may be empty. */
  readonly description: string;
  /** In ms since 1970. */
  readonly created_ms: number;
}

/** Tokens that one host keeps at most. */
export const TOKEN_COUNT_MAX = 1000;

/** In characters. */
export const TOKEN_DESCRIPTION_LENGTH_MAX = 200;

const SCHEMA = {
  what: "token file",
  version: 1,
  // The daemon and `selvage token` use it at the same time.
  exclusive: false,
  create: `
    CREATE TABLE tokens (
      id TEXT PRIMARY KEY,
      hash BLOB NOT NULL,
      scope TEXT NOT NULL CHECK (scope IN ('join', 'api')),
      description TEXT NOT NULL,
      created_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
  `,
};

const INSERT_TOKEN =
  "INSERT INTO tokens (id, hash, scope, description, created_ms) VALUES (?, ?, ?, ?, ?)";

const TOKEN_PATTERN = /^([0-9a-f]{12})\.([A-Za-z0-9_-]{43})$/;

/** The tokens' file in the state directory. */
export function tokensPath(stateDir: string): string {
  return join(stateDir, "tokens.db");
}

function hashOf(secret: string): Uint8Array {
  return createHash("sha256").update(secret).digest();
}

/** A token as it is kept. */
export interface TokenRow extends TokenInfo {
  /** SHA-256 of the secret, 64 lower-case hex digits. */
  readonly hash: string;
}

function readRows(database: DatabaseSync): TokenRow[] {
  return database.prepare(
    "SELECT id, lower(hex(hash)) AS hash, scope, description, created_ms FROM tokens ORDER BY id",
  ).all().map((row) => ({ ...row }) as unknown as TokenRow);
}

/** All tokens in a file that no process has open. Throws as `openSqliteReadOnly`. */
export function exportTokens(path: string): TokenRow[] {
  const database = openSqliteReadOnly(path, SCHEMA);
  try {
    return readRows(database);
  } finally {
    database.close();
  }
}

/** Makes a new file of these tokens, complete without a log. Throws as `openSqlite`. */
export function importTokens(path: string, tokens: readonly TokenRow[]): void {
  const database = openSqlite(path, SCHEMA);
  const name = `token file ${path}`;
  try {
    transact(database, name, () => {
      const insert = database.prepare(INSERT_TOKEN);
      for (const { id, hash, scope, description, created_ms } of tokens) {
        insert.run(id, Buffer.from(hash, "hex"), scope, description, created_ms);
      }
    });
    completeFile(database, name);
  } finally {
    database.close();
  }
}

/** The file of tokens. It is opened at the first use; a look into it never makes it. */
export class TokenStore {
  #kept: KeptDatabase | null = null;
  readonly #listeners = new Set<(id: string) => void>();

  constructor(readonly path: string, readonly now_ms: () => number = Date.now) {}

  #open(): KeptDatabase {
    return this.#kept ??= new KeptDatabase(this.path, SCHEMA);
  }

  /** Null while there is no file, which is to say no token. */
  #openExisting(): DatabaseSync | null {
    return this.#kept === null && !existsSync(this.path) ? null : this.#open().database;
  }

  /** Why tokens cannot be made or revoked, with what to do; null: the last change was made. */
  get failure(): string | null {
    return this.#kept?.failure ?? null;
  }

  /** Looks whether changes can be made, as `KeptDatabase.check`. */
  check(): void {
    this.#kept?.check();
  }

  /**
   * Makes a token. Its text is given this once; the file keeps its hash. Throws
   * `invalid_argument` for a description that is too long, `too_large` when there are too many.
   */
  create(scope: TokenScope, description = ""): { info: TokenInfo; token: string } {
    if (description.length > TOKEN_DESCRIPTION_LENGTH_MAX) {
      const limit = `longer than ${TOKEN_DESCRIPTION_LENGTH_MAX} characters`;
      throw new SelvageError("invalid_argument", `the token's description is ${limit}`);
    }
    const secret = randomBytes(32).toString("base64url");
    const info: TokenInfo = {
      id: randomBytes(6).toString("hex"),
      scope,
      description,
      created_ms: this.now_ms(),
    };
    this.#open().transact((database) => {
      const row = database.prepare("SELECT count(*) AS count FROM tokens").get();
      if (Number(row?.count) >= TOKEN_COUNT_MAX) {
        throw new SelvageError("too_large", `${TOKEN_COUNT_MAX} tokens exist already`, {
          hint: "Revoke tokens that are not needed: selvage token revoke ID.",
        });
      }
      database.prepare(INSERT_TOKEN).run(
        info.id,
        hashOf(secret),
        scope,
        description,
        info.created_ms,
      );
    });
    return { info, token: `${info.id}.${secret}` };
  }

  /** All tokens without their secrets, oldest first. */
  list(): TokenInfo[] {
    const database = this.#openExisting();
    if (database === null) return [];
    return database.prepare(
      "SELECT id, scope, description, created_ms FROM tokens ORDER BY created_ms, id",
    ).all().map((row) => ({ ...row }) as unknown as TokenInfo);
  }

  /** All tokens as they are kept, for a backup. */
  exportRows(): TokenRow[] {
    const database = this.#openExisting();
    return database === null ? [] : readRows(database);
  }

  /** Ends a token at once. Throws `not_found` if there is none with this id. */
  revoke(id: string): void {
    const unknown = () => new SelvageError("not_found", `there is no token ${JSON.stringify(id)}`);
    if (this.#openExisting() === null) throw unknown();
    const count = this.#open().transact((database) =>
      database.prepare("DELETE FROM tokens WHERE id = ?").run(id).changes
    );
    if (Number(count) === 0) throw unknown();
    for (const listener of [...this.#listeners]) listener(id);
  }

  /**
   * Which token this is, or null if it is none of ours. The secrets' hashes are compared in
   * constant time; how long it takes tells at most whether the id exists, which is no secret.
   */
  identify(token: string): { readonly id: string; readonly scope: TokenScope } | null {
    const match = TOKEN_PATTERN.exec(token);
    const database = this.#openExisting();
    if (match === null || database === null) return null;
    const [, id, secret] = match;
    const row = database.prepare("SELECT hash, scope FROM tokens WHERE id = ?").get(id!);
    if (row === undefined) return null;
    const expected = row.hash as Uint8Array;
    const given = hashOf(secret!);
    if (expected.length !== given.length || !timingSafeEqual(expected, given)) return null;
    return { id: id!, scope: row.scope as TokenScope };
  }

  /** What the token is good for, or null if it is none of ours. */
  verify(token: string): TokenScope | null {
    return this.identify(token)?.scope ?? null;
  }

  /** Whether the token with this id still exists; another process may have revoked it. */
  exists(id: string): boolean {
    const database = this.#openExisting();
    return database?.prepare("SELECT 1 FROM tokens WHERE id = ?").get(id) !== undefined;
  }

  /** Calls `listener` with the id of each token revoked here. Gives the function that ends it. */
  onRevoke(listener: (id: string) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  close(): void {
    this.#kept?.close();
    this.#kept = null;
  }
}
