/**
 * Flags as this program has them: Go's kinds (value, boolean, repeatable), environment variables
 * as the second choice, defaults as the third. Every bad value is an error that names its flag or
 * variable.
 */
import { type Command, Option } from "commander";
import { errorText, hintOf } from "../errors.ts";
import { UsageError } from "./usage_error.ts";
import { parseGoBool } from "./values.ts";

/** Whose variables a flag reads: `SELVAGE_NAME`, and before it was ours `FLANNELD_NAME`. */
export type EnvNames = "none" | "selvage" | "flannel";

interface FlagBase {
  /** `name`, or `name <value>` where it takes one. */
  readonly term: string;
  readonly description: string;
  readonly env?: EnvNames;
  /** Another flag that says the same; where it is typed, the variables of this one do not count. */
  readonly alternative?: string;
}

export interface ValueFlag<T> extends FlagBase {
  readonly parse: (text: string) => T;
  readonly default?: T;
  /** How help shows the default. */
  readonly defaultText?: string;
}

interface Variables {
  /** The first that is set counts. */
  readonly names: readonly string[];
  /** As of `FlagBase`, as commander calls it. */
  readonly alternative: string | null;
}

/** The variables of each option. */
const variables = new WeakMap<Option, Variables>();

type Env = Readonly<Record<string, string | undefined>>;

function envNames(term: string, env: EnvNames): string[] {
  const name = term.split(" ")[0]!.toUpperCase().replaceAll("-", "_");
  if (env === "none") return [];
  return env === "flannel" ? [`SELVAGE_${name}`, `FLANNELD_${name}`] : [`SELVAGE_${name}`];
}

function read<T>(where: string, text: string, parse: (text: string) => T): T {
  try {
    return parse(text);
  } catch (error) {
    throw new UsageError(`${where} ${JSON.stringify(text)}: ${errorText(error)}`, hintOf(error));
  }
}

function makeOption(flag: FlagBase): Option {
  const names = envNames(flag.term, flag.env ?? "none");
  const suffix = names.length === 0 ? "" : ` (env ${names.join(", ")})`;
  const option = new Option(`--${flag.term}`, flag.description + suffix);
  const { alternative } = flag;
  variables.set(option, {
    names,
    alternative: alternative === undefined ? null : new Option(`--${alternative}`).attributeName(),
  });
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

/** The same, but it also accepts a certain word. */
export function boolOrWordFlag(flag: FlagBase & { readonly word: string }): Option {
  const option = makeOption({ ...flag, term: `${flag.term} [bool|${flag.word}]` });
  const parse = (text: string) => text === flag.word ? text : parseGoBool(text);
  option.argParser((text: string) => read(option.long!, text, parse));
  return option;
}

/** Whether an option takes no value of its own. */
export function isBoolean(option: Option): boolean {
  return !option.required;
}

/** The variable of an option that counts; undefined: none is set. An empty one is none. */
function variableOf(option: Option, env: Env): string | undefined {
  return variables.get(option)?.names.find((one) => (env[one] ?? "") !== "");
}

/** Fills in from the environment what the command line left out. */
export function applyEnv(command: Command, env: Env) {
  const isTyped = (attribute: string) => command.getOptionValueSource(attribute) === "cli";
  for (const option of command.options) {
    const attribute = option.attributeName();
    const name = variableOf(option, env);
    const alternative = variables.get(option)?.alternative ?? null;
    if (name === undefined || isTyped(attribute)) continue;
    if (alternative !== null && isTyped(alternative)) continue;
    try {
      const value: unknown = option.parseArg?.(env[name]!, undefined);
      command.setOptionValueWithSource(attribute, value, "env");
    } catch (error) {
      // Worded for the flag; here the variable is what is wrong.
      throw new UsageError(errorText(error).replace(option.long!, name), hintOf(error));
    }
  }
}

/** An error's text, with the variable in place of each flag whose value came from one. */
export function nameVariables(text: string, command: Command, env: Env): string {
  return text.replace(/--[a-z][\w-]*/g, (flag) => {
    const option = command.options.find((one) => one.long === flag);
    if (option === undefined) return flag;
    if (command.getOptionValueSource(option.attributeName()) !== "env") return flag;
    return variableOf(option, env) ?? flag;
  });
}
