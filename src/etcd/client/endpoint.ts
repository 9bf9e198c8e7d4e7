/** Where etcd answers: `http://10.0.0.1:2379`, `https://etcd.lan:2379`, `[fd00::1]:2379`. */
import { isIP } from "node:net";
import { SelvageError } from "../../errors.ts";
import { IpAddress } from "../../net/ip.ts";

/** One address of an etcd server. */
export interface Endpoint {
  /** As it is shown: with its scheme, in one canonical form. */
  readonly text: string;
  /** A name, or a literal address without brackets. */
  readonly host: string;
  readonly port: number;
  readonly isTls: boolean;
}

/** More are a mistake: a cluster has some three to seven members. */
const ENDPOINT_COUNT_MAX = 64;

const FORM_HINT =
  "Write endpoints as http://ADDRESS:PORT or https://ADDRESS:PORT, separated by commas.";
const ZONE_HINT = "A zone, such as %eth0, is not supported: use an address that needs none.";

function malformed(text: string, why: string, hint = FORM_HINT): SelvageError {
  const message = `etcd endpoint ${JSON.stringify(text)}: ${why}`;
  return new SelvageError("invalid_argument", message, { hint });
}

function readHost(text: string, bracketed: string | undefined, plain: string | undefined): string {
  if (bracketed !== undefined) {
    if (bracketed.includes("%")) throw malformed(text, "an address with a zone", ZONE_HINT);
    if (isIP(bracketed) !== 6) throw malformed(text, "the text in brackets is no IPv6 address");
    return IpAddress.parse(bracketed, "etcd endpoint").toString();
  }
  const host = (plain ?? "").toLowerCase();
  if (/^[0-9.]+$/.test(host)) {
    if (isIP(host) !== 4) throw malformed(text, `${host} is no IPv4 address`);
    return host;
  }
  const isName = host.length <= 253 &&
    host.replace(/\.$/, "").split(".").every((label) =>
      /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/.test(label)
    );
  if (!isName) throw malformed(text, "no host name or address");
  return host;
}

/**
 * Reads one endpoint. Without a scheme it is https if `isBareTls`, else http. Throws
 * `invalid_argument` that says what is wrong with it.
 */
export function parseEndpoint(text: string, isBareTls: boolean): Endpoint {
  const trimmed = text.trim();
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(trimmed)?.[1]?.toLowerCase();
  if (scheme !== undefined && scheme !== "http" && scheme !== "https") {
    throw malformed(text, `the scheme ${scheme} is not http or https`);
  }
  const rest = scheme === undefined ? trimmed : trimmed.slice(scheme.length + 3);
  if (rest.includes("@")) {
    throw malformed(text, "a user name goes into --etcd-username, not here");
  }
  const match = /^(?:\[([^[\]]*)\]|([^:[\]/]+))(?::([0-9]+))?\/?$/.exec(rest);
  if (match === null) {
    const isAddress = isIP(rest.replace(/\/$/, "")) === 6;
    throw malformed(text, isAddress ? "an IPv6 address goes in brackets" : "not ADDRESS:PORT");
  }
  const host = readHost(text, match[1], match[2]);
  if (match[3] === undefined) throw malformed(text, "it needs a port, such as :2379");
  const port = Number(match[3]);
  if (port < 1 || port > 65_535) throw malformed(text, `${match[3]} is no port`);
  const isTls = scheme === undefined ? isBareTls : scheme === "https";
  const shownHost = host.includes(":") ? `[${host}]` : host;
  return { text: `${isTls ? "https" : "http"}://${shownHost}:${port}`, host, port, isTls };
}

/**
 * Reads all endpoints, in their order; one that is named twice counts once. Throws
 * `invalid_argument` if one is malformed or there is none.
 */
export function parseEndpoints(texts: readonly string[], isBareTls: boolean): Endpoint[] {
  const byText = new Map<string, Endpoint>();
  for (const text of texts) {
    const endpoint = parseEndpoint(text, isBareTls);
    byText.set(endpoint.text, endpoint);
  }
  if (byText.size === 0) {
    throw new SelvageError("invalid_argument", "etcd: no endpoint is given", {
      hint: "Name at least one, such as http://127.0.0.1:2379.",
    });
  }
  if (byText.size > ENDPOINT_COUNT_MAX) {
    const text = `etcd: ${byText.size} endpoints are given, more than ${ENDPOINT_COUNT_MAX}`;
    throw new SelvageError("invalid_argument", text);
  }
  return [...byText.values()];
}
