/** `selvage migrate`: from the embedded registry to etcd. */
import type { Command } from "commander";
import type { EtcdOptions } from "../../etcd/options.ts";
import type { MigrationCounts, MigrationReport } from "../../etcd/migrate.ts";
import type { MigrationKind } from "../../etcd/migrate_plan.ts";
import { printable, printableJson } from "../../printable.ts";
import { addClientFlags, type ClientFlags } from "../client.ts";
import type { CommandContext } from "../context.ts";
import { addEtcdFlags, type EtcdFlags, etcdOptions } from "../etcd_flags.ts";
import { boolFlag, valueFlag } from "../flags.ts";
import type { CliIo } from "../io.ts";
import { readDaemon, type ReadSource, readStateDir } from "../migration_source.ts";
import { renderTable } from "../table.ts";
import { formatCount } from "../units.ts";
import { EXIT, UsageError } from "../usage_error.ts";
import { nonEmpty } from "../values.ts";

interface MigrateFlags extends ClientFlags, EtcdFlags {
  readonly fromStateDir?: string;
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

/** After how many keys progress is shown. */
const PROGRESS_KEYS = 100;
/** How many conflicts, and how many leases that are left out, are named one by one. */
const NAMED_MAX = 20;

const NEXT =
  "Next: restart each host with --etcd-endpoints; it keeps its subnet, because a lease " +
  "is found by its host's public address.";
const NEXT_OF_SKIPPED = " A host whose lease is left out gets the one it has in etcd.";
const OVERWRITES = "overwrites what differs with what the registry says";

const TITLES: Readonly<Record<MigrationKind, string>> = {
  lease: "leases",
  reservation: "reservations",
  configuration: "configuration",
};

/** `isWritten`: that it was done, and not only would be. */
function countTable(counts: MigrationReport["counts"], isWritten: boolean): string {
  const titles = isWritten
    ? ["", "CREATED", "SAME", "EXTENDED", "OVERWRITTEN"]
    : ["", "TO CREATE", "SAME", "TO EXTEND", "TO OVERWRITE"];
  const columns = titles.map((title, i) => ({
    title,
    align: i === 0 ? "left" as const : "right" as const,
  }));
  const row = (kind: MigrationKind): string[] => {
    const { created, same, extended, overwritten }: MigrationCounts = counts[kind];
    return [TITLES[kind], ...[created, same, extended, overwritten].map(String)];
  };
  return renderTable(columns, (["lease", "reservation", "configuration"] as const).map(row));
}

/** A line each, for the first of them. */
function named(what: string, items: readonly { name: string; reason: string }[]): string {
  const lines = items.slice(0, NAMED_MAX).map(({ name, reason }) => `${what} ${name}: ${reason}`);
  const restCount = items.length - lines.length;
  if (restCount > 0) lines.push(`${what} ${restCount} more`);
  return lines.map((line) => `${printable(line)}\n`).join("");
}

/** `where` they are, and `what` becomes of them. */
function unreadable(count: number, where: string, what: string): string {
  const entries = formatCount(count, "entry", "entries");
  return count === 0 ? "" : `${entries} of ${where} cannot be read: ${what}\n`;
}

/** What is to be done about conflicts, where nothing was written for their sake. */
function conflictAdvice(isDifferent: boolean, isBlocked: boolean, isForced: boolean): string {
  if (!isBlocked) return `--force ${OVERWRITES}.`;
  const revoke = "Revoke the leases of etcd that are in the way: selvage leases revoke SUBNET " +
    "--etcd-endpoints …; --force does not overwrite them.";
  if (!isDifferent) return revoke;
  const after = isForced ? "Migrate again after that: --force then" : "After that, --force";
  return `${revoke} ${after} ${OVERWRITES}.`;
}

/** The report as text for people. */
export function migrationText(
  report: MigrationReport,
  source: ReadSource,
  isForced: boolean,
): string {
  const { done, dryRun, counts, conflicts, skipped } = report;
  const different = conflicts.filter(({ isForceable }) => isForceable);
  const blocked = conflicts.filter(({ isForceable }) => !isForceable);
  const outcome = done
    ? dryRun
      ? "This is what would be done; nothing was written."
      : NEXT + (skipped.length > 0 ? NEXT_OF_SKIPPED : "")
    : "Nothing was written. " + conflictAdvice(different.length > 0, blocked.length > 0, isForced);
  return named("in the way:", blocked) + named("differs:", done ? [] : different) +
    named("left out:", skipped) +
    unreadable(source.unreadableCount, "the registry", "left out") +
    unreadable(report.unreadableInEtcdCount, "etcd", "left as it is") +
    countTable(counts, done && !dryRun) + `${outcome}\n`;
}

async function runMigration(
  etcdOptions: EtcdOptions,
  source: ReadSource,
  flags: MigrateFlags,
  { deps, io }: CommandContext,
): Promise<MigrationReport> {
  const { migrate } = await import("../../etcd/migrate.ts");
  const etcd = await deps.openEtcd(etcdOptions);
  try {
    return await migrate({
      etcd,
      prefix: etcdOptions.prefix,
      source,
      isForced: flags.force === true,
      isDryRun: flags.dryRun === true,
      onProgress: (done, total) => showProgress(io, done, total),
      now_ms: () => io.now_ms(),
      signal: io.interrupted(),
    });
  } finally {
    etcd.close();
  }
}

function showProgress(io: CliIo, done: number, total: number): void {
  if (done % PROGRESS_KEYS === 0) io.err(`${done} of ${total} keys\n`);
}

const EXAMPLES = `
Examples:
  On any host that uses the registry, while all hosts run
    selvage migrate --etcd-endpoints https://192.0.2.1:2379 --etcd-cafile ca.pem --dry-run
  From the files of a registry that does not run
    selvage migrate --from-state-dir /var/lib/selvage --etcd-endpoints http://192.0.2.1:2379

You can run it again: then it writes only what is missing. Each lease
keeps the time that it has left.
`;

/** Adds `migrate` to the program. */
export function addMigrate(program: Command, context: CommandContext): void {
  const { io } = context;
  const command = program.command("migrate")
    .description("copy leases, reservations and configuration from the registry to etcd")
    .addOption(valueFlag({
      term: "from-state-dir <path>",
      description:
        "directory of the registry's files, while selvage does not run; default: ask the daemon",
      parse: nonEmpty,
    }))
    .addOption(boolFlag({ term: "force", description: "overwrite entries of etcd that differ" }))
    .addOption(boolFlag({ term: "dry-run", description: "only say what would be done" }))
    .addOption(boolFlag({ term: "json", description: "the report as JSON" }))
    .addHelpText("after", EXAMPLES);
  addEtcdFlags(addClientFlags(command)).action(async (flags: MigrateFlags) => {
    const etcd = etcdOptions(flags);
    if (etcd === null) throw new UsageError("migrate needs --etcd-endpoints", "Where is it to go?");
    const source = flags.fromStateDir === undefined
      ? await readDaemon(flags)
      : await readStateDir(flags.fromStateDir);
    const report = await runMigration(etcd, source, flags, context);
    const { place: from, unreadableCount } = source;
    io.out(
      flags.json === true
        ? printableJson({ from, to: etcd.endpoints, unreadableCount, ...report })
        : migrationText(report, source, flags.force === true),
    );
    context.exitWith(report.done ? EXIT.ok : EXIT.failure);
  });
}
