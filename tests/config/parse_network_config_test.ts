import { describe, test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { formatNetworkConfig, parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { bitsOf, IpAddress, IpPrefix } from "../../src/net/ip.ts";

/** `network len min max` of each range. */
function ranges(text: string): string[] {
  return parseNetworkConfig(text, "f").ranges.map((range) =>
    `${range.network} ${range.subnetLength} ${range.subnetMin} ${range.subnetMax}`
  );
}

describe("the network configuration", () => {
  test("fills in flannel's defaults", () => {
    const rows: [string, string[]][] = [
      ['{"Network": "10.5.0.0/16"}', ["10.5.0.0/16 24 10.5.1.0 10.5.255.0"]],
      ['{"Network": "10.0.0.0/8"}', ["10.0.0.0/8 24 10.0.1.0 10.255.255.0"]],
      ['{"Network": "10.5.4.0/22"}', ["10.5.4.0/22 24 10.5.5.0 10.5.7.0"]],
      ['{"Network": "10.5.4.0/23"}', ["10.5.4.0/23 25 10.5.4.128 10.5.5.128"]],
      ['{"Network": "10.5.4.0/28"}', ["10.5.4.0/28 30 10.5.4.4 10.5.4.12"]],
      ['{"Network": "10.5.7.9/16"}', ["10.5.0.0/16 24 10.5.1.0 10.5.255.0"]],
      ['{"Network": "10.5.0.0/16", "SubnetLen": 30}', ["10.5.0.0/16 30 10.5.0.4 10.5.255.252"]],
      ['{"Network": "10.5.0.0/16", "SubnetLen": 0}', ["10.5.0.0/16 24 10.5.1.0 10.5.255.0"]],
      ['{"Network": "10.5.0.0/16", "SubnetLen": 18}', ["10.5.0.0/16 18 10.5.64.0 10.5.192.0"]],
      [
        '{"Network": "10.5.0.0/16", "SubnetMin": "10.5.0.0", "SubnetMax": "10.5.0.0"}',
        ["10.5.0.0/16 24 10.5.0.0 10.5.0.0"],
      ],
      [
        '{"Network": "10.5.0.0/16", "SubnetMin": "0.0.0.0", "SubnetMax": null}',
        ["10.5.0.0/16 24 10.5.1.0 10.5.255.0"],
      ],
      [
        '{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:5::/48"}',
        ["fd00:5::/48 64 fd00:5:0:1:: fd00:5:0:ffff::"],
      ],
      [
        '{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:5::/62"}',
        ["fd00:5::/62 64 fd00:5:0:1:: fd00:5:0:3::"],
      ],
      [
        '{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:5::/63"}',
        ["fd00:5::/63 65 fd00:5:0:0:8000:: fd00:5:0:1:8000::"],
      ],
      [
        '{"EnableIPv4": false, "EnableIPv6": true, "IPv6Network": "fd00:5::/124"}',
        ["fd00:5::/124 126 fd00:5::4 fd00:5::c"],
      ],
      [
        '{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00:5::/48", ' +
        '"IPv6SubnetLen": 56, "IPv6SubnetMin": "fd00:5:0:200::", ' +
        '"IPv6SubnetMax": "fd00:5:0:300::"}',
        ["10.5.0.0/16 24 10.5.1.0 10.5.255.0", "fd00:5::/48 56 fd00:5:0:200:: fd00:5:0:300::"],
      ],
      ['{"EnableIPv6": false, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/127"}', [
        "10.5.0.0/16 24 10.5.1.0 10.5.255.0",
      ]],
    ];
    for (const [text, expected] of rows) assert.deepEqual(ranges(text), expected, text);
  });

  test("matches keys without regard to case, the last one counting, and ignores others", () => {
    const text = '{"NETWORK": "10.6.0.0/16", "network": "10.5.0.0/16", "subnetlen": 25, ' +
      '"enableNFTables": true, "backend": {"TYPE": "VXLAN", "vni": 4, "Port": 8472}, "Foo": [1]}';
    const config = parseNetworkConfig(text, "f");
    assert.equal(String(config.ranges[0]?.network), "10.5.0.0/16");
    assert.equal(config.ranges[0]?.subnetLength, 25);
    assert.equal(config.enableNftables, true);
    assert.deepEqual(config.backend, { type: "vxlan", options: { vni: 4, Port: 8472 } });
  });

  test("means udp where it names no backend", () => {
    for (const backend of ["null", "{}", '{"Type": ""}', '{"type": "UDP"}']) {
      const text = `{"Network": "10.5.0.0/16", "Backend": ${backend}}`;
      assert.deepEqual(parseNetworkConfig(text, "f").backend, { type: "udp", options: {} });
    }
    assert.equal(parseNetworkConfig('{"Network": "10.5.0.0/16"}', "f").backend.type, "udp");
  });

  test("says of each fault the file, the key, the value and the rule", () => {
    const net = '"Network": "10.5.0.0/16"';
    const six = '"EnableIPv4": false, "EnableIPv6": true';
    const rows: [string, RegExp][] = [
      ["", /^f: not JSON/],
      ["[]", /^f: must be a JSON object/],
      ["null", /^f: must be a JSON object/],
      ["{}", /^f: Network: missing, and IPv4 is switched on/],
      ['{"EnableIPv4": false}', /^f: EnableIPv4 false: one of EnableIPv4 and EnableIPv6/],
      [`{${six}}`, /^f: IPv6Network: missing, and IPv6/],
      [`{${net}, "EnableIPv6": "yes"}`, /^f: EnableIPv6 "yes": must be true or false/],
      ['{"Network": 5}', /^f: Network 5: must be a text/],
      ['{"Network": "10.5.0.0"}', /^f: Network "10\.5\.0\.0": not ADDRESS\/LENGTH/],
      ['{"Network": "10.5.0.0/33"}', /^f: Network "10\.5\.0\.0\/33": .*at most 32/],
      ['{"Network": "10.05.0.0/16"}', /^f: Network "10\.05\.0\.0\/16": not an IPv4/],
      ['{"Network": "fd00::/48"}', /^f: Network "fd00::\/48": must be an IPv4 prefix/],
      ['{"Network": "10.5.0.0/29"}', /^f: Network "10\.5\.0\.0\/29": too small.* a \/28/],
      [`{${net}, "SubnetLen": 31}`, /^f: SubnetLen 31: must be at most 30/],
      [`{${net}, "SubnetLen": 17}`, /^f: SubnetLen 17: must be at least 18/],
      [`{${net}, "SubnetLen": 24.5}`, /^f: SubnetLen 24\.5: must be a whole number/],
      [`{${net}, "SubnetLen": -1}`, /^f: SubnetLen -1: must be a whole number/],
      [`{${net}, "SubnetLen": "24"}`, /^f: SubnetLen "24": must be a whole number/],
      [`{${net}, "SubnetMin": "10.6.0.0"}`, /^f: SubnetMin "10\.6\.0\.0": does not lie in 10\.5/],
      [`{${net}, "SubnetMax": "10.4.0.0"}`, /^f: SubnetMax "10\.4\.0\.0": does not lie in 10\.5/],
      [`{${net}, "SubnetMin": "10.5.1.1"}`, /^f: SubnetMin "10\.5\.1\.1": not on a \/24 boundary/],
      [`{${net}, "SubnetMax": "10.5.1.128"}`, /^f: SubnetMax "10\.5\.1\.128": not on a \/24/],
      [`{${net}, "SubnetMin": "fd00::"}`, /^f: SubnetMin "fd00::": must be an IPv4 address/],
      [
        `{${net}, "SubnetMin": "10.5.9.0", "SubnetMax": "10.5.8.0"}`,
        /^f: SubnetMin "10\.5\.9\.0": lies above SubnetMax 10\.5\.8\.0/,
      ],
      [`{${six}, "IPv6Network": "fd00::/125"}`, /^f: IPv6Network "fd00::\/125": too small.*\/124/],
      [`{${six}, "IPv6Network": "fd00::/48", "IPv6SubnetLen": 127}`, /IPv6SubnetLen 127: .*126/],
      [`{${six}, "IPv6Network": "fd00::/48", "IPv6SubnetLen": 49}`, /IPv6SubnetLen 49: .*50/],
      [`{${net}, "IPv6Network": "nonsense"}`, /^f: IPv6Network "nonsense"/],
      [`{${net}, "Backend": "udp"}`, /^f: Backend "udp": must be an object/],
      [`{${net}, "Backend": {"Type": 5}}`, /^f: Backend: Type 5: must be a text/],
    ];
    for (const [text, message] of rows) {
      const expected = { name: "SelvageError", code: "invalid_argument", message };
      assert.throws(() => parseNetworkConfig(text, "f"), expected, text);
    }
    assert.throws(() => parseNetworkConfig(" ".repeat(70_000), "f"), { code: "too_large" });
  });

  test("comes back from its text as it was, and all ranges keep their rules (seed 5)", () => {
    // Where no host can be: such networks are refused.
    const RESERVED = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "ff00::/8"]
      .map((text) => IpPrefix.parse(text));
    const family = fc.constantFrom(4 as const, 6 as const);
    const property = fc.property(
      family,
      fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }),
      fc.nat(),
      fc.nat(),
      (family, value, networkLength, subnetLength) => {
        const bits = bitsOf(family);
        const length = 1 + networkLength % (bits - 4);
        const address = IpAddress.of(family, value & ((1n << BigInt(bits)) - 1n));
        const network = IpPrefix.of(address, length);
        fc.pre(!RESERVED.some((range) => range.overlaps(network)));
        const own = length + 2 + subnetLength % (bits - 2 - length - 1);
        const prefix = family === 4 ? "" : "IPv6";
        const text = JSON.stringify({
          EnableIPv4: family === 4,
          EnableIPv6: family === 6,
          [`${prefix}Network`]: network,
          [`${prefix}SubnetLen`]: own,
          Backend: { Type: "udp", Port: 1 },
        });
        const config = parseNetworkConfig(text, "f");
        assert.deepEqual(parseNetworkConfig(formatNetworkConfig(config), "f"), config);
        const [range] = config.ranges;
        assert.ok(range !== undefined);
        const [low, high] = [range.subnetMin, range.subnetMax].map((address) =>
          IpPrefix.of(address, own)
        );
        assert.ok(low!.address.equals(network.address.add(low!.size)));
        assert.ok(high!.last.equals(network.last));
      },
    );
    fc.assert(property, { seed: 5 });
  });
});
