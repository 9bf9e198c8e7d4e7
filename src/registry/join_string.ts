/**
 * The join string: everything a host needs to reach the registry, to know that it is the right
 * one, and to be let in, as one word that no shell takes apart.
 *
 * `selvage1.` + base64url(JSON + the first 4 bytes of the JSON's SHA-256)
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { errorText, SelvageError } from "../errors.ts";
import { readFileBounded } from "../files.ts";
import { checkedJson } from "../net/checked.ts";
import { formatHostPort, type HostPort, parseNamedHostPort } from "../net/host_port.ts";

/** What a join string says. */
export interface JoinString {
  /** Where the registry is reached, by address or DNS name, in this order; at least one. */
  readonly addresses: readonly HostPort[];
  /** A token of scope "join". */
  readonly token: string;
  /** SHA-256 of the registry's certificate in DER form, 64 lower-case hex digits. */
  readonly fingerprint: string;
}

const VERSION = 1;
const CHECKSUM_SIZE_BYTES = 4;
/** Addresses in one join string. */
export const ADDRESS_COUNT_MAX = 16;

const schema = z.object({
  addresses: z.array(z.string()).min(1).max(ADDRESS_COUNT_MAX),
  token: z.string().min(1).max(256),
  fingerprint: z.string().regex(/^[0-9a-f]{64}$/),
});

function checksumOf(body: Uint8Array): Uint8Array {
  return createHash("sha256").update(body).digest().subarray(0, CHECKSUM_SIZE_BYTES);
}

/** The text of a join string: letters, digits, `.`, `-` and `_` only. */
export function formatJoinString(join: JoinString): string {
  const addresses = join.addresses.map(formatHostPort);
  const { token, fingerprint } = join;
  const body = Buffer.from(JSON.stringify({ addresses, token, fingerprint }));
  const bytes = Buffer.concat([body, checksumOf(body)]);
  return `selvage${VERSION}.${bytes.toString("base64url")}`;
}

/**
 * Reads a join string; spaces and line ends around it are left out. Throws `invalid_argument`
 * that tells a text of another kind from one cut short or mistyped, and from a newer version's.
 * The text is never quoted in the error: it holds a secret.
 */
export function parseJoinString(text: string): JoinString {
  const match = /^selvage([1-9][0-9]{0,5})\.(.*)$/s.exec(text.trim());
  if (match === null) {
    throw new SelvageError("invalid_argument", "not a join string: it must begin with selvage1.", {
      hint: "Make one on the registry's host: selvage token create.",
    });
  }
  if (Number(match[1]) > VERSION) {
    throw new SelvageError("unsupported", `a join string of version ${match[1]}, newer than ours`, {
      hint: "Install on this host the Selvage version of the registry's host.",
    });
  }
  const damaged = new SelvageError("invalid_argument", "the join string is cut short or mistyped", {
    hint: "Copy it anew, whole and without line breaks.",
  });
  if (!/^[A-Za-z0-9_-]+$/.test(match[2]!)) throw damaged;
  const bytes = Buffer.from(match[2]!, "base64url");
  // Other texts may decode alike (RFC 4648 section 3.5), but only one was printed.
  if (bytes.toString("base64url") !== match[2]) throw damaged;
  if (bytes.length <= CHECKSUM_SIZE_BYTES) throw damaged;
  const body = bytes.subarray(0, -CHECKSUM_SIZE_BYTES);
  if (!checksumOf(body).every((byte, i) => byte === bytes[body.length + i])) throw damaged;
  const value = checkedJson(schema, body.toString(), "the join string");
  const addresses = value.addresses.map((address) =>
    parseNamedHostPort(address, "the join string")
  );
  return { ...value, addresses };
}

/**
 * Reads what `--join` was given: a join string, or `@FILE` with one in it. An error of a file
 * names it.
 */
export function readJoinArgument(argument: string): JoinString {
  if (!argument.startsWith("@")) return parseJoinString(argument);
  const path = argument.slice(1);
  if (path === "") throw new SelvageError("invalid_argument", "--join @FILE: no file is named");
  const text = readFileBounded(path);
  try {
    return parseJoinString(text);
  } catch (error) {
    if (!(error instanceof SelvageError)) throw error;
    throw new SelvageError(error.code, `${path}: ${errorText(error)}`, { hint: error.hint });
  }
}
