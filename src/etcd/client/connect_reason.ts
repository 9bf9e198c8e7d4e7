/** Why there is no connection, in words for people. */
import { errorText } from "../../errors.ts";
import type { Endpoint } from "./endpoint.ts";
import { ConnectError, UNRESOLVED } from "./status.ts";

const CLOCK_HINT = "Renew the certificate, or set this host's clock.";
const NAME_HINT =
  "Use a name or an address that is in the server's certificate, or have it issued anew.";
const AUTHORITY_HINT = "Give the authority that signed the server's certificate: --etcd-cafile.";
const CLIENT_HINT = "A server that demands a certificate must get one that it accepts: " +
  "--etcd-certfile, --etcd-keyfile.";
const RESOLVE_HINT = "Check the name in --etcd-endpoints and this host's name servers " +
  "(/etc/resolv.conf), or give an address.";
const ROUTE_HINT = "Check this host's link, its routes (ip route) and its firewall.";
const SCHEME_HINT = "Check whether the endpoint is http:// or https://.";

/** Codes of OpenSSL and the system, and marks in texts where a runtime has no code. */
const REASONS: readonly [mark: RegExp, why: string, hint: string][] = [
  [/CERT_HAS_EXPIRED|certificate has expired/i, "its certificate has expired", CLOCK_HINT],
  [/CERT_NOT_YET_VALID|not yet valid/i, "its certificate is not valid yet", CLOCK_HINT],
  [/ALTNAME_INVALID|does not match certificate/i, "its certificate is for another name", NAME_HINT],
  [
    /SELF.SIGNED|UNABLE.TO.(GET|VERIFY)|CERT_UNTRUSTED|unknown ca/i,
    "its certificate is of an unknown authority",
    AUTHORITY_HINT,
  ],
  [
    /alert (bad |unknown )?(certificate|ca)|(BAD_CERTIFICATE|CERTIFICATE_REQUIRED)/i,
    "it demands a client certificate that it accepts",
    CLIENT_HINT,
  ],
  [/WRONG_VERSION|wrong version|packet length|EPROTO/i, "it does not speak TLS", SCHEME_HINT],
  [/ECONNREFUSED/, "connection refused", ""],
  [/EHOSTUNREACH/, "no route to the host", ROUTE_HINT],
  [/ENETUNREACH/, "no route to its network", ROUTE_HINT],
  [/EINVAL/, "no route to the host that may be used", ROUTE_HINT],
  [/EACCES|EPERM/, "this host's routes or firewall do not permit it", ROUTE_HINT],
  [/ETIMEDOUT/, "no answer to the connection", ""],
];

function textOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code;
  return `${typeof code === "string" ? code : ""} ${errorText(error)}`;
}

/** Its name has no address that we could learn of. */
export function unresolvedError(why: string): ConnectError {
  return new ConnectError(`its name does not resolve: ${why}`, RESOLVE_HINT);
}

/**
 * Words for a failed connection.
 *
 * @param details What gRPC says of it.
 * @param handshakeError What the TLS handshake failed of; null if not of that.
 */
export function connectReason(
  endpoint: Endpoint,
  details: string,
  handshakeError: unknown,
): ConnectError {
  if (details.startsWith(UNRESOLVED)) {
    const isUnknown = /ENOTFOUND|ENODATA/.test(details);
    return unresolvedError(isUnknown ? "it is not known" : details.slice(UNRESOLVED.length + 2));
  }
  const text = handshakeError === null ? details : `${textOf(handshakeError)} ${details}`;
  for (const [mark, why, hint] of REASONS) {
    if (!mark.test(text)) continue;
    const isOtherName = hint === NAME_HINT;
    return new ConnectError(isOtherName ? `${why} than ${endpoint.host}` : why, hint);
  }
  const wasClosed = /ECONNRESET|closed|hang up|Failed to connect|EPIPE|disconnected/i.test(text);
  if (wasClosed) {
    // A runtime may not tell the alert by which a server says that it wants a certificate.
    const hint = endpoint.isTls ? `${SCHEME_HINT} ${CLIENT_HINT}` : SCHEME_HINT;
    return new ConnectError("it closed the connection in the handshake", hint);
  }
  const brief = details
    .replace(/^No connection established\. Last error: /, "")
    .replace(/\(\d{4}-\d\d-\d\dT[^)]*\)/g, "")
    .replace(/\s*Resolution note:.*$/, "")
    .trim();
  return new ConnectError(brief);
}
