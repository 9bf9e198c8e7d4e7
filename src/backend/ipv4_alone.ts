/** What backends that carry IPv4 alone ask of the network and the outer link. */
import type { NetworkConfig } from "../config/network_config.ts";
import { SelvageError } from "../errors.ts";
import type { OuterLink } from "../kernel/outer_link.ts";
import { MTU_BYTES_MIN } from "../net/header_length.ts";
import { ofFamily } from "../net/ip.ts";

/** Throws `unsupported` unless the network is of IPv4 alone. */
export function requireIpv4Network({ ranges, backend }: NetworkConfig): void {
  if (ranges.every(({ family }) => family === 4)) return;
  const text = `network configuration: backend ${backend.type} carries only IPv4`;
  throw new SelvageError("unsupported", text, {
    hint: "Set EnableIPv6 to false and EnableIPv4 to true, or choose another backend.",
  });
}

/** Throws `unsupported` unless the link has an IPv4 address of its own. */
export function requireIpv4Address({ name, addresses }: OuterLink): void {
  if (ofFamily(addresses, 4) !== undefined) return;
  throw new SelvageError("unsupported", `interface ${name} has no IPv4 address`, {
    hint: "Choose another interface with --iface.",
  });
}

/**
 * The largest inner packet, in bytes, where encapsulation takes `overhead_bytes` of the link's MTU.
 * Throws `unsupported` if that is less than every link must carry.
 */
export function ipv4Mtu_bytes(link: OuterLink, overhead_bytes: number): number {
  const mtu_bytes = link.mtu_bytes - overhead_bytes;
  if (mtu_bytes >= MTU_BYTES_MIN[4]) return mtu_bytes;
  throw new SelvageError(
    "unsupported",
    `interface ${link.name}: an MTU of ${link.mtu_bytes} leaves no room for encapsulation`,
  );
}
