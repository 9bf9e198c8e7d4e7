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

/**
 * JSON text as a value of unknown shape. Throws `invalid_argument` that names `what` and the place
 * in it.
 */
export function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const fault = findJsonFault(text);
    const why = fault === null
      ? errorText(error)
      : `line ${fault.line}, column ${fault.column}: ${fault.why}`;
    throw new SelvageError("invalid_argument", `${what}: not JSON: ${why}`, { cause: error });
  }
}
