/**
 * Backup and restore of a registry: its configuration, leases, tokens, certificate and key, in one
 * JSON file. Log and revisions are left out: hosts that watch list anew after a restore, because a
 * registry has another incarnation each time that it is opened.
 */
import { existsSync, renameSync, rmSync, statSync } from "node:fs";
import { z } from "zod";
import { fileReason, hasCode, SelvageError } from "../errors.ts";
import { parseNetworkConfig } from "../config/parse_network_config.ts";
import { readFileBounded, syncDirectory } from "../files.ts";
import { checked, isObject, parseJson } from "../net/checked.ts";
import { findJsonFault } from "../net/json_fault.ts";
import {
  exportRegistry,
  importRegistry,
  registryPath,
  type RegistryRows,
} from "../store/registry_database.ts";
import { LOG_SUFFIXES } from "../store/sqlite_file.ts";
import { LEASE_TTL_MS } from "../store/store.ts";
import { certificatePaths, checkPair, storedCertificate, writeCertificate } from "./certificate.ts";
import { exportTokens, importTokens, type TokenRow, tokensPath } from "./tokens.ts";

const FORMAT = "selvage registry backup";
const VERSION = 1;

/** The longest file that is read: some 65,000 leases take 20 MB. */
const SIZE_MAX_BYTES = 256 * 1024 * 1024;

const schema = z.object({
  format: z.literal(FORMAT),
  version: z.number().int().min(1),
  /** When it was made, in ms since 1970. */
  created_ms: z.number().int(),
  registry: z.object({
    configText: z.string().nullable(),
    configFileText: z.string().nullable(),
    leases: z.array(z.object({
      key: z.string(),
      value: z.string(),
      expiry_ms: z.number().int().nullable(),
    })),
  }),
  tokens: z.array(z.object({
    id: z.string(),
    /** SHA-256 of the secret, 64 lower-case hex digits. */
    hash: z.string().regex(/^[0-9a-f]{64}$/),
    scope: z.enum(["join", "api"]),
    description: z.string(),
    created_ms: z.number().int(),
  })),
  /** null: the registry never listened. */
  certificate: z.object({ certificatePem: z.string(), privateKeyPem: z.string() }).nullable(),
});

/** A backup, read. */
export type RegistryBackup = z.infer<typeof schema>;

/** What a backup is made of. */
export interface BackupParts {
  readonly registry: RegistryRows;
  readonly tokens: readonly TokenRow[];
  readonly certificate: RegistryBackup["certificate"];
}

/**
 * The text of a backup. It holds the registry's private key: anyone who reads it can pose as the
 * registry.
 */
export function formatBackup(parts: BackupParts, now_ms: number): string {
  const { registry, tokens, certificate } = parts;
  const pair = certificate && {
    certificatePem: certificate.certificatePem,
    privateKeyPem: certificate.privateKeyPem,
  };
  const head = { format: FORMAT, version: VERSION, created_ms: now_ms };
  return `${JSON.stringify({ ...head, registry, tokens, certificate: pair })}\n`;
}

/**
 * The text of a backup as a value. The error never quotes the text: a file that was chosen by
 * mistake may hold a secret, and a backup does.
 */
function parseOwnJson(text: string, where: string): unknown {
  try {
    const value = parseJson(text, where);
    if (isObject(value) && value.format === FORMAT) return value;
  } catch {
    // What is wrong is said below.
  }
  if (!text.startsWith(`{"format":"${FORMAT}"`)) {
    throw new SelvageError("invalid_argument", `${where} is not a backup of a registry`, {
      hint: "Give the file that `selvage registry backup FILE` wrote.",
    });
  }
  const fault = findJsonFault(text);
  const place = fault === null ? "" : `: line ${fault.line}, column ${fault.column}`;
  const reason = `not JSON${place}: this backup is cut short or was changed`;
  throw new SelvageError("invalid_argument", `${where}: ${reason}`, {
    hint: "Copy it anew from where it was made, or restore another backup.",
  });
}

/** Reads the text of a backup; `where` names it in errors. Throws `invalid_argument`. */
export function parseBackup(text: string, where: string): RegistryBackup {
  const backup = checked(schema, parseOwnJson(text, where), where);
  if (backup.version <= VERSION) return backup;
  const error = `${where}: this backup has the newer version ${backup.version}`;
  throw new SelvageError("unsupported", error, {
    hint: "Restore it with the Selvage that made it.",
  });
}

/** Reads a backup's file. Throws as `readFileBounded` and `parseBackup`, naming the file. */
export function readBackup(path: string): RegistryBackup {
  return parseBackup(readFileBounded(path, SIZE_MAX_BYTES), path);
}

/** Throws `invalid_argument` if the path exists and is not a directory. */
function requireDirectory(stateDir: string): void {
  let reason = "not a directory";
  try {
    const stat = statSync(stateDir, { throwIfNoEntry: false });
    if (stat === undefined || stat.isDirectory()) return;
  } catch (error) {
    reason = fileReason(error);
  }
  throw new SelvageError("invalid_argument", `state directory ${stateDir}: ${reason}`, {
    hint: "Name the directory with --state-dir.",
  });
}

