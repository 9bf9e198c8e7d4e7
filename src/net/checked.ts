/** The check of outside JSON where it enters; past it the value is typed and trusted. */
import type { ZodType } from "zod";
import { errorText, SelvageError } from "../errors.ts";
import { findJsonFault } from "./json_fault.ts";

/**
 * `value` as `schema` reads it. Throws `invalid_argument` that says what (`what`), where in it,
 * and why, for the first three faults.
 */
export function checked<T>(schema: ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const faults = result.error.issues.slice(0, 3).map((issue) => {
    const place = issue.path.map(String).join(".");
    return place === "" ? issue.message : `${place}: ${issue.message}`;
  });
  throw new SelvageError("invalid_argument", `${what}: ${faults.join("; ")}`);
}

/** As `checked`, of JSON text. */
export function checkedJson<T>(schema: ZodType<T>, text: string, what: string): T {
  return checked(schema, parseJson(text, what), what);
}

/** Whether a value is an object whose properties can be looked at; arrays are. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/** How deep arrays and objects may stand in each other; ours have five levels at most. */
export const JSON_DEPTH_MAX = 64;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPENING: readonly number[] = [0x5b, 0x7b];
const CLOSING: readonly number[] = [0x5d, 0x7d];

/**
 * Whether brackets outside of strings nest deeper than allowed. Parsers and whatever walks their
 * values take time for each level, some of it quadratic: 28,000 levels in 64 KiB took seconds.
 */
function isTooDeep(text: string): boolean {
  let depth = 0;
  let isString = false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (isString) {
      if (code === BACKSLASH) i++;
      else if (code === QUOTE) isString = false;
    } else if (code === QUOTE) isString = true;
    else if (OPENING.includes(code)) {
      if (++depth > JSON_DEPTH_MAX) return true;
    } else if (CLOSING.includes(code)) depth--;
  }
  return false;
}

/**
 * JSON text as a value of unknown shape. Throws `invalid_argument` that names `what` and the place
 * in it, also of text that nests deeper than `JSON_DEPTH_MAX`. Text that does not begin as an
 * object or an array is never quoted: it may be a file that was chosen by mistake, with a secret.
 */
export function parseJson(text: string, what: string): unknown {
  if (isTooDeep(text)) {
    const reason = `arrays and objects nest deeper than ${JSON_DEPTH_MAX} levels`;
    throw new SelvageError("invalid_argument", `${what}: ${reason}`);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    if (!/^\s*[{[]/.test(text) && text.trim() !== "") {
      const reason = "not JSON: it begins with neither { nor [";
      throw new SelvageError("invalid_argument", `${what}: ${reason}`);
    }
    const fault = findJsonFault(text);
    const why = fault === null
      ? errorText(error)
      : `line ${fault.line}, column ${fault.column}: ${fault.why}`;
    throw new SelvageError("invalid_argument", `${what}: not JSON: ${why}`, { cause: error });
  }
}
