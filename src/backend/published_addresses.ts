/** What a node says of itself, whatever its backend. */
import type { NetworkConfig } from "../config/network_config.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import type { IpAddress } from "../net/ip.ts";

/**
 * The addresses that others reach this node by: IPv4, by which a node is known, and IPv6 only where
 * the network has it, as flannel does.
 */
export function publishedAddresses(config: NetworkConfig, link: OuterLink): IpAddress[] {
  const hasIpv6 = config.ranges.some(({ family }) => family === 6);
  return link.publicAddresses.filter(({ family }) => family === 4 || hasIpv6);
}
