/** Plans' inputs for tests of backends that the kernel forwards for. */
import type { PlanInput } from "../../src/backend/backend.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import type { NetworkConfig } from "../../src/config/network_config.ts";
import type { OuterLink, Way } from "../../src/kernel/outer_link.ts";
import { type Lease, parseLeaseKey } from "../../src/lease/lease.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";

export const DUAL = { EnableIPv6: true, IPv6Network: "fc00::/48" };

export function configOf(
  backend: Record<string, unknown>,
  network: Record<string, unknown> = {},
): NetworkConfig {
  const value = { Network: "10.210.0.0/16", ...network, Backend: backend };
  return parseNetworkConfig(JSON.stringify(value), "test");
}

const way = (destination: string, isDirect: boolean): Way => ({
  destination: IpPrefix.parse(destination),
  isDirect,
});
const ADDRESSES = ["192.0.2.1", "2001:db8::1"].map((text) => IpAddress.parse(text));

/** On the link are 192.0.2.0/24, but for its upper half, and 2001:db8::/64. */
export const LINK: OuterLink = {
  name: "eth0",
  index: 2,
  mtu_bytes: 1500,
  addresses: ADDRESSES,
  publicAddresses: ADDRESSES,
  ways: [
    way("2001:db8::/64", true),
    way("192.0.2.128/25", false),
    way("192.0.2.0/24", true),
    way("0.0.0.0/0", false),
  ],
};

export const MACS = {
  4: MacAddress.parse("02:00:00:00:00:04"),
  6: MacAddress.parse("02:00:00:00:00:06"),
};

export function leaseOf(
  key: string,
  addresses: readonly string[],
  backendType: string,
  backendData: Lease["backendData"] = {},
): Lease {
  return {
    subnets: parseLeaseKey(key),
    publicAddresses: addresses.map((text) => IpAddress.parse(text)),
    backendType,
    backendData,
    expiry_ms: null,
  };
}

const OWN_SUBNETS = { 4: "10.210.5.0-24", 6: "fc00:0:0:5::-64" };

/** Of 10.210.5.0/24 and fc00:0:0:5::/64, in the families that the network has. */
export function inputOf(
  config: NetworkConfig,
  peers: readonly Lease[],
  changes: Partial<PlanInput> = {},
): PlanInput {
  const key = config.ranges.map(({ family }) => OWN_SUBNETS[family]).join("&");
  const lease = leaseOf(key, ADDRESSES.map(String), config.backend.type);
  return { config, link: LINK, vtepMacs: MACS, lease, peers, ...changes };
}

/** As JSON has it: addresses and prefixes as text. */
export const plain = (value: unknown) => JSON.parse(JSON.stringify(value));
