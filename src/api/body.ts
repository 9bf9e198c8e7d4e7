/** Request bodies: read within a bound, parsed, checked with zod, before a handler sees them. */
import type { MiddlewareHandler } from "hono";
import { z } from "zod";
import { SelvageError } from "../errors.ts";
import { checked, parseJson } from "../net/checked.ts";
import { IpAddress, IpPrefix } from "../net/ip.ts";

/** The largest request body that is read. */
export const BODY_SIZE_MAX_BYTES = 64 * 1024;

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

/**
 * Middleware that reads a JSON body and puts the value that `schema` makes of it where
 * `context.req.valid("json")` finds it. Throws `invalid_argument` and `too_large`.
 */
export function jsonBody<S extends z.ZodType>(
  schema: S,
): MiddlewareHandler<
  Record<never, never>,
  string,
  { in: { json: z.input<S> }; out: { json: z.output<S> } }
> {
  return async (context, next) => {
    // Another type is what a form in a web page can send without asking first (CORS).
    const type = context.req.header("content-type") ?? "";
    if (!/^application\/json(\s*;|$)/i.test(type)) {
      throw new SelvageError("invalid_argument", `body: content type ${JSON.stringify(type)}`, {
        hint: "Send Content-Type: application/json.",
      });
    }
    const text = decode(await readBounded(context.req.raw));
    context.req.addValidatedData(
      "json",
      checked(schema, parseJson(text, "body"), "body") as object,
    );
    await next();
  };
}

/** A text that `read` turns into a value; what it throws becomes zod's issue. */
function readText<T>(read: (text: string) => T) {
  return z.string().max(64).transform((text, context): T => {
    try {
      return read(text);
    } catch (error) {
      context.addIssue({ code: "custom", message: error instanceof Error ? error.message : "" });
      return z.NEVER;
    }
  });
}

function exactPrefix(text: string): IpPrefix {
  const prefix = IpPrefix.parse(text, "subnet");
  if (!prefix.address.equals(IpAddress.parse(text.slice(0, text.indexOf("/"))))) {
    throw new SelvageError("invalid_argument", `subnet "${text}": host bits are set (${prefix}?)`);
  }
  return prefix;
}

/** One value of each family at most, IPv4 first. */
function onePerFamily<T extends { readonly family: number }>(item: z.ZodType<T, string>) {
  return z.array(item).min(1).max(2)
    .refine((list) => new Set(list.map((one) => one.family)).size === list.length, {
      message: "one of each family at most",
    })
    .transform((list) => [...list].sort((a, b) => a.family - b.family));
}

/** The body of POST /v1/leases. */
export const reservationSchema = z.strictObject({
  subnets: onePerFamily(readText(exactPrefix)),
  publicAddresses: onePerFamily(readText((text) => IpAddress.parse(text, "public address"))),
  /** The network's backend, if left out. */
  backendType: z.string().regex(/^[a-z0-9-]{1,32}$/).optional(),
});

/** The body of POST /v1/tokens. */
export const tokenSchema = z.strictObject({
  scope: z.enum(["join", "api"]).default("join"),
  description: z.string().max(200).default(""),
  address: z.string().min(1).max(128).optional(),
});
