/** `selvage config`: the network's configuration, shown, checked or replaced. */
import type { Command } from "commander";
import type { ConfigView } from "../../api/views.ts";
import { hasCode } from "../../errors.ts";
import { readFileBounded } from "../../files.ts";
import { repeatedKeys } from "../../net/repeated_keys.ts";
import { printable, printableJson } from "../../printable.ts";
import type { ConfigSplit } from "../../backend/config_split.ts";
import type { NetworkAccess } from "../access.ts";
import { type ConfigChange, configChanges } from "../../config/config_changes.ts";
import type { CommandContext } from "../context.ts";
import { boolFlag } from "../flags.ts";
import { addAccessFlags, withAccess } from "../open_access.ts";
import { renderTable } from "../table.ts";

/** For scripts that ask every command for it. */
const jsonFlag = () =>
  boolFlag({ term: "json", description: "no effect: the output is always JSON" });

/** Of keys that are there twice: how many are named. */
const REPEATED_NAMED_MAX = 20;

/** How a file is called whose text is standard input. */
const STDIN = "-";

interface SetFlags {
  readonly force?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

function addShow(config: Command, context: CommandContext): void {
  const command = config.command("show", { isDefault: true })
    .alias("get")
    .description("print the configuration in force as flannel's JSON, with all defaults")
    .addOption(jsonFlag());
  addAccessFlags(command).action(async () => {
    const view = await withAccess(command, context, (access) => access.config());
    context.io.out(printableJson(view));
  });
}

/** A configuration that passed every check that needs no host. */
interface CheckedConfig {
  readonly text: string;
  /** The file's name, for errors. */
  readonly where: string;
  readonly view: ConfigView;
  /** What is odd about it, one sentence each. */
  readonly warnings: readonly string[];
}

async function readConfig(file: string, { io }: CommandContext): Promise<CheckedConfig> {
  const parser = await import("../../config/parse_network_config.ts");
  const where = file === STDIN ? "standard input" : file;
  const text = file === STDIN
    ? await io.readInput(parser.CONFIG_SIZE_MAX_BYTES)
    : readFileBounded(file, parser.CONFIG_SIZE_MAX_BYTES);
  const parsed = parser.parseNetworkConfig(text, where);
  const { ANY_HOST, configWarnings, selectBackend } = await import("../../backend/select.ts");
  selectBackend(parsed, ANY_HOST).check(parsed, null);
  const repeated = repeatedKeys(text).slice(0, REPEATED_NAMED_MAX).map((key) =>
    `network configuration: ${key.slice(0, 80)} is there more than once: the last one counts`
  );
  return {
    text,
    where,
    view: JSON.parse(parser.formatNetworkConfig(parsed)),
    warnings: [...configWarnings(parsed), ...repeated],
  };
}

function showWarnings({ warnings }: CheckedConfig, { io }: CommandContext): void {
  for (const warning of warnings) io.err(`${printable(`warning: ${warning}`)}\n`);
}

function addCheck(config: Command, context: CommandContext): void {
  config.command("check")
    .description("check a net-conf.json and print it with all defaults; needs no daemon")
    .argument("<file>", "file to read; - for standard input")
    .addOption(jsonFlag())
    .action(async (file: string) => {
      const checked = await readConfig(file, context);
      showWarnings(checked, context);
      context.io.out(printableJson(checked.view));
    });
}

/** The configuration in force; null: there is none, or none that can be read. */
async function presentConfig(access: NetworkAccess): Promise<ConfigView | null> {
  try {
    return await access.config();
  } catch (error) {
    if (hasCode(error, "config_missing") || hasCode(error, "invalid_argument")) return null;
    throw error;
  }
}

/** The changes as a table. */
function changeTable(changes: readonly ConfigChange[]): string {
  const titles = ["KEY", "NOW", "NEW"].map((title) => ({ title }));
  return renderTable(titles, changes.map(({ key, now, next }) => [key, now ?? "", next ?? ""]));
}

/** What hosts may lose that hold subnets by what was in force until now; empty: nothing. */
function subnetAdvice(changes: readonly ConfigChange[]): string {
  const isMoved = changes.some(({ key, now }) =>
    now !== null && /^(IPv6)?Subnet(Len|Min|Max)$/.test(key)
  );
  return isMoved
    ? "Hosts whose subnets no longer fit get others when selvage starts there next; their " +
      "containers must then be made anew.\n"
    : "";
}

/** What a change that keeps running hosts apart means; empty: there is no such change. */
function splitAdvice(split: ConfigSplit | null): string {
  return split === null ? "" : `${split.what}: ${split.procedure}\n`;
}

function changesText(
  changes: readonly ConfigChange[],
  split: ConfigSplit | null,
  written: boolean,
): string {
  if (changes.length === 0) {
    return `Nothing changes${written ? " but keys that mean nothing" : ""}.\n`;
  }
  const end = written
    ? "It is written. Hosts that run take it up; selvage status says what they cannot."
    : "Nothing was written.";
  return `${changeTable(changes)}${subnetAdvice(changes)}${splitAdvice(split)}${end}\n`;
}

/** Why the daemon would refuse the configuration whatever is forced; null: it would not. */
async function findRefusal(
  access: NetworkAccess,
  { text, where }: { readonly text: string; readonly where: string },
): Promise<Error | null> {
  try {
    await access.judgeConfig(text, where);
    return null;
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
}

function addSet(config: Command, context: CommandContext): void {
  const { io } = context;
  const command = config.command("set")
    .description("check a net-conf.json, show what it changes, and put it into force")
    .argument("<file>", "file to read; - for standard input")
    .addOption(boolFlag({ term: "dry-run", description: "only show what it changes" }))
    .addOption(boolFlag({
      term: "force",
      description: "write it even if keys in it would be ignored, or if it splits running hosts",
    }))
    .addOption(boolFlag({ term: "json", description: "the changes as JSON" }));
  addAccessFlags(command).action(async (file: string, flags: SetFlags) => {
    const { refuseWarned } = await import("../../backend/select.ts");
    const { findSplit, refuseSplit } = await import("../../backend/config_split.ts");
    const next = await readConfig(file, context);
    const isWritten = flags.dryRun !== true;
    const isForced = flags.force === true;
    const refuse = () => isForced || refuseWarned(next.warnings);
    if (isWritten) refuse();
    if (isForced) showWarnings(next, context);
    const result = await withAccess(command, context, async (access) => {
      const found = configChanges(await presentConfig(access), next.view);
      const split = findSplit(found);
      const hostCount = split?.kind === "restart" ? (await access.leases()).leases.length : 0;
      const refuseThis = () => isForced || refuseSplit(split, hostCount);
      // A daemon refuses such a change itself, after it has refused what its host cannot apply.
      if (isWritten && access.keepsText) refuseThis();
      // Where nothing that counts changes, keys that mean nothing may have been mended.
      const isNews = found.length > 0 || access.keepsText;
      const written = isWritten && isNews &&
        await access.setConfig(next.text, next.where, isForced);
      const refusal = isWritten ? null : await findRefusal(access, next);
      return { changes: found, split, written, refuseThis, refusal };
    });
    const { changes, split, written } = result;
    if (flags.json === true) io.out(printableJson({ changes, written, split }));
    else io.out(changesText(changes, split, written));
    // A dry run ends as the other would.
    if (result.refusal !== null) throw result.refusal;
    refuse();
    result.refuseThis();
  });
}

const EXAMPLES = `
Examples:
  selvage config
  selvage config check net-conf.json
  selvage config set net-conf.json --dry-run
  selvage config set - --etcd-endpoints http://192.0.2.1:2379 < net-conf.json
`;

/** Adds `config` with its subcommands to the program. */
export function addConfig(program: Command, context: CommandContext): void {
  const config = program.command("config")
    .description("show the network's configuration, check a file, or put it into force")
    .addHelpText("afterAll", EXAMPLES);
  addShow(config, context);
  addCheck(config, context);
  addSet(config, context);
}
