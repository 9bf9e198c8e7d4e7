/** Request bodies: read within a bound, parsed, checked with zod, before a handler sees them. */
import type { MiddlewareHandler } from "hono";
import type { z } from "zod";
import { SelvageError } from "../errors.ts";
import { checked, parseJson } from "./checked.ts";
import { repeatedKeys } from "./repeated_keys.ts";

/** The largest request body that is read. */
export const BODY_SIZE_MAX_BYTES = 64 * 1024;
const SHOWN_KEY_CHARACTERS = 80;

function tooLarge(): SelvageError {
  return new SelvageError("too_large", `body: more than ${BODY_SIZE_MAX_BYTES} bytes`);
}

/** Reads the body, at most `BODY_SIZE_MAX_BYTES`. Throws `too_large` without reading the rest. */
async function readBounded(request: Request): Promise<Uint8Array> {
  if (Number(request.headers.get("content-length") ?? 0) > BODY_SIZE_MAX_BYTES) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let size_bytes = 0;
  if (request.body !== null) {
    const reader = request.body.getReader();
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      size_bytes += part.value.byteLength;
      if (size_bytes > BODY_SIZE_MAX_BYTES) {
        await reader.cancel().catch(() => {});
        throw tooLarge();
      }
      chunks.push(part.value);
    }
  }
  const whole = new Uint8Array(size_bytes);
  let offset = 0;
  for (const chunk of chunks) {
    whole.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return whole;
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new SelvageError("invalid_argument", "body: not UTF-8", { cause });
  }
}

/** Of keys that are there twice all but one would be passed over unsaid. */
function refuseRepeated(text: string): void {
  const [key] = repeatedKeys(text);
  if (key === undefined) return;
  const shown = JSON.stringify(key.slice(0, SHOWN_KEY_CHARACTERS));
  throw new SelvageError("invalid_argument", `body: ${shown} is there more than once`);
}

/**
 * Throws if a part of the value would be lost when it is written as JSON again: a number beyond a
 * double's range becomes null, and zod leaves out a key named `__proto__`. `parseJson` has
 * bounded the depth.
 */
function refuseLossy(value: unknown, place: string): void {
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw new SelvageError("invalid_argument", `${place}: the number is out of range`);
  }
  if (typeof value !== "object" || value === null) return;
  for (const [key, item] of Object.entries(value)) {
    if (key === "__proto__") {
      throw new SelvageError("invalid_argument", `${place}: "__proto__" is not allowed as a key`);
    }
    refuseLossy(item, `${place}: ${key.slice(0, SHOWN_KEY_CHARACTERS)}`);
  }
}

const PARAMETER = /\s*;\s*(?:([\w!#$%&'*+.^`|~-]+)=([\w!#$%&'*+.^`|~-]+|"[^"\\]*"))?/y;

/** The value of a media type's `charset` (RFC 9110 section 8.3.1); null: none, "": malformed. */
function charsetOf(parameters: string): string | null {
  let charset: string | null = null;
  PARAMETER.lastIndex = 0;
  while (PARAMETER.lastIndex < parameters.trimEnd().length) {
    const match = PARAMETER.exec(parameters);
    if (match === null) return "";
    const [, name, value] = match;
    if (name?.toLowerCase() === "charset") charset ??= value!.replace(/^"|"$/g, "");
  }
  return charset;
}

/** Throws `unsupported_media` unless the body is JSON in UTF-8, not compressed. */
function requirePlainJson(type: string, encoding: string): void {
  // A form in a web page can send other types without asking first (CORS).
  const parameters = /^application\/json(\s*;.*|\s*)$/i.exec(type)?.[1];
  const charset = charsetOf(parameters ?? "") ?? "utf-8";
  if (parameters === undefined || charset.toLowerCase() !== "utf-8") {
    throw new SelvageError("unsupported_media", `body: content type ${JSON.stringify(type)}`, {
      hint: "Send UTF-8 with Content-Type: application/json.",
    });
  }
  if (!/^(identity)?$/i.test(encoding.trim())) {
    const text = `body: content encoding ${JSON.stringify(encoding)}`;
    throw new SelvageError("unsupported_media", text, {
      hint: "Send the body as it is, without Content-Encoding.",
    });
  }
}

/**
 * Middleware that reads a JSON body and puts the value that `schema` makes of it where
 * `context.req.valid("json")` finds it. Throws `unsupported_media`,
 * `invalid_argument` and `too_large`.
 */
export function jsonBody<S extends z.ZodType>(
  schema: S,
): MiddlewareHandler<
  Record<never, never>,
  string,
  { in: { json: z.input<S> }; out: { json: z.output<S> } }
> {
  return async (context, next) => {
    const { req } = context;
    requirePlainJson(req.header("content-type") ?? "", req.header("content-encoding") ?? "");
    const text = decode(await readBounded(context.req.raw));
    const value = parseJson(text, "body");
    refuseRepeated(text);
    refuseLossy(value, "body");
    context.req.addValidatedData("json", checked(schema, value, "body") as object);
    await next();
  };
}
