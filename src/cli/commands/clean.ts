/** `selvage clean`: its flags and its text. */
import type { Command } from "commander";
import { DEFAULTS } from "../../agent/options.ts";
import type { CleanReport, CleanStep } from "../../clean/report.ts";
import { IpPrefix } from "../../net/ip.ts";
import { printable, printableJson } from "../../printable.ts";
import type { CommandContext } from "../context.ts";
import { boolFlag, listFlag, valueFlag } from "../flags.ts";
import { EXIT, UsageError } from "../usage_error.ts";
import { nonEmpty } from "../values.ts";

interface CleanFlags {
  readonly flannel?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
  readonly network?: readonly IpPrefix[];
  readonly subnetFile: string;
  readonly removeSubnetFile?: boolean;
  readonly apiSocket: string;
  readonly stateDir: string;
}

/** The words for what becomes of a thing. */
const WORDS: Readonly<Record<CleanStep["action"], Record<CleanStep["result"], string>>> = {
  remove: { planned: "would remove", done: "removed", failed: "cannot remove" },
  "hand over": {
    planned: "would hand over to the running selvage:",
    done: "handed over to the running selvage:",
    failed: "cannot hand over to the running selvage:",
  },
};

function stepText({ kind, object, action, result, error }: CleanStep): string {
  const why = error === null ? "" : `: ${error}`;
  return printable(`${WORDS[action][result]} ${kind} ${object}${why}`);
}

function reportText({ isDryRun, steps, notes }: CleanReport): string {
  const end = steps.length === 0
    ? "Nothing is left to remove."
    : isDryRun
    ? "Nothing was changed. Run the command without --dry-run to do this."
    : "";
  const lines = [...steps.map(stepText), ...(end === "" ? [] : [end]), ...notes.map(printable)];
  return lines.map((line) => `${line}\n`).join("");
}

const EXAMPLES = `
Examples:
    selvage clean --dry-run             show what an ended selvage left on this host
  selvage clean
    selvage clean --flannel --dry-run   show what flanneld left
  selvage clean --flannel

The exit status is 0 if everything is removed, and 1 if something cannot be removed or
selvage (with --flannel: flanneld) still runs.
`;

/** Adds `clean` to the program. */
export function addClean(program: Command, context: CommandContext): void {
  const path = (term: string, description: string, byDefault: string, env: "selvage" | "flannel") =>
    valueFlag({ term, description, parse: nonEmpty, default: byDefault, env });
  program.command("clean")
    .description("remove devices, routes and firewall rules that selvage or flanneld left here")
    .addOption(
      boolFlag({
        term: "flannel",
        description: "remove what flanneld left, and not what selvage left",
      }),
    )
    .addOption(boolFlag({ term: "dry-run", description: "only say what would be removed" }))
    .addOption(boolFlag({ term: "json", description: "the report as JSON" }))
    .addOption(listFlag({
      term: "network <cidr>",
      description: "flannel's network, if the subnet file does not name it; repeatable",
      parse: (text) => IpPrefix.parse(text),
    }))
    .addOption(
      path("subnet-file <path>", "subnet file, as for selvage run", DEFAULTS.subnetFile, "flannel"),
    )
    .addOption(boolFlag({
      term: "remove-subnet-file",
      description: "also remove the subnet file: the next start may get another subnet",
    }))
    .addOption(
      path(
        "api-socket <path>",
        "Unix socket of the API, as for selvage run",
        DEFAULTS.apiSocket,
        "selvage",
      ),
    )
    .addOption(
      path(
        "state-dir <path>",
        "state directory, as for selvage run; it is not removed",
        DEFAULTS.stateDir,
        "selvage",
      ),
    )
    .addHelpText("after", EXAMPLES)
    .action(async (flags: CleanFlags) => {
      const networks = flags.network ?? [];
      if (networks.length > 0 && flags.flannel !== true) {
        throw new UsageError("--network can be used only with --flannel");
      }
      const report = await context.deps.clean({
        whose: flags.flannel === true ? "flannel" : "selvage",
        isDryRun: flags.dryRun === true,
        subnetFile: flags.subnetFile,
        removesSubnetFile: flags.removeSubnetFile === true,
        apiSocket: flags.apiSocket,
        stateDir: flags.stateDir,
        networks,
      });
      context.io.out(flags.json === true ? printableJson(report) : reportText(report));
      const isDone = report.steps.every(({ result }) => result !== "failed");
      context.exitWith(isDone ? EXIT.ok : EXIT.failure);
    });
}
