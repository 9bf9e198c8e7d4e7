/** ADDRESS:PORT with a literal address: `10.0.0.1:8286`, `[fd00::1]:8286`. */
import { SelvageError } from "../errors.ts";
import { IpAddress } from "./ip.ts";

export interface HostPort {
  /** A literal address. */
  readonly host: string;
  readonly port: number;
}

/** The text of an address and a port; IPv6 in brackets. */
export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Reads ADDRESS:PORT; the address comes out in its one canonical text. Port 0 lets the system
 * choose one. Throws `invalid_argument`; `what` names the text's place in it.
 */
export function parseHostPort(text: string, what: string): HostPort {
  const match = /^(?:\[([^[\]]+)\]|([^:[\]]+)):(0|[1-9][0-9]{0,4})$/.exec(text);
  const quoted = `${what} ${JSON.stringify(text)}`;
  if (match === null) {
    const form = "not ADDRESS:PORT, such as 10.0.0.1:8286 or [fd00::1]:8286";
    throw new SelvageError("invalid_argument", `${quoted}: ${form}`);
  }
  const [, bracketed, plain, digits] = match;
  const address = IpAddress.parse((bracketed ?? plain)!, what);
  if ((address.family === 6) !== (bracketed !== undefined)) {
    throw new SelvageError("invalid_argument", `${quoted}: an IPv6 address goes in brackets`);
  }
  const port = Number(digits);
  if (port > 65_535) throw new SelvageError("invalid_argument", `${quoted}: no port above 65535`);
  return { host: address.toString(), port };
}
