/**
 * Flags as this program has them: Go's kinds (value, boolean, repeatable), environment variables
 * as the second choice, defaults as the third. Every bad value is an error that names its flag or
 * variable.
 */
import { type Command, Option } from "commander";
import { errorText } from "../errors.ts";
import { UsageError } from "./usage_error.ts";
import { parseGoBool } from "./values.ts";

/** Whose variables a flag reads: `SELVAGE_NAME`, and before it was ours `FLANNELD_NAME`. */
export type EnvNames = "none" | "selvage" | "flannel";

interface FlagBase {
  /** `name`, or `name <value>` where it takes one. */
  readonly term: string;
  readonly description: string;
  readonly env?: EnvNames;
}

export interface ValueFlag<T> extends FlagBase {
  readonly parse: (text: string) => T;
  readonly default?: T;
  /** How help shows the default. */
  readonly defaultText?: string;
}

/** The variables of each option, the first that is set counts. */
const variables = new WeakMap<Option, readonly string[]>();

function envNames(term: string, env: EnvNames): string[] {
  const name = term.split(" ")[0]!.toUpperCase().replaceAll("-", "_");
  if (env === "none") return [];
  return env === "flannel" ? [`SELVAGE_${name}`, `FLANNELD_${name}`] : [`SELVAGE_${name}`];
}

function read<T>(where: string, text: string, parse: (text: string) => T): T {
  try {
    return parse(text);
  } catch (error) {
    throw new UsageError(`${where} ${JSON.stringify(text)}: ${errorText(error)}`);
  }
}

function makeOption(flag: FlagBase): Option {
  const names = envNames(flag.term, flag.env ?? "none");
  const suffix = names.length === 0 ? "" : ` (env ${names.join(", ")})`;
  const option = new Option(`--${flag.term}`, flag.description + suffix);
  variables.set(option, names);
  return option;
}

/** A flag with one value; the last one given counts. */
export function valueFlag<T>(flag: ValueFlag<T>): Option {
  const option = makeOption(flag);
  option.argParser((text: string) => read(option.long!, text, flag.parse));
  if (flag.default !== undefined) option.default(flag.default, flag.defaultText);
  return option;
}

/** A flag that may be given many times; an environment variable gives one value. */
export function listFlag<T>(flag: FlagBase & { readonly parse: (text: string) => T }): Option {
  const option = makeOption(flag);
  option.argParser((text: string, previous: readonly T[] | undefined) => {
    return [...(previous ?? []), read(option.long!, text, flag.parse)];
  });
  return option;
}

/** A Go boolean: bare, or with `=true`, `=false`. The optional value marks it as one. */
export function boolFlag(flag: FlagBase): Option {
  const option = makeOption({ ...flag, term: `${flag.term} [bool]` });
  option.argParser((text: string) => read(option.long!, text, parseGoBool));
  return option;
}

/** Whether an option takes no value of its own. */
export function isBoolean(option: Option): boolean {
  return !option.required;
}

/** Fills in from the environment what the command line left out; an empty variable is none. */
export function applyEnv(command: Command, env: Readonly<Record<string, string | undefined>>) {
  for (const option of command.options) {
    const attribute = option.attributeName();
    const name = variables.get(option)?.find((one) => (env[one] ?? "") !== "");
    if (name === undefined || command.getOptionValueSource(attribute) === "cli") continue;
    try {
      const value: unknown = option.parseArg?.(env[name]!, undefined);
      command.setOptionValueWithSource(attribute, value, "env");
    } catch (error) {
      // Worded for the flag; here the variable is what is wrong.
      throw new UsageError(errorText(error).replace(option.long!, name));
    }
  }
}
