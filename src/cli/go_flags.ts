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

/** The subcommand that `word` names. */
function namedBy(word: string, group: Command): Command | undefined {
  return group.commands.find((one) => one.name() === word || one.aliases().includes(word));
}

/** The command that `arg` leads to: a subcommand, or the same one where it takes arguments. */
function subcommand(command: Command, arg: string): Command {
  const names = command.commands.map((one) => one.name());
  if (names.length === 0) return command;
  const found = namedBy(arg, command);
  if (found !== undefined) return found;
  const guess = nearest(arg, names);
  throw new UsageError(
    `unknown command ${JSON.stringify(arg)} for "${fullName(command)}"`,
    guess === null ? `There are: ${names.join(", ")}` : `Did you mean ${guess}?`,
  );
}

/** The subcommand that a group stands for when none is named; undefined: it has none. */
function defaultOf(group: Command): Command | undefined {
  // Commander gets it as `isDefault`, and has no public way to read it.
  const { _defaultCommandName: name } = group as unknown as { _defaultCommandName: string | null };
  return group.commands.find((one) => one.name() === name);
}

function isGoBool(text: string): boolean {
  try {
    parseGoBool(text);
    return true;
  } catch {
    return false;
  }
}

/** What was read so far. */
interface Place {
  readonly command: Command;
  /** Whether nobody named it: flags stood where a subcommand might have. */
  readonly isDefault: boolean;
  /** The boolean flag that stands bare just before; null: none does. */
  readonly bare: string | null;
}

/**
 * Refuses a word behind flags of a command that takes none, where it is seen what was meant: a
 * value of a boolean, or a subcommand.
 */
function checkWord(word: string, { command, isDefault, bare }: Place): void {
  if (command.commands.length > 0 || command.registeredArguments.length > 0) return;
  if (bare !== null && isGoBool(word)) {
    const text = `a boolean takes its value after "=": ${bare} ${word}`;
    throw new UsageError(text, `Write ${bare}=${word}`);
  }
  if (!isDefault) return;
  const meant = namedBy(word, command.parent!);
  if (meant === undefined) return;
  const text = `flags of "${fullName(command)}" stand before ${JSON.stringify(word)}`;
  throw new UsageError(text, `Write them behind it: ${fullName(meant)}`);
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
 * The arguments as commander reads them: two dashes, values after `=`, help as a flag at the end.
 * Subcommands are followed, also to the default one of a group, so that each flag is looked up
 * where it stands. What comes after `--` stays as it is. Throws `UsageError` for an unknown command
 * or flag and for a value that is missing or stands where none may.
 */
export function normaliseGoFlags(program: Command, args: readonly string[]): string[] {
  const result: string[] = [];
  const help: string[] = [];
  let command = program;
  let isDefault = false;
  let bare: string | null = null;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (arg === "--") return [...result, ...help, ...args.slice(i)];
    if (!arg.startsWith("-") || arg === "-") {
      checkWord(arg, { command, isDefault, bare });
      bare = null;
      if (arg === "help" && command.commands.length > 0) {
        help.push("--help");
        continue;
      }
      command = subcommand(command, arg);
      result.push(arg);
      continue;
    }
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(arg);
    if (match === null) throw new UsageError(`bad flag syntax: ${arg}`);
    const [name, value] = [match[1]!, match[2]];
    bare = null;
    if ((name === "h" || name === "help") && value === undefined) {
      result.push("--help");
      continue;
    }
    const byDefault = defaultOf(command);
    if (byDefault !== undefined) {
      [command, isDefault] = [byDefault, true];
      result.push(byDefault.name());
    }
    const option = command.options.find((one) => optionName(one) === name);
    if (option === undefined) throw unknownFlag(command, arg.replace(/=.*$/s, ""), name);
    if (value !== undefined && (option.required || option.optional)) {
      result.push(`--${name}=${value}`);
    } else if (value !== undefined) {
      if (readBool(name, value)) result.push(`--${name}`);
    } else if (isBoolean(option)) {
      bare = arg;
      result.push(option.optional ? `--${name}=true` : `--${name}`);
    } else {
      const next = args[++i];
      if (next === undefined) throw new UsageError(`flag --${name} needs a value`);
      result.push(`--${name}=${next}`);
    }
  }
  return [...result, ...help];
}
