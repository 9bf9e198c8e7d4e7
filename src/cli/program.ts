/** The command line: builds the program, runs it, and turns every error into text and exit code. */
import { Command, CommanderError } from "commander";
import { errorText, SelvageError } from "../errors.ts";
import { toProblem } from "../net/problem.ts";
import { addCheck } from "./commands/check.ts";
import { addClean } from "./commands/clean.ts";
import { addConfig } from "./commands/config.ts";
import { addDemo } from "./commands/demo.ts";
import { addFlanneld, FLANNELD, withoutEmpty } from "./commands/flanneld.ts";
import { addLeases } from "./commands/leases.ts";
import { addMigrate } from "./commands/migrate.ts";
import { addRegistry } from "./commands/registry.ts";
import { addRun } from "./commands/run.ts";
import { addStatus } from "./commands/status.ts";
import { addToken } from "./commands/token.ts";
import { addVersion } from "./commands/version.ts";
import type { CliDeps, CommandContext } from "./context.ts";
import { applyEnv, nameVariables } from "./flags.ts";
import { normaliseGoFlags } from "./go_flags.ts";
import { type CliIo, processIo } from "./io.ts";
import { printable } from "../printable.ts";
import { withoutJoinStrings } from "./secrets.ts";
import { EXIT, UsageError } from "./usage_error.ts";

const EXAMPLES = `
Examples:
  selvage demo                                  see it work on this machine alone
  selvage run --net-config net-conf.json --registry-listen 192.0.2.1:8286
    selvage token create > FILE                   then copy FILE to the next host, and there:
  selvage run --join @FILE
  selvage status

Flags are written as in Go: one dash or two, a space or "=". A flag overrides its environment
variable, and the variable overrides the default.
`;

const COMMANDS = [
  addRun,
  addStatus,
  addLeases,
  addConfig,
  addToken,
  addRegistry,
  addMigrate,
  addFlanneld,
  addCheck,
  addClean,
  addDemo,
  addVersion,
];

/** The whole program, ready to parse. Heavy modules are loaded by the command that needs them. */
export function buildProgram(context: CommandContext): Command {
  const { io, deps } = context;
  const program = new Command("selvage");
  program
    .description(
      "Selvage, an edge router: gives each host a subnet and carries packets between hosts.",
    )
    .version(`selvage ${deps.version}`, "--version", "print the version and exit")
    .addHelpText("after", EXAMPLES)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => io.out(text),
      writeErr: (text) => io.err(text),
      // Errors are printed once, by `report`.
      outputError: () => {},
    })
    .configureHelp({ optionTerm: (option) => option.flags.replace(" [bool]", "") })
    .hook("preAction", (_program, command) => applyEnv(command, io.env));
  for (const add of COMMANDS) add(program, context);
  return program;
}

/** Commander's own complaints, in our words: without its prefix, the guess as the hint. */
function fromCommander(error: CommanderError): UsageError {
  const [first, ...rest] = error.message.replace(/^error: /, "").split("\n");
  return new UsageError(first ?? "", rest.join(" ").replace(/^\((.*)\)$/, "$1"));
}

/** Prints the error, once, and returns its exit code. */
function report(thrown: unknown, json: boolean, io: CliIo): number {
  if (thrown instanceof CommanderError && thrown.exitCode === 0) return EXIT.ok;
  const error = thrown instanceof CommanderError
    // A command that has subcommands alone was called without one: commander showed its help.
    ? thrown.code === "commander.help" ? null : fromCommander(thrown)
    : thrown;
  if (error === null) return EXIT.usage;
  // A join string may have been given to another flag or command, whose error quotes it.
  const show = (text: string) => io.err(withoutJoinStrings(text));
  if (json) {
    show(`${JSON.stringify(toProblem(error))}\n`);
  } else {
    const known = error instanceof SelvageError;
    const place = !known && error instanceof Error ? `\n${error.stack ?? ""}` : "";
    show(`selvage: ${printable(errorText(error))}${place}\n`);
    if (known && error.hint !== "") show(`${printable(error.hint)}\n`);
  }
  return error instanceof UsageError ? EXIT.usage : EXIT.failure;
}

/** Whether the user asked for JSON, even where the rest of the command line is wrong. */
function wantsJson(args: readonly string[]): boolean {
  return args.some((arg) => /^--?json(=(1|t|T|true|TRUE|True))?$/.test(arg));
}

/** Throws what the command throws, in terms of what was typed or set. */
async function runCommand(args: readonly string[], context: CommandContext): Promise<void> {
  const program = buildProgram(context);
  let called = program;
  program.hook("preAction", (_program, command) => void (called = command));
  const words = normaliseGoFlags(program, args);
  const typed = words[0] === FLANNELD ? withoutEmpty(words) : words;
  try {
    await program.parseAsync(typed, { from: "user" });
  } catch (error) {
    if (error instanceof SelvageError) {
      error.message = nameVariables(error.message, called, context.io.env);
    }
    throw error;
  }
}

/**
 * Runs one command line: `args` without runtime and script. Resolves to the exit code (0 done,
 * 1 failed, 2 called wrongly) and never rejects; it neither exits nor installs handlers of its own,
 * except on Ctrl-C in a command that watches.
 */
export async function runCli(args: readonly string[], deps: CliDeps): Promise<number> {
  const io = deps.io ?? processIo();
  let exitCode: number = EXIT.ok;
  const context: CommandContext = { io, deps, exitWith: (code) => exitCode = code };
  try {
    await runCommand(args, context);
  } catch (error) {
    exitCode = report(error, wantsJson(args), io);
  }
  try {
    await io.written();
    return exitCode;
  } catch (error) {
    return report(error, wantsJson(args), io);
  }
}
