/** The flags on the outer network, of every command that needs one; most are flannel's. */
import type { Option } from "commander";
import type { OuterLinkChoice, Pattern } from "../agent/options.ts";
import type { IpAddress } from "../net/ip.ts";
import { errorText, hintOf } from "../errors.ts";
import { boolFlag, listFlag, valueFlag } from "./flags.ts";
import { UsageError } from "./usage_error.ts";
import { address, hostAddress, nonEmpty } from "./values.ts";

export interface LinkFlags {
  readonly iface?: string[];
  readonly ifaceRegex?: string[];
  readonly ifaceCanReach?: IpAddress;
  readonly publicIp?: IpAddress;
  readonly publicIpv6?: IpAddress;
  readonly allowNetworkOverlap?: boolean;
}

export function linkFlags(): Option[] {
  const env = "flannel";
  return [
    listFlag({
      term: "iface <name>",
      description:
        "interface to other hosts, by name or address; of several, the first that exists is used",
      parse: nonEmpty,
      env,
    }),
    listFlag({
      term: "iface-regex <regex>",
      description:
        "pattern (RE2) for the address or name of the interface; tried after --iface; repeatable",
      parse: nonEmpty,
      env,
    }),
    valueFlag({
      term: "iface-can-reach <address>",
      description:
        "use the interface through which this host reaches the address; tried after --iface-regex",
      parse: address(),
      env,
    }),
    valueFlag({
      term: "public-ip <address>",
      description:
        "IPv4 address that other hosts send to; chooses the interface if no --iface flag does",
      parse: hostAddress(4),
      env,
    }),
    valueFlag({
      term: "public-ipv6 <address>",
      description:
        "IPv6 address that other hosts send to; chooses the interface if no --iface flag does",
      parse: hostAddress(6),
      env,
    }),
    boolFlag({
      term: "allow-network-overlap",
      description:
        "start even if Network contains an address that this host needs, such as its gateway",
      env: "selvage",
    }),
  ];
}

/** Reads the patterns. The code for that is loaded only if there are any. */
async function readPatterns(texts: readonly string[]): Promise<Pattern[]> {
  if (texts.length === 0) return [];
  const { Re2Pattern } = await import("../net/re2.ts");
  try {
    return texts.map((text) => new Re2Pattern(text, "--iface-regex"));
  } catch (error) {
    throw new UsageError(errorText(error), hintOf(error));
  }
}

/**
 * What the flags say, in the order in which it counts. Rejects with `UsageError` for a pattern that
 * is none.
 */
export async function linkChoice(flags: LinkFlags): Promise<OuterLinkChoice> {
  return {
    interfaces: flags.iface ?? [],
    interfaceRegexes: await readPatterns(flags.ifaceRegex ?? []),
    canReach: flags.ifaceCanReach?.toString() ?? null,
    publicAddresses: [flags.publicIp, flags.publicIpv6].filter((one) => one !== undefined),
  };
}
