/** `selvage registry`: backup and restore of the registry on this host. */
import { lstatSync } from "node:fs";
import type { Command } from "commander";
import { DEFAULTS } from "../../agent/options.ts";
import { hasCode, SelvageError } from "../../errors.ts";
import { writeFileAtomic } from "../../files.ts";
import type { RegistryBackup } from "../../registry/backup.ts";
import { printable, printableJson } from "../../printable.ts";
import { addClientFlags, type ClientFlags, openClient, succeeded } from "../client.ts";
import type { CommandContext } from "../context.ts";
import { boolFlag, valueFlag } from "../flags.ts";
import { formatCount, formatTime } from "../units.ts";
import { UsageError } from "../usage_error.ts";
import { nonEmpty } from "../values.ts";

interface BackupFlags extends ClientFlags {
  readonly stateDir?: string;
  readonly force?: boolean;
  readonly json?: boolean;
}

interface RestoreFlags {
  readonly stateDir: string;
  readonly force?: boolean;
  readonly json?: boolean;
}

const jsonFlag = () =>
  boolFlag({ term: "json", description: "print what the backup holds as JSON" });

function summary({ created_ms, registry, tokens, certificate }: RegistryBackup) {
  return {
    created_ms,
    leaseCount: registry.leases.length,
    tokenCount: tokens.length,
    hasConfiguration: registry.configText !== null,
    hasCertificate: certificate !== null,
  };
}

function summaryText(backup: RegistryBackup): string {
  const { leaseCount, tokenCount, hasConfiguration, hasCertificate } = summary(backup);
  return [
    hasConfiguration ? "the network's configuration" : "no network configuration",
    formatCount(leaseCount, "lease"),
    formatCount(tokenCount, "token"),
    hasCertificate ? "certificate and key" : "no certificate",
  ].join(", ");
}

/** The text of a backup: from the daemon, or from the files of one that does not run. */
async function backupText(flags: BackupFlags, { io }: CommandContext): Promise<string> {
  if (flags.stateDir !== undefined) {
    const { backUpFiles } = await import("../../registry/backup.ts");
    return backUpFiles(flags.stateDir, io.now_ms());
  }
  try {
    return await (await succeeded(openClient(flags).v1.registry.backup.$get())).text();
  } catch (error) {
    if (!hasCode(error, "unavailable")) throw error;
    const hint = "If selvage does not run here, name the directory of its files: --state-dir " +
      DEFAULTS.stateDir;
    throw new SelvageError(error.code, error.message, { hint, cause: error });
  }
}

function addBackup(registry: Command, context: CommandContext): void {
  const { io } = context;
  const command = registry.command("backup")
    .description("write configuration, leases, tokens, certificate and key into one file")
    .argument(
      "<file>",
      "backup file to write; only its owner can read it, because it holds secrets",
    )
    .addOption(valueFlag({
      term: "state-dir <dir>",
      description:
        "directory of the registry's files, while selvage does not run; default: ask the daemon",
      parse: nonEmpty,
    }))
    .addOption(boolFlag({ term: "force", description: "replace an existing file" }))
    .addOption(jsonFlag());
  addClientFlags(command).action(async (file: string, flags: BackupFlags) => {
    if (flags.api !== undefined && flags.stateDir !== undefined) {
      throw new UsageError("--state-dir and --api cannot be used together");
    }
    if (lstatSync(file, { throwIfNoEntry: false }) !== undefined && flags.force !== true) {
      throw new SelvageError("conflict", `${file} already exists`, {
        hint: "Choose another name, or replace it with --force.",
      });
    }
    const { parseBackup } = await import("../../registry/backup.ts");
    const text = await backupText(flags, context);
    const backup = parseBackup(text, "the backup");
    writeFileAtomic(file, text, { mode: 0o600 });
    if (flags.json === true) return io.out(printableJson({ file, ...summary(backup) }));
    io.out(printable(`wrote ${file}: ${summaryText(backup)}`) + "\n");
    io.err("Keep it secret: anyone who has it can pose as this registry.\n");
  });
}

function addRestore(registry: Command, { io }: CommandContext): void {
  registry.command("restore")
    .description("make the registry from a backup, while selvage does not run on this host")
    .argument("<file>", "backup file that `selvage registry backup` wrote")
    .addOption(valueFlag({
      term: "state-dir <dir>",
      description: "directory to make the registry in",
      parse: nonEmpty,
      default: DEFAULTS.stateDir as string,
      env: "selvage",
    }))
    .addOption(boolFlag({ term: "force", description: "replace an existing registry" }))
    .addOption(jsonFlag())
    .action(async (file: string, flags: RestoreFlags) => {
      const { readBackup, restoreBackup } = await import("../../registry/backup.ts");
      const backup = readBackup(file);
      const { stateDir } = flags;
      restoreBackup(backup, stateDir, { isForced: flags.force === true, now_ms: io.now_ms() });
      if (flags.json === true) return io.out(printableJson({ stateDir, ...summary(backup) }));
      const made = formatTime(backup.created_ms);
      io.out(printable(`restored into ${stateDir}, as of ${made}: ${summaryText(backup)}`) + "\n");
      io.err("Start selvage with the flags that it had. The other hosts need no restart.\n");
    });
}

const EXAMPLES = `
Examples:
  selvage registry backup /root/registry.backup
  systemctl stop selvage
  selvage registry restore /root/registry.backup --force
  systemctl start selvage
`;

/** Adds `registry` with its subcommands to the program. */
export function addRegistry(program: Command, context: CommandContext): void {
  const registry = program.command("registry")
    .description("back up the registry on this host, or restore it")
    .addHelpText("afterAll", EXAMPLES);
  addBackup(registry, context);
  addRestore(registry, context);
}
