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
  /** What could not be read, naming the file; null if all is well or there is no file. */
  readonly warning: string | null;
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
    return { subnets: [], warning: hasCode(error, "not_found") ? null : errorText(error) };
  }
  const subnets: IpPrefix[] = [];
  const faults: string[] = [];
  for (const family of [4, 6] as const) {
    const name = NAMES[family][1];
    // The last line of a name counts, as in a shell that sources the file.
    const lines = text.split("\n").filter((line) => line.startsWith(`${name}=`));
    const value = lines.at(-1)?.slice(name.length + 1).trim();
    if (value === undefined) continue;
    try {
      const subnet = IpPrefix.parse(value, name);
      if (subnet.family === family) subnets.push(subnet);
      else faults.push(`${name} "${value}": not an IPv${family} prefix`);
    } catch (error) {
      faults.push(errorText(error));
    }
  }
  if (subnets.length === 0 && faults.length === 0) faults.push("it names no subnet");
  return { subnets, warning: faults.length === 0 ? null : `${path}: ${faults.join("; ")}` };
}
