/** The longest token that is read; ours have 56 characters. */
const LENGTH_MAX = 256;

const PATTERN = new RegExp(`^Bearer +([A-Za-z0-9._~+/-]{1,${LENGTH_MAX}}=*) *$`, "i");

/** The token of an `Authorization: Bearer …` header (RFC 6750 section 2.1); null if none. */
export function bearerToken(header: string | null | undefined): string | null {
  return PATTERN.exec(header ?? "")?.[1] ?? null;
}
