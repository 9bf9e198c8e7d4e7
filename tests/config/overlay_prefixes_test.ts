import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkOuterAddresses, overlayPrefixes } from "../../src/config/overlay_prefixes.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { IpAddress } from "../../src/net/ip.ts";

/** flannel's own example. */
const EXAMPLE = {
  Network: "10.0.0.0/8",
  SubnetLen: 20,
  SubnetMin: "10.10.0.0",
  SubnetMax: "10.99.0.0",
};
const configOf = (value: unknown) => parseNetworkConfig(JSON.stringify(value), "f");
const addresses = (...texts: string[]) => texts.map((text) => IpAddress.parse(text));

describe("the prefixes that the overlay takes", () => {
  const prefixes = (value: unknown, isWhole = false) =>
    overlayPrefixes(configOf(value), isWhole).map(String);

  test("are the network, if one route takes the whole of it, or by default", () => {
    assert.deepEqual(prefixes(EXAMPLE, true), ["10.0.0.0/8"]);
    assert.deepEqual(prefixes({ Network: "10.5.0.0/16" }), ["10.5.0.0/16"]);
    const dual = { Network: "10.5.0.0/16", EnableIPv6: true, IPv6Network: "fc00::/48" };
    assert.deepEqual(prefixes(dual), ["10.5.0.0/16", "fc00::/48"]);
  });

  test("are else exactly those from SubnetMin to the end of SubnetMax", () => {
    assert.deepEqual(prefixes(EXAMPLE), [
      "10.10.0.0/15",
      "10.12.0.0/14",
      "10.16.0.0/12",
      "10.32.0.0/11",
      "10.64.0.0/11",
      "10.96.0.0/15",
      "10.98.0.0/16",
      "10.99.0.0/20",
    ]);
    const one = { Network: "10.5.0.0/16", SubnetMin: "10.5.7.0", SubnetMax: "10.5.7.0" };
    assert.deepEqual(prefixes(one), ["10.5.7.0/24"]);
  });
});

describe("a host's outer address", () => {
  test("must not lie in a network that is routed as a whole", () => {
    const config = configOf({ Network: "10.5.0.0/16" });
    checkOuterAddresses(config, addresses("10.4.255.255", "10.6.0.0", "fd00::1"), true);
    assert.throws(() => checkOuterAddresses(config, addresses("192.0.2.1", "10.5.3.4"), true), {
      code: "conflict",
      message: /10\.5\.3\.4 lies in the overlay's network 10\.5\.0\.0\/16/,
    });
  });

  test("may lie in the network, outside of what subnets are leased out of", () => {
    const config = configOf(EXAMPLE);
    checkOuterAddresses(config, addresses("10.0.0.5", "10.9.255.255", "10.99.16.0"), false);
    assert.throws(() => checkOuterAddresses(config, addresses("10.99.15.255"), false), {
      message: /10\.99\.15\.255 .* 10\.0\.0\.0\/8, in 10\.99\.0\.0\/20, from which subnets/,
    });
    assert.throws(() => checkOuterAddresses(config, addresses("10.0.0.5"), true));
  });
});
