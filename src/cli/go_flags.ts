/**
 * Go's flag syntax (package flag) in front of commander: one dash or two, a value after `=` or a
 * space, booleans bare or `=false`. flannel's users write `-iface=eth0 -ip-masq`.
 */
import type { Command, Option } from "commander";
import { errorText } from "../errors.ts";
import { isBoolean } from "./flags.ts";
import { UsageError } from "./usage_error.ts";
import { parseGoBool } from "./values.ts";

/** How many single-character changes make `b` of `a` (Levenshtein). */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, swap));
    }
    row = next;
  }
  return row[b.length]!;
}

/** The name nearest to `wrong`, or null if none is near. */
export function nearest(wrong: string, names: readonly string[]): string | null {
  const typed = wrong.slice(0, 64);
  const ranked = names
    .map((name) => ({ name, distance: editDistance(typed, name) }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  // Two changes are one pair of letters swapped.
  const limit = typed.length < 4 ? 1 : Math.max(2, typed.length / 3);
  return best !== undefined && best.distance <= limit ? best.name : null;
}

/** The command as it is called, such as `selvage leases list`. */
export function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`;
}

function optionName(option: Option): string {
  return (option.long ?? "").replace(/^--/, "");
}

function unknownFlag(command: Command, typed: string, name: string): UsageError {
  const names = [...command.options.map(optionName), "help"];
  const guess = nearest(name, names);
  const place = fullName(command);
  return new UsageError(
    `unknown flag ${typed} for "${place}"`,
    guess === null ? `See: ${place} --help` : `Did you mean --${guess}?`,
  );
}

/** The command that `arg` leads to: a subcommand, or the same one where it takes arguments. */
function subcommand(command: Command, arg: string): Command {
  const names = command.commands.map((one) => one.name());
  if (names.length === 0 || arg === "help") return command;
  const found = command.commands.find((one) => {
    return one.name() === arg || one.aliases().includes(arg);
  });
  if (found !== undefined) return found;
  const guess = nearest(arg, names);
  throw new UsageError(
    `unknown command ${JSON.stringify(arg)} for "${fullName(command)}"`,
    guess === null ? `There are: ${names.join(", ")}` : `Did you mean ${guess}?`,
  );
}

/** The value of a boolean that commander takes bare only. */
function readBool(name: string, text: string): boolean {
  try {
    return parseGoBool(text);
  } catch (error) {
    throw new UsageError(`--${name} ${JSON.stringify(text)}: ${errorText(error)}`);
  }
}

/**
 * The arguments as commander reads them: two dashes, values after `=`. Subcommands are followed,
 * so that each flag is looked up where it stands. What comes after `--` stays as it is. Throws
 * `UsageError` for an unknown command or flag and for a value that is missing.
 */
export function normaliseGoFlags(program: Command, args: readonly string[]): string[] {
  const result: string[] = [];
  let command = program;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (arg === "--") return [...result, ...args.slice(i)];
    if (!arg.startsWith("-") || arg === "-") {
      command = subcommand(command, arg);
      result.push(arg);
      continue;
    }
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(arg);
    if (match === null) throw new UsageError(`bad flag syntax: ${arg}`);
    const [name, value] = [match[1]!, match[2]];
    if ((name === "h" || name === "help") && value === undefined) {
      result.push("--help");
      continue;
    }
    const option = command.options.find((one) => optionName(one) === name);
    if (option === undefined) throw unknownFlag(command, arg.replace(/=.*$/s, ""), name);
    if (value !== undefined && (option.required || option.optional)) {
      result.push(`--${name}=${value}`);
    } else if (value !== undefined) {
      if (readBool(name, value)) result.push(`--${name}`);
    } else if (isBoolean(option)) {
      result.push(option.optional ? `--${name}=true` : `--${name}`);
    } else {
      const next = args[++i];
      if (next === undefined) throw new UsageError(`flag --${name} needs a value`);
      result.push(`--${name}=${next}`);
    }
  }
  return result;
}
