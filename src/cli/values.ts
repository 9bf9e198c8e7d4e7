/** Texts of flags and environment variables as values. Each throws an Error that says why not. */
import { type HostPort, parseHostPort, parseNamedHostPort } from "../net/host_port.ts";
import { type Family, IpAddress } from "../net/ip.ts";

/** As Go's strconv.ParseBool. */
export function parseGoBool(text: string): boolean {
  if (/^(1|t|T|true|TRUE|True)$/.test(text)) return true;
  if (/^(0|f|F|false|FALSE|False)$/.test(text)) return false;
  throw new Error("must be true or false");
}

/** A whole number within bounds, in decimal. */
export function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^[0-9]{1,15}$/.test(text) ? Number(text) : NaN;
    if (value >= min && value <= max) return value;
    throw new Error(`must be a whole number from ${min} to ${max}`);
  };
}

export function nonEmpty(text: string): string {
  if (text.trim() === "") throw new Error("must not be empty");
  return text;
}

export function oneOf<T extends string>(values: readonly T[]): (text: string) => T {
  return (text) => {
    const found = values.find((value) => value === text);
    if (found === undefined) throw new Error(`must be one of ${values.join(", ")}`);
    return found;
  };
}

/** A literal address, of one family if `family` is given. */
export function address(family?: Family): (text: string) => IpAddress {
  return (text) => {
    let parsed: IpAddress | null = null;
    try {
      parsed = IpAddress.parse(text);
    } catch {
      // Worded below: the flag's name is not known here.
    }
    if (parsed !== null && (family === undefined || parsed.family === family)) return parsed;
    throw new Error(`must be an IPv${family ?? "4 or IPv6"} address`);
  };
}

/** The address of a host, of one family. */
export function hostAddress(family: Family): (text: string) => IpAddress {
  const parse = address(family);
  return (text) => {
    const parsed = parse(text);
    if (parsed.isHost()) return parsed;
    throw new Error("must be a host's address, not loopback, multicast, broadcast or unspecified");
  };
}

/** `ADDR:PORT`, `[ADDR6]:PORT`; the port may be left out if there is a default. */
export function hostPort(portDefault?: number): (text: string) => HostPort {
  return (text) => {
    const bare = portDefault !== undefined && (!text.includes(":") || text.endsWith("]"));
    try {
      return parseHostPort(bare ? `${text}:${portDefault}` : text, "");
    } catch {
      // Worded without the text: the flag's reader quotes it.
      throw new Error(
        "must be ADDRESS:PORT with a literal address, such as 192.0.2.1:8286 or [2001:db8::1]:8286",
      );
    }
  };
}

/** `HOST:PORT`, where the host may be a DNS name; the port may be left out. */
export function namedHostPort(portDefault: number): (text: string) => HostPort {
  return (text) => {
    const bare = !text.includes(":") || text.endsWith("]");
    try {
      return parseNamedHostPort(bare ? `${text}:${portDefault}` : text, "");
    } catch {
      throw new Error(
        "must be HOST:PORT, such as 192.0.2.1:8286, [2001:db8::1]:8286 or registry.example:8286",
      );
    }
  };
}
