/**
 * Secrets of the command line: all users of a host see the arguments of every process, so the
 * program starts itself anew without them, and says where they are better kept.
 */
import { statSync } from "node:fs";
import type { Command } from "commander";

/** The variable by which a program that started itself anew gets its secrets. */
export const SECRETS_VARIABLE = "SELVAGE_HIDDEN_ARGUMENTS";

const MASK = "***";
/** The flags whose value is a secret. One that begins with `@` names a file. */
const SECRET_FLAG = /^--?(join|etcd-password|token)(=(.*))?$/s;

function isSecret(value: string | undefined): value is string {
  return value !== undefined && value !== "" && !value.startsWith("@");
}

/** Replaces each secret by the result of `replace`. */
function mapSecrets(args: readonly string[], replace: (secret: string) => string): string[] {
  const result: string[] = [];
  let isValue = false;
  for (const arg of args) {
    const [, name, assigned, value] = SECRET_FLAG.exec(arg) ?? [];
    if (isValue) result.push(isSecret(arg) ? replace(arg) : arg);
    else if (isSecret(value)) result.push(`--${name}=${replace(value)}`);
    else result.push(arg);
    isValue = !isValue && name !== undefined && assigned === undefined;
  }
  return result;
}

/** A text for the terminal or a log, in which no join string can be read. */
export function withoutJoinStrings(text: string): string {
  return text.replace(/\b(selvage[1-9][0-9]*\.)[A-Za-z0-9_-]{8,}/g, `$1${MASK}`);
}

/** The arguments as all may see them, and their secrets in the order in which they stand. */
export function maskSecrets(args: readonly string[]): { masked: string[]; secrets: string[] } {
  const secrets: string[] = [];
  const masked = mapSecrets(args, (secret) => {
    secrets.push(secret);
    return MASK;
  });
  return { masked, secrets };
}

/** The arguments with their secrets in place; `text` is the value of `SECRETS_VARIABLE`. */
export function restoreSecrets(masked: readonly string[], text: string): string[] {
  try {
    const secrets = JSON.parse(text) as string[];
    return mapSecrets(masked, (mask) => secrets.shift() ?? mask);
  } catch {
    // Another program set the variable, so the arguments are used as they are.
    return [...masked];
  }
}

/** The warning about a file with a secret that users other than its owner can read or change. */
function fileNotice(path: string): string | null {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined || !stat.isFile() || (stat.mode & 0o066) === 0) return null;
  const mode = (stat.mode & 0o777).toString(8).padStart(4, "0");
  return `${path} holds a secret, and its mode ${mode} lets other users of this host read or ` +
    `change it: chmod 600 ${path}`;
}

/** Warnings about secrets that a command was given carelessly, a sentence each. */
export function secretNotices(command: Command): string[] {
  const { join, etcdPasswordFile, etcdKeyfile } = command.opts<Record<string, unknown>>();
  const isTyped = (name: string) => command.getOptionValueSource(name) === "cli";
  const isFile = typeof join === "string" && join.startsWith("@");
  const notices: string[] = [];
  if (isTyped("join") && !isFile) {
    notices.push(
      "--join: users of this host could see the join string in the list of processes when this " +
        "program started. Keep it in a file of mode 0600, and give --join @FILE.",
    );
  }
  if (isTyped("etcdPassword")) {
    notices.push(
      "--etcd-password: users of this host could see it in the list of processes when this " +
        "program started. Use --etcd-password-file.",
    );
  }
  const files = [isFile ? join.slice(1) : null, etcdPasswordFile, etcdKeyfile];
  const paths = files.filter((path) => typeof path === "string" && path !== "");
  return [...notices, ...paths.flatMap((path) => fileNotice(path as string) ?? [])];
}
