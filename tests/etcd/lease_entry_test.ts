import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { KeyValue } from "../../src/etcd/client/kv.ts";
import { formatEntryValue, readEntry, type UntypedBackend } from "../../src/etcd/lease_entry.ts";
import { KeySpace } from "../../src/etcd/lease_key.ts";
import type { LeaseAttributes } from "../../src/lease/lease.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { node } from "../lease/sample.ts";

const KEYS = new KeySpace("/coreos.com/network");

function entry(name: string, value: string, leaseId = 7n): KeyValue {
  const key = KEYS.subnets + name;
  return { key, value, createRevision: 2n, modRevision: 3n, version: 1n, leaseId };
}

function read(value: string, untyped: UntypedBackend = "udp") {
  return readEntry(entry("10.210.52.0-24", value), KEYS, untyped);
}

describe("the keys of a network", () => {
  test("are flannel's, with slashes too many dropped", () => {
    for (const prefix of ["/coreos.com/network", "/coreos.com//network/"]) {
      const keys = new KeySpace(prefix);
      assert.equal(keys.config, "/coreos.com/network/config");
      const subnets = [IpPrefix.parse("10.5.52.0/24"), IpPrefix.parse("FC00:0::/64")];
      assert.equal(
        keys.ofLease(subnets),
        "/coreos.com/network/subnets/10.5.52.0-24&fc00::-64",
      );
    }
    assert.equal(new KeySpace("flat").config, "flat/config");
    assert.throws(() => new KeySpace(""), { code: "invalid_argument" });
  });

  test("name subnets both ways", () => {
    const address = (family: 4 | 6) =>
      fc.bigInt({ min: 0n, max: (1n << BigInt(family === 4 ? 32 : 128)) - 1n })
        .map((value) => IpAddress.of(family, value));
    const v4 = fc.tuple(address(4), fc.integer({ min: 1, max: 31 }));
    const v6 = fc.tuple(address(6), fc.integer({ min: 1, max: 127 }));
    const subnets = fc.oneof(fc.tuple(v4), fc.tuple(v6), fc.tuple(v4, v6))
      .map((parts) => parts.map(([one, length]) => IpPrefix.of(one, length)));
    fc.assert(
      fc.property(subnets, (ours) => {
        assert.equal(KEYS.parse(KEYS.ofLease(ours)).join(" "), ours.join(" "));
      }),
      { seed: 11 },
    );
  });

  test("that flannel would not have written are none", () => {
    const foreign = [
      "",
      "x",
      "10.5.1.0",
      "10.5.1.0-24/more",
      "10.5.1.7-24",
      "10.5.1.0/24",
      "010.5.1.0-24",
      "10.5.1.0-32",
      "0.0.0.0-0",
      "fc00::-128",
      "fc00:0::-64",
      "FC00::-64",
      "fc00::-64&10.5.1.0-24",
      "10.5.1.0-24&10.5.2.0-24",
      "\u0000",
      "9".repeat(5000),
    ];
    for (const name of foreign) {
      assert.throws(() => KEYS.parse(KEYS.subnets + name), { code: "invalid_argument" }, name);
    }
  });
});

const VXLAN = { VNI: 1, VtepMAC: "ea:18:5c:b2:85:27" };

