/** The flags by which etcd is reached: flannel's, of every command that may use it. */
import type { Command } from "commander";
import { parseEndpoints } from "../etcd/client/endpoint.ts";
import { ETCD_DEFAULTS, type EtcdOptions } from "../etcd/options.ts";
import { readPasswordFile } from "../etcd/password_file.ts";
import { valueFlag } from "./flags.ts";
import { UsageError } from "./usage_error.ts";
import { nonEmpty } from "./values.ts";

export interface EtcdFlags {
  /** Undefined: etcd is not used. */
  readonly etcdEndpoints?: readonly string[];
  readonly etcdPrefix?: string;
  readonly etcdKeyfile?: string;
  readonly etcdCertfile?: string;
  readonly etcdCafile?: string;
  readonly etcdUsername?: string;
  readonly etcdPassword?: string;
  readonly etcdPasswordFile?: string;
}

/** Endpoints with commas between them, as they were written. */
function endpointList(text: string): string[] {
  const endpoints = text.split(",").map((one) => one.trim()).filter((one) => one !== "");
  if (endpoints.length === 0) throw new Error("must be at least one URL, such as https://h:2379");
  // Only whether they can be read: which are https the files of TLS say, which come later.
  parseEndpoints(endpoints, false);
  return endpoints;
}

/** A prefix as flannel reads it, which joins keys to it by Go's `path.Join`. */
function keyPrefix(text: string): string {
  const parts = text.split("/").filter((part) => part !== "");
  if (parts.some((part) => part === "." || part === "..")) throw new Error("must not hold . or ..");
  const prefix = `${text.startsWith("/") ? "/" : ""}${parts.join("/")}`;
  return nonEmpty(prefix);
}

/** Adds them; `usesByDefault`: with flannel's endpoints where none are given. */
export function addEtcdFlags(command: Command, usesByDefault = false): Command {
  const env = "flannel";
  const file = (term: string, description: string, alternative?: string) =>
    valueFlag({ term: `${term} <file>`, description, parse: nonEmpty, env, alternative });
  const flags = [
    valueFlag({
      term: "etcd-endpoints <urls>",
      description: usesByDefault
        ? "URLs of the members of etcd, with commas between them"
        : "use etcd, in flannel's layout: URLs of its members, with commas between them",
      parse: endpointList,
      ...(usesByDefault
        ? { default: endpointList(ETCD_DEFAULTS.endpoints), defaultText: ETCD_DEFAULTS.endpoints }
        : {}),
      env,
    }),
    valueFlag({
      term: "etcd-prefix <key>",
      description: `prefix of all keys in etcd (default: ${ETCD_DEFAULTS.prefix})`,
      parse: keyPrefix,
      env,
    }),
    file("etcd-keyfile", "key (PEM) of the client certificate"),
    file("etcd-certfile", "certificate (PEM) to show to etcd"),
    file("etcd-cafile", "certificate authorities (PEM) that must have signed etcd's certificates"),
    valueFlag({ term: "etcd-username <name>", description: "etcd user", parse: nonEmpty, env }),
    valueFlag({
      term: "etcd-password <secret>",
      description:
        "password for etcd (prefer --etcd-password-file: arguments are visible to all users)",
      parse: nonEmpty,
      env,
      alternative: "etcd-password-file",
    }),
    file("etcd-password-file", "file whose first line is the password", "etcd-password"),
  ];
  for (const flag of flags) command.addOption(flag);
  return command;
}

function readPassword(flags: EtcdFlags): string | null {
  const { etcdPassword, etcdPasswordFile } = flags;
  if (etcdPasswordFile === undefined) return etcdPassword ?? null;
  if (etcdPassword !== undefined) {
    throw new UsageError("--etcd-password and --etcd-password-file exclude each other");
  }
  return readPasswordFile(etcdPasswordFile);
}

/** Refuses what flannel's client would silently do without. */
function checkPairs(flags: EtcdFlags): void {
  const isInFile = flags.etcdPasswordFile !== undefined;
  const hasPassword = isInFile || flags.etcdPassword !== undefined;
  if ((flags.etcdKeyfile === undefined) !== (flags.etcdCertfile === undefined)) {
    throw new UsageError("--etcd-certfile and --etcd-keyfile go together");
  }
  if (hasPassword !== (flags.etcdUsername !== undefined)) {
    throw new UsageError(
      hasPassword
        ? `--etcd-password${isInFile ? "-file" : ""} needs --etcd-username`
        : "--etcd-username needs a password",
      "Give both, or neither; the password best by --etcd-password-file.",
    );
  }
}

/**
 * How etcd is reached; null if no endpoints are given. Throws `UsageError` if others of its flags
 * are, or where two do not go together; and what reading the password's file throws.
 */
export function etcdOptions(flags: EtcdFlags): EtcdOptions | null {
  const { etcdEndpoints: endpoints } = flags;
  if (endpoints === undefined) {
    const stray = Object.keys(flags).find((name) => name.startsWith("etcd"));
    if (stray === undefined) return null;
    const name = stray.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
    throw new UsageError(
      `--${name} means nothing without --etcd-endpoints`,
      "Name the endpoints, or leave the flag (or its environment variable) out.",
    );
  }
  checkPairs(flags);
  return {
    endpoints,
    prefix: flags.etcdPrefix ?? ETCD_DEFAULTS.prefix,
    keyfile: flags.etcdKeyfile ?? null,
    certfile: flags.etcdCertfile ?? null,
    cafile: flags.etcdCafile ?? null,
    username: flags.etcdUsername ?? null,
    password: readPassword(flags),
    passwordFile: flags.etcdPasswordFile ?? null,
  };
}
