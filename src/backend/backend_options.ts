/** Reads the `Backend` part of a network configuration. */
import type { NetworkConfig } from "../config/network_config.ts";
import { SelvageError } from "../errors.ts";

/** What a number must be. */
export interface NumberRule {
  readonly min: number;
  readonly max: number;
  readonly default: number;
  /** The default in words, where the number says little. */
  readonly defaultText?: string;
  /** What it is, in an error: `Backend.Port 0 is not a port`. */
  readonly what: string;
}

/** The value of an option by its name, without regard to case as in Go; undefined: the default. */
function optionOf({ backend }: NetworkConfig, name: string): unknown {
  const lower = name.toLowerCase();
  // Of names that differ in case only the last counts, as in Go.
  const entry = Object.entries(backend.options).findLast(([key]) => key.toLowerCase() === lower);
  return entry?.[1] ?? undefined;
}

function invalid(name: string, value: unknown, why: string, hint: string): SelvageError {
  const shown = JSON.stringify(value).slice(0, 80);
  const text = `network configuration: Backend.${name} ${shown} ${why}`;
  return new SelvageError("invalid_argument", text, { hint });
}

/** A whole number. Throws `invalid_argument`, which names the option and the rule. */
export function numberOption(config: NetworkConfig, name: string, rule: NumberRule): number {
  const value = optionOf(config, name) ?? rule.default;
  const { min, max, defaultText = `${rule.default}` } = rule;
  if (typeof value === "number" && Number.isInteger(value) && value >= min && value <= max) {
    return value;
  }
  const hint = `Give a number from ${min} to ${max}, or leave ${name} out for ${defaultText}.`;
  throw invalid(name, value, `is not ${rule.what}`, hint);
}

/** true or false, which is the default. Throws `invalid_argument`. */
export function booleanOption(config: NetworkConfig, name: string): boolean {
  const value = optionOf(config, name) ?? false;
  if (typeof value === "boolean") return value;
  throw invalid(name, value, "is neither true nor false", `Leave ${name} out for false.`);
}

/** One of some texts, in any case; the first is the default. Throws `invalid_argument`. */
export function choiceOption<T extends string>(
  config: NetworkConfig,
  name: string,
  choices: readonly [T, ...T[]],
): T {
  const value = optionOf(config, name) ?? choices[0];
  const lower = typeof value === "string" ? value.toLowerCase() : value;
  const choice = choices.find((one) => one === lower);
  if (choice !== undefined) return choice;
  throw invalid(name, value, "is unknown", `Give one of ${choices.join(", ")}.`);
}

/** The options, as written, that are none of these. */
export function otherOptions({ backend }: NetworkConfig, names: readonly string[]): string[] {
  const known = new Set(names.map((name) => name.toLowerCase()));
  return Object.keys(backend.options).filter((name) => !known.has(name.toLowerCase()));
}

/** A text without NUL; null where there is none, or an empty one. Throws `invalid_argument`. */
export function textOption(config: NetworkConfig, name: string): string | null {
  const value = optionOf(config, name) ?? "";
  if (typeof value !== "string" || value.includes("\0")) {
    throw invalid(name, value, "is not a text", `Give a text, or leave ${name} out.`);
  }
  return value === "" ? null : value;
}

/** The UDP port of the backend; `byDefault` where none is given, or 0 with `isZeroDefault`. */
export function portOption(
  config: NetworkConfig,
  byDefault: number,
  { isZeroDefault = false } = {},
): number {
  const min = isZeroDefault ? 0 : 1;
  const rule = { min, max: 65535, default: byDefault, what: "a port" };
  return numberOption(config, "Port", rule) || byDefault;
}
