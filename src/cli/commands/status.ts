/** `selvage status`: what the node does, once or again and again. */
import type { Command } from "commander";
import { printableJson } from "../../printable.ts";
import { addClientFlags, type ClientFlags, openClient, succeeded } from "../client.ts";
import type { CommandContext } from "../context.ts";
import { boolFlag } from "../flags.ts";
import { statusText } from "../status_text.ts";
import { UsageError } from "../usage_error.ts";

const REDRAW_MS = 2_000;
/** ECMA-48: cursor to the upper left, then erase to the end of the screen. */
const CLEAR_SCREEN = "\x1b[H\x1b[J";

interface StatusFlags extends ClientFlags {
  readonly json?: boolean;
  readonly watch?: boolean;
  readonly verbose?: boolean;
}

/** Waits, but no longer than until the signal is aborted. */
function pause(duration_ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, duration_ms);
    signal.addEventListener("abort", done);
  });
}

async function readText(flags: StatusFlags): Promise<string> {
  const response = await succeeded(openClient(flags).v1.status.$get());
  const status = await response.json();
  if (flags.json === true) return printableJson(status);
  return statusText(status, { verbose: flags.verbose === true });
}

async function watch(flags: StatusFlags, context: CommandContext): Promise<void> {
  const { io } = context;
  if (!io.isTerminal) {
    throw new UsageError("--watch needs a terminal", "Call selvage status --json now and then.");
  }
  if (flags.json === true) throw new UsageError("--watch and --json exclude each other");
  const signal = io.interrupted();
  while (!signal.aborted) {
    const text = await readText(flags);
    io.out(`${CLEAR_SCREEN}${text}`);
    await pause(REDRAW_MS, signal);
  }
}

const EXAMPLES = `
Examples:
  selvage status
  selvage status --watch
  selvage status --json | jq '.peers[] | select(.lastHeard_ms == null)'
`;

/** Adds `status` to the program. */
export function addStatus(program: Command, context: CommandContext): void {
  const command = program.command("status")
    .description("show this node: its lease, its peers and their traffic, what it waits for")
    .addOption(boolFlag({ term: "json", description: "the whole status as JSON" }))
    .addOption(boolFlag({ term: "watch", description: "redraw every 2 s until Ctrl-C" }))
    .addOption(
      boolFlag({
        term: "verbose",
        description: "also show drop reasons that are harmless or whose count is 0",
      }),
    )
    .addHelpText("after", EXAMPLES);
  addClientFlags(command).action(async (flags: StatusFlags) => {
    if (flags.watch === true) await watch(flags, context);
    else context.io.out(await readText(flags));
  });
}
