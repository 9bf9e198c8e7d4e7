/**
 * `subnet.env`: what container runtimes read to learn this host's subnet, and where the next
 * start finds the subnets it had. As flannel writes it, line by line.
 */
import type { NetworkConfig } from "../config/network_config.ts";
import { errorText, hasCode } from "../errors.ts";
import { readFileBounded, writeFileAtomic } from "../files.ts";
import { type Family, IpPrefix, ofFamily } from "../net/ip.ts";

/** What the file says. */
export interface SubnetFile {
  readonly network: NetworkConfig;
  /** The lease's subnets. */
  readonly subnets: readonly IpPrefix[];
  /** What an interface inside the overlay may send at most, IP header included. */
  readonly mtu_bytes: number;
  readonly ipMasq: boolean;
}

/** Names of the lines by family. */
const NAMES: Readonly<Record<Family, readonly [network: string, subnet: string]>> = {
  4: ["FLANNEL_NETWORK", "FLANNEL_SUBNET"],
  6: ["FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET"],
};

/** The text of the file. The subnet is written with its first host's address, as flannel does. */
export function formatSubnetFile(file: SubnetFile): string {
  const lines: string[] = [];
  for (const family of [4, 6] as const) {
    const range = ofFamily(file.network.ranges, family);
    const subnet = ofFamily(file.subnets, family);
    if (range === undefined || subnet === undefined) continue;
    const [network, name] = NAMES[family];
    lines.push(`${network}=${range.network}`, `${name}=${subnet.address.add(1n)}/${subnet.length}`);
  }
  lines.push(`FLANNEL_MTU=${file.mtu_bytes}`, `FLANNEL_IPMASQ=${file.ipMasq}`);
  return lines.map((line) => `${line}\n`).join("");
}

/** Writes the file by atomic rename, mode 0644, and its directory where that is missing. */
export function writeSubnetFile(path: string, file: SubnetFile): void {
  writeFileAtomic(path, formatSubnetFile(file), { mode: 0o644 });
}

/** What an earlier run left in the file. */
export interface PreviousSubnets {
  /** At most one of each family, IPv4 first. */
  readonly subnets: readonly IpPrefix[];
  /** The networks that these are of, as far as the file names them. */
  readonly networks: readonly IpPrefix[];
  /** What could not be read, naming the file; null if all is well or there is no file. */
  readonly warning: string | null;
}

/** `NAME=value` or `NAME: value`, indented or not, with or without `export` before it. */
const LINE = /^\s*(?:export\s+)?([A-Za-z0-9_.]+)\s*[=:]\s*(.*)$/;

/**
 * The variables of the file, by the rules of the library that flannel reads it with (godotenv): a
 * value may be in quotes, a comment begins with `#` after a blank, and the last line of a name
 * counts. Escapes and references to other variables are not resolved: no address has any.
 */
function parseEnvironment(text: string): Map<string, string> {
  const values = new Map<string, string>();
  for (const line of text.split(/\r?\n/)) {
    const [, name, rest] = LINE.exec(line) ?? [];
    if (name === undefined || rest === undefined) continue;
    const quoted = /^(["'])(.*?)\1/.exec(rest);
    values.set(name, quoted?.[2] ?? rest.replace(/(^|\s)#.*$/, "").trim());
  }
  return values;
}

/**
 * The subnets that the file names. It never throws: this host can do without, so what is missing
 * or wrong is left out, and said in `warning`.
 */
export function readPreviousSubnets(path: string): PreviousSubnets {
  let text: string;
  try {
    text = readFileBounded(path);
  } catch (error) {
    const warning = hasCode(error, "not_found") ? null : errorText(error);
    return { subnets: [], networks: [], warning };
  }
  const values = parseEnvironment(text);
  const faults: string[] = [];
  const read = (family: Family, name: string): IpPrefix[] => {
    const value = values.get(name);
    if (value === undefined) return [];
    try {
      const prefix = IpPrefix.parse(value, name);
      if (prefix.family === family) return [prefix];
      faults.push(`${name} "${value}": not an IPv${family} prefix`);
    } catch (error) {
      faults.push(errorText(error));
    }
    return [];
  };
  const families = [4, 6] as const;
  const subnets = families.flatMap((family) => read(family, NAMES[family][1]));
  if (subnets.length === 0 && faults.length === 0) faults.push("it names no subnet");
  const warning = faults.length === 0 ? null : `${path}: ${faults.join("; ")}`;
  // A start does without the networks, so what is wrong with them is no warning.
  const networks = families.flatMap((family) => read(family, NAMES[family][0]));
  return { subnets, networks, warning };
}
