/** `selvage config`: the network's configuration, shown, checked or replaced. */
import type { Command } from "commander";
import type { ConfigView } from "../../api/views.ts";
import { hasCode } from "../../errors.ts";
import { readFileBounded } from "../../files.ts";
import { printable, printableJson } from "../../printable.ts";
import type { NetworkAccess } from "../access.ts";
import { type ConfigChange, configChanges } from "../config_changes.ts";
import type { CommandContext } from "../context.ts";
import { boolFlag } from "../flags.ts";
import { addAccessFlags, withAccess } from "../open_access.ts";
import { renderTable } from "../table.ts";

/** For scripts that ask every command for it. */
const jsonFlag = () => boolFlag({ term: "json", description: "as JSON, which it always is" });

/** How a file is called whose text is standard input. */
const STDIN = "-";

interface SetFlags {
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

function addShow(config: Command, context: CommandContext): void {
  const command = config.command("show", { isDefault: true })
    .alias("get")
    .description("print the configuration in force, every default filled in, as flannel's JSON")
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
  for (const warning of configWarnings(parsed)) io.err(printable(`warning: ${warning}`) + "\n");
  return { text, where, view: JSON.parse(parser.formatNetworkConfig(parsed)) };
}

function addCheck(config: Command, context: CommandContext): void {
  config.command("check")
    .description("check a net-conf.json; needs no daemon, prints it with every default filled in")
    .argument("<file>", "- is standard input")
    .addOption(jsonFlag())
    .action(async (file: string) => {
      const { view } = await readConfig(file, context);
      context.io.out(printableJson(view));
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

function addSet(config: Command, context: CommandContext): void {
  const { io } = context;
  const command = config.command("set")
    .description("check a net-conf.json, show what it changes, and put it into force")
    .argument("<file>", "- is standard input")
    .addOption(boolFlag({ term: "dry-run", description: "only show what it changes" }))
    .addOption(boolFlag({ term: "json", description: "the changes as JSON" }));
  addAccessFlags(command).action(async (file: string, flags: SetFlags) => {
    const next = await readConfig(file, context);
    const isWritten = flags.dryRun !== true;
    const changes = await withAccess(command, context, async (access) => {
      const found = configChanges(await presentConfig(access), next.view);
      if (isWritten && found.length > 0) await access.setConfig(next.text, next.where);
      return found;
    });
    if (flags.json === true) {
      return io.out(printableJson({ changes, written: isWritten && changes.length > 0 }));
    }
    if (changes.length === 0) return io.out("Nothing changes.\n");
    io.out(changeTable(changes));
    const advice = "Hosts that run take it up; selvage status says what they cannot.";
    io.out(printable(isWritten ? `It is written. ${advice}` : "Nothing was written.") + "\n");
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
