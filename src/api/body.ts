/** What the bodies and queries of the API's requests must be. */
import { z } from "zod";
import { BACKEND_NAMES } from "../config/backend_names.ts";
import { SelvageError } from "../errors.ts";
import { IpAddress, IpPrefix } from "../net/ip.ts";

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
  backendType: z.enum(BACKEND_NAMES).optional(),
});

/** The body of PUT /v1/config: flannel's `net-conf.json`, whose rules its own parser knows. */
export const configSchema = z.record(z.string(), z.unknown());

/** The query of PUT /v1/config and POST /v1/leases. Throws `invalid_argument`. */
export function forceQuery({ force }: { force?: string | string[] }): { force?: "true" | "false" } {
  if (force === undefined) return {};
  if (force === "true" || force === "false") return { force };
  throw new SelvageError("invalid_argument", `query: force must be true or false`);
}

/** The query of PUT /v1/config. Throws `invalid_argument`. */
export function configQuery(
  { force, dryRun }: { force?: string | string[]; dryRun?: string | string[] },
): { force?: "true" | "false"; dryRun?: "true" | "false" } {
  if (dryRun === undefined) return forceQuery(force === undefined ? {} : { force });
  if (dryRun === "true" || dryRun === "false") {
    return { ...forceQuery(force === undefined ? {} : { force }), dryRun };
  }
  throw new SelvageError("invalid_argument", `query: dryRun must be true or false`);
}

/** HOST:PORT; a DNS name has 253 characters at most. */
const joinAddress = z.string().min(1).max(260);

/** The body of POST /v1/tokens. */
export const tokenSchema = z.strictObject({
  scope: z.enum(["join", "api"]).default("join"),
  description: z.string().max(200).default(""),
  /** One, or several to be tried in this order. */
  address: z.union([joinAddress, z.array(joinAddress).min(1).max(16)]).optional(),
});
