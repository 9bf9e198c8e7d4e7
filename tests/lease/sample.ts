/** Leases, nodes and configurations for tests. */
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import type { NetworkConfig } from "../../src/config/network_config.ts";
import { type Lease, type LeaseAttributes, parseLeaseKey } from "../../src/lease/lease.ts";
import { IpAddress } from "../../src/net/ip.ts";

/** The attributes of a udp node with these public addresses. */
export function node(...addresses: string[]): LeaseAttributes {
  const publicAddresses = addresses.map((text) => IpAddress.parse(text));
  return { publicAddresses, backendType: "udp", backendData: {} };
}

/** Node number `n` of many, by its IPv4 address. */
export function nodeNumber(n: number): LeaseAttributes {
  return node(`192.${168 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`);
}

/** A lease by its key; "10.5.1.0/24" will do. */
export function lease(
  key: string,
  attributes: LeaseAttributes = node("192.0.2.1"),
  expiry_ms: number | null = 1000,
): Lease {
  return { ...attributes, subnets: parseLeaseKey(key), expiry_ms };
}

export function networkConfig(value: Record<string, unknown>): NetworkConfig {
  return parseNetworkConfig(JSON.stringify(value), "test");
}

/** Numbers in [0, 1) that a seed determines (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}