describe("the value of a lease", () => {
  /** What a running flanneld v0.20.2 wrote, and what that says. */
  const observed: [string, LeaseAttributes, UntypedBackend][] = [
    ['{"PublicIP":"10.99.0.2","PublicIPv6":null}', node("10.99.0.2"), "udp"],
    [
      '{"PublicIP":"10.99.0.2","PublicIPv6":null}',
      { ...node("10.99.0.2"), backendType: "alloc" },
      "alloc",
    ],
    [
      '{"PublicIP":"10.99.0.1","PublicIPv6":null,"BackendType":"vxlan",' +
      '"BackendData":{"VNI":1,"VtepMAC":"ea:18:5c:b2:85:27"}}',
      { ...node("10.99.0.1"), backendType: "vxlan", backendData: { 4: VXLAN } },
      "udp",
    ],
    [
      '{"PublicIP":"10.99.0.2","PublicIPv6":null,"BackendType":"host-gw"}',
      { ...node("10.99.0.2"), backendType: "host-gw" },
      "udp",
    ],
    [
      '{"PublicIP":"10.99.0.1","PublicIPv6":"fd00::1","BackendType":"vxlan",' +
      '"BackendData":{"VNI":1,"VtepMAC":"ea:18:5c:b2:85:27"},' +
      '"BackendV6Data":{"VNI":1,"VtepMAC":"ea:18:5c:b2:85:27"}}',
      {
        ...node("10.99.0.1", "fd00::1"),
        backendType: "vxlan",
        backendData: { 4: VXLAN, 6: VXLAN },
      },
      "udp",
    ],
  ];

  test("is written as a running flanneld did, to the byte, and read back", () => {
    for (const [text, attributes, untyped] of observed) {
      assert.equal(formatEntryValue(attributes), text);
      const { subnets: _, expiry_ms, ...rest } = read(text, untyped);
      assert.deepEqual(rest, attributes);
      assert.equal(expiry_ms, undefined);
    }
  });

  test("of a node without IPv4, or with texts that Go escapes, is as Go writes it", () => {
    assert.equal(
      formatEntryValue(node("fd00::1")),
      '{"PublicIP":"0.0.0.0","PublicIPv6":"fd00::1"}',
    );
    const extension = { ...node("192.0.2.1"), backendType: "extension" };
    const value = formatEntryValue({ ...extension, backendData: { 4: "a<b>&\u2028" } });
    assert.match(value, /"BackendData":"a\\u003cb\\u003e\\u0026\\u2028"\}$/);
    assert.deepEqual(read(value).backendData, { 4: "a<b>&\u2028" });
  });

  test("is read as v0.5 to v0.28 wrote it", () => {
    const rows: [string, LeaseAttributes][] = [
      ['{"PublicIP":"192.0.2.1"}', node("192.0.2.1")],
      ['{"PublicIP":"192.0.2.1","BackendData":null}', node("192.0.2.1")],
      [
        '{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":{"VtepMAC":"aa:bb"}}',
        { ...node("192.0.2.1"), backendType: "vxlan", backendData: { 4: { VtepMAC: "aa:bb" } } },
      ],
      ['{"PublicIP":"0.0.0.0","PublicIPv6":"fd00::1","BackendType":""}', node("fd00::1")],
      [
        '{"PublicIP":"192.0.2.1","PublicIPv6":"::","BackendType":"UDP","New":{"a":[1]}}',
        node("192.0.2.1"),
      ],
    ];
    for (const [text, attributes] of rows) {
      const { subnets: _, expiry_ms: __, ...rest } = read(text);
      assert.deepEqual(rest, attributes, text);
    }
  });

  test("without a lease of etcd is a reservation", () => {
    const value = '{"PublicIP":"192.0.2.1"}';
    assert.equal(readEntry(entry("10.5.1.0-24", value, 0n), KEYS, "udp").expiry_ms, null);
  });

  test("that is damaged, or too long to be handed on, is refused", () => {
    const wrong = [
      "",
      "null",
      "[]",
      "{}",
      '{"PublicIP":"300.0.0.1"}',
      '{"PublicIP":7}',
      '{"PublicIP":"192.0.2.1","BackendType":{}}',
      "\ufffd",
      JSON.stringify({ PublicIP: "192.0.2.1", BackendData: "x".repeat(20_000) }),
      // Short as it is written, and long when it is written anew.
      `{"PublicIP":"192.0.2.1","BackendData":[${"1e20,".repeat(2000)}1]}`,
    ];
    for (const value of wrong) assert.throws(() => read(value), Error, value.slice(0, 80));
    const large = { ...node("192.0.2.1"), backendData: { 4: "x".repeat(20_000) } };
    assert.throws(() => formatEntryValue(large), { code: "too_large" });
  });

  test("never does harm, whatever it is", () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json()), (value) => {
        try {
          read(value);
        } catch (error) {
          assert.match((error as { code?: string }).code ?? "none", /invalid_argument|too_large/);
        }
      }),
      { seed: 12 },
    );
  });

  test("comes back as it was, whatever a node publishes", () => {
    const host = (family: 4 | 6) =>
      fc.bigInt({ min: 1n, max: (1n << BigInt(family === 4 ? 32 : 128)) - 2n })
        .map((value) => IpAddress.of(family, value));
    const data = fc.option(fc.jsonValue({ maxDepth: 2 }).filter((one) => one !== null), {
      nil: undefined,
    });
    const attributes = fc.record({
      publicAddresses: fc.oneof(fc.tuple(host(4)), fc.tuple(host(6)), fc.tuple(host(4), host(6))),
      backendType: fc.constantFrom("udp", "vxlan", "host-gw", "wireguard", "extension"),
      v4: data,
      v6: data,
    });
    fc.assert(
      fc.property(attributes, ({ v4, v6, publicAddresses, backendType }) => {
        const backendData = {
          ...(v4 === undefined ? {} : { 4: v4 }),
          ...(v6 === undefined ? {} : { 6: v6 }),
        };
        const text = formatEntryValue({ publicAddresses, backendType, backendData });
        const { subnets: _, expiry_ms: __, ...rest } = read(text);
        assert.equal(formatEntryValue(rest), text);
        assert.deepEqual(rest.publicAddresses.map(String), publicAddresses.map(String));
      }),
      { seed: 13 },
    );
  });
});
