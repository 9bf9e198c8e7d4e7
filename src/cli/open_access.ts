/** The flags that say where leases and configuration are, and the access they give. */
import type { Command } from "commander";
import { SelvageError } from "../errors.ts";
import type { NetworkAccess } from "./access.ts";
import { addClientFlags, type ClientFlags } from "./client.ts";
import type { CommandContext } from "./context.ts";
import { daemonAccess } from "./daemon_access.ts";
import { addEtcdFlags, type EtcdFlags, etcdOptions } from "./etcd_flags.ts";
import { UsageError } from "./usage_error.ts";

export interface AccessFlags extends ClientFlags, EtcdFlags {}

/** Those of the daemon's API, and those of etcd, which go before it. */
export function addAccessFlags(command: Command): Command {
  return addEtcdFlags(addClientFlags(command));
}

/** Refuses to guess which of two was meant. */
function checkOnePlace(command: Command): void {
  const isTyped = (attribute: string) => command.getOptionValueSource(attribute) === "cli";
  const api = (["api", "apiSocket"] as const).find(isTyped);
  if (api === undefined || !isTyped("etcdEndpoints")) return;
  throw new UsageError(
    `--etcd-endpoints and --${api === "api" ? api : "api-socket"} exclude each other`,
    "Ask either etcd or a running selvage.",
  );
}

/** If advice names one of our commands, the command must ask etcd too: there may be no daemon. */
function namingEtcd(error: unknown, endpoints: readonly string[]): unknown {
  if (!(error instanceof SelvageError)) return error;
  const flag = `--etcd-endpoints ${endpoints.join(",")}`;
  let { hint } = error;
  if (error.code === "config_missing") {
    hint = `Write one, with all of these etcd flags: selvage config set FILE ${flag}`;
  } else if (/\bselvage (config|leases)\b/.test(hint) && !hint.includes("--etcd-endpoints")) {
    hint += ` Give such a command the same etcd flags: ${flag}`;
  } else return error;
  return new SelvageError(error.code, error.message, { hint, cause: error });
}

/** Runs `work` with the access that the command's flags name, and closes it. */
export async function withAccess<T>(
  command: Command,
  context: CommandContext,
  work: (access: NetworkAccess) => Promise<T>,
): Promise<T> {
  const flags = command.opts<AccessFlags>();
  checkOnePlace(command);
  // An API that was typed goes before endpoints that are only in the environment.
  const isApiTyped = ["api", "apiSocket"].some((one) =>
    command.getOptionValueSource(one) === "cli"
  );
  const etcd = isApiTyped ? null : etcdOptions(flags);
  let access: NetworkAccess;
  if (etcd === null) access = daemonAccess(flags);
  else {
    const { etcdAccess } = await import("./etcd_access.ts");
    access = await etcdAccess(etcd, context);
  }
  try {
    return await work(access);
  } catch (error) {
    const isTyped = command.getOptionValueSource("etcdEndpoints") === "cli";
    throw etcd !== null && isTyped ? namingEtcd(error, etcd.endpoints) : error;
  } finally {
    await access.close();
  }
}