/** As `exportRegistry`; `hint` says what to do if a process has the registry open. */
function exportStopped(path: string, hint: string): RegistryRows {
  try {
    return exportRegistry(path);
  } catch (error) {
    if (!hasCode(error, "conflict")) throw error;
    throw new SelvageError("conflict", error.message, { hint, cause: error });
  }
}

/**
 * The text of a backup from the files of a registry that no process has open. Throws `not_found` if
 * there is none, `invalid_argument` if `stateDir` is no directory, `conflict` while a process has
 * it open.
 */
export function backUpFiles(stateDir: string, now_ms: number): string {
  requireDirectory(stateDir);
  const hint = "Ask the running selvage for the backup: leave --state-dir out.";
  const registry = exportStopped(registryPath(stateDir), hint);
  const tokensFile = tokensPath(stateDir);
  const tokens = existsSync(tokensFile) ? exportTokens(tokensFile) : [];
  return formatBackup({ registry, tokens, certificate: storedCertificate(stateDir) }, now_ms);
}

/** Throws `conflict` while a process has the registry of this state directory open. */
function requireStopped(stateDir: string): void {
  const path = registryPath(stateDir);
  if (!existsSync(path)) return;
  try {
    exportStopped(path, "Stop selvage on this host first, and start it again after the restore.");
  } catch (error) {
    // A backup is there to replace a damaged file.
    if (hasCode(error, "conflict")) throw error;
  }
}

/** Throws if a registry of this backup could not start. */
function requireUsable({ registry, certificate }: RegistryBackup): void {
  if (registry.configText !== null) {
    parseNetworkConfig(registry.configText, "the backup's network configuration");
  }
  if (certificate === null) return;
  checkPair(certificate, {
    certificate: "the backup's certificate",
    key: "the backup's private key",
    hint: "Restore another backup: this one was changed after it was made.",
  });
}

/** Replaces a database file, which no process has open, by a complete one. */
function putInPlace(made: string, path: string): void {
  // SQLite would take a log beside it for that of the new file.
  for (const suffix of LOG_SUFFIXES) rmSync(path + suffix, { force: true });
  renameSync(made, path);
}

/**
 * A lease's value without the run of the daemon that wrote it: its host may have been restarted
 * since the backup, and would take another run for another daemon. What cannot be read stays.
 */
function withoutRun(value: string): string {
  try {
    const { Node: node, ...rest } = JSON.parse(value) as Record<string, unknown>;
    if (!isObject(node)) return value;
    return JSON.stringify({ ...rest, Node: { ...node, Run: undefined } });
  } catch {
    return value;
  }
}

/** The backup's rows with leases that end at this time, in ms since 1970. */
function restoredRows({ registry }: RegistryBackup, expiry_ms: number): RegistryRows {
  const leases = registry.leases.map((lease) => ({
    ...lease,
    value: withoutRun(lease.value),
    expiry_ms: lease.expiry_ms === null ? null : expiry_ms,
  }));
  return { ...registry, leases };
}

/**
 * Makes the registry of a backup in this state directory, for the next start of selvage there.
 * Leases get a whole lifetime from now on, since their hosts may have renewed them after the
 * backup was made. Throws `conflict` while selvage runs there, or if a registry is there already
 * and it is not `isForced`; and if a registry could not start with the backup, or its files cannot
 * be written. Nothing is changed then.
 */
export function restoreBackup(
  backup: RegistryBackup,
  stateDir: string,
  options: { readonly isForced: boolean; readonly now_ms: number },
): void {
  requireUsable(backup);
  requireDirectory(stateDir);
  requireStopped(stateDir);
  const paths = [
    registryPath(stateDir),
    tokensPath(stateDir),
    ...Object.values(certificatePaths(stateDir)),
  ];
  const found = paths.find((path) => existsSync(path));
  if (found !== undefined && !options.isForced) {
    throw new SelvageError("conflict", `${stateDir} holds a registry already: ${found}`, {
      hint: "Choose another --state-dir, or replace that registry with --force.",
    });
  }
  const [registry, tokens] = [registryPath(stateDir), tokensPath(stateDir)];
  const made = (path: string) => `${path}.restored`;
  const removeMade = () => {
    for (const path of [registry, tokens].map(made)) {
      for (const suffix of ["", ...LOG_SUFFIXES]) rmSync(path + suffix, { force: true });
    }
  };
  removeMade();
  try {
    importRegistry(made(registry), restoredRows(backup, options.now_ms + LEASE_TTL_MS));
    importTokens(made(tokens), backup.tokens);
    if (backup.certificate !== null) writeCertificate(stateDir, backup.certificate);
  } catch (error) {
    removeMade();
    throw error;
  }
  putInPlace(made(tokens), tokens);
  putInPlace(made(registry), registry);
  syncDirectory(stateDir);
}
