/** HOST:PORT: `10.0.0.1:8286`, `[fd00::1]:8286`, and in some places `registry.example:8286`. */
import { SelvageError } from "../errors.ts";
import { IpAddress } from "./ip.ts";

export interface HostPort {
  /** A literal address, or a DNS name where `parseNamedHostPort` read it. */
  readonly host: string;
  readonly port: number;
}

/** The text of a host and a port; IPv6 in brackets. */
export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Of a DNS name, RFC 1123 section 2.1. */
const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/;

/** A name that no address is mistyped as: its last label is not a number. */
function isHostName(text: string): boolean {
  const labels = text.split(".");
  return text.length <= 253 && labels.every((label) => LABEL.test(label)) &&
    !/^[0-9]+$/.test(labels.at(-1)!);
}

/** The parts of HOST:PORT; null if it is none. */
function split(text: string): { host: string; isBracketed: boolean; port: number } | null {
  const match = /^(?:\[([^[\]]+)\]|([^:[\]]+)):(0|[1-9][0-9]{0,4})$/.exec(text);
  if (match === null) return null;
  const [, bracketed, plain, digits] = match;
  return {
    host: (bracketed ?? plain)!,
    isBracketed: bracketed !== undefined,
    port: Number(digits),
  };
}

/**
 * As `parseHostPort`, but the host may be a DNS name, which comes out in lower case. It is for
 * places where the name is looked up each time that it is used.
 */
export function parseNamedHostPort(text: string, what: string): HostPort {
  const parts = split(text);
  const name = parts?.host.toLowerCase().replace(/\.$/, "") ?? "";
  if (parts !== null && !parts.isBracketed && isHostName(name) && parts.port <= 65_535) {
    return { host: name, port: parts.port };
  }
  return parseHostPort(text, what);
}

/**
 * Reads ADDRESS:PORT; the address comes out in its one canonical text. Port 0 lets the system
 * choose one. Throws `invalid_argument`; `what` names the text's place in it.
 */
export function parseHostPort(text: string, what: string): HostPort {
  const parts = split(text);
  const quoted = `${what} ${JSON.stringify(text)}`;
  if (parts === null) {
    const form = "not ADDRESS:PORT, such as 10.0.0.1:8286 or [fd00::1]:8286";
    throw new SelvageError("invalid_argument", `${quoted}: ${form}`);
  }
  const { host, isBracketed, port } = parts;
  const address = IpAddress.parse(host, what);
  if ((address.family === 6) !== isBracketed) {
    throw new SelvageError("invalid_argument", `${quoted}: an IPv6 address goes in brackets`);
  }
  if (port > 65_535) throw new SelvageError("invalid_argument", `${quoted}: no port above 65535`);
  return { host: address.toString(), port };
}
