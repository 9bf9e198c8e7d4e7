import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { formatLeaseValue, parseLeaseValue } from "../../src/lease/lease_value.ts";
import { parseLeaseKey } from "../../src/lease/lease.ts";
import { node } from "./sample.ts";

describe("the lease value", () => {
  test("is written as flannel does", () => {
    assert.equal(
      formatLeaseValue(node("192.0.2.1")),
      '{"PublicIP":"192.0.2.1","PublicIPv6":null}',
    );
    const vxlan = {
      ...node("192.0.2.1", "2001:db8::1"),
      backendType: "vxlan",
      backendData: { 4: { VNI: 1, VtepMAC: "aa:bb:cc:dd:ee:ff" }, 6: { VNI: 2 } },
    };
    assert.equal(
      formatLeaseValue(vxlan),
      '{"PublicIP":"192.0.2.1","PublicIPv6":"2001:db8::1","BackendType":"vxlan",' +
        '"BackendData":{"VNI":1,"VtepMAC":"aa:bb:cc:dd:ee:ff"},"BackendV6Data":{"VNI":2}}',
    );
    assert.deepEqual(parseLeaseValue(formatLeaseValue(vxlan), "v"), vxlan);
  });

  test("carries the node's mark behind flannel's members", () => {
    const marked = { ...node("192.0.2.1"), node: { id: "a1", run: "b2" } };
    const text = '{"PublicIP":"192.0.2.1","PublicIPv6":null,"Node":{"ID":"a1","Run":"b2"}}';
    assert.equal(formatLeaseValue(marked), text);
    assert.deepEqual(parseLeaseValue(text, "v"), marked);
    const newer = '{"PublicIP":"192.0.2.1","Node":{"ID":"a1","Name":"host1"}}';
    assert.deepEqual(parseLeaseValue(newer, "v").node, { id: "a1", run: "" });
    for (const bad of ["null", '"a1"', "[]", '{"ID":1}', `{"ID":"${"a".repeat(65)}"}`]) {
      const value = `{"PublicIP":"192.0.2.1","Node":${bad}}`;
      assert.deepEqual(parseLeaseValue(value, "v"), node("192.0.2.1"), bad);
    }
  });

  test("is read from what older and newer writers leave out or add", () => {
    const rows = [
      '{"PublicIP":"192.0.2.1"}',
      '{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"","BackendData":null}',
      '{"PublicIP":"192.0.2.1","PublicIPv6":"::","BackendType":"UDP","Other":1}',
    ];
    for (const text of rows) assert.deepEqual(parseLeaseValue(text, "v"), node("192.0.2.1"), text);
    const six = '{"PublicIP":"0.0.0.0","PublicIPv6":"2001:db8::1"}';
    assert.deepEqual(parseLeaseValue(six, "v"), node("2001:db8::1"));
    const alloc = { ...node("192.0.2.1"), backendType: "alloc" };
    assert.deepEqual(parseLeaseValue(formatLeaseValue(alloc), "v"), alloc);
  });

  test("says that a reservation awaits its host, until a host has written it", () => {
    const awaiting = { ...node("192.0.2.1"), awaitsHost: true as const };
    const text = formatLeaseValue(awaiting);
    assert.deepEqual(JSON.parse(text).AwaitsHost, true);
    assert.deepEqual(parseLeaseValue(text, "v"), awaiting);
    const written = `{"PublicIP":"192.0.2.1","AwaitsHost":true,"Node":{"ID":"a","Run":"b"}}`;
    assert.equal(parseLeaseValue(written, "v").awaitsHost, undefined);
    assert.equal(parseLeaseValue(`{"PublicIP":"192.0.2.1"}`, "v").awaitsHost, undefined);
  });

  test("that is damaged is refused, and the place is named", () => {
    const rows: [string, RegExp][] = [
      ["", /^v: not JSON/],
      ["[]", /^v: /],
      ["{}", /^v: neither PublicIP nor PublicIPv6/],
      [
        '{"PublicIP":"0.0.0.0","PublicIPv6":null}',
        /^v: not an address of a host: PublicIP is 0\.0\.0\.0$/,
      ],
      ['{"PublicIPv6":"::"}', /^v: not an address of a host: PublicIPv6 is ::$/],
      ['{"PublicIP":5}', /^v: PublicIP/],
      ['{"PublicIP":"1.2.3"}', /^v: PublicIP "1\.2\.3"/],
      ['{"PublicIP":"2001:db8::1"}', /^v: PublicIP "2001:db8::1": not an IPv4/],
      ['{"PublicIPv6":"1.2.3.4"}', /^v: PublicIPv6 "1\.2\.3\.4": not an IPv6/],
    ];
    for (const [text, message] of rows) {
      assert.throws(() => parseLeaseValue(text, "v"), { code: "invalid_argument", message });
    }
    const large = { ...node("192.0.2.1"), backendData: { 4: "x".repeat(20_000) } };
    assert.throws(() => formatLeaseValue(large), { code: "too_large" });
  });
});

describe("the lease key", () => {
  test("is read in every form, and refused in any other", () => {
    const rows: [string, string][] = [
      ["10.5.52.0-24", "10.5.52.0/24"],
      ["10.5.52.0/24", "10.5.52.0/24"],
      ["10.5.52.0-24&fc00::-64", "10.5.52.0/24 fc00::/64"],
      ["fc00::-64&10.5.52.0-24", "10.5.52.0/24 fc00::/64"],
    ];
    for (const [text, subnets] of rows) {
      assert.equal(parseLeaseKey(text).join(" "), subnets);
    }
    const wrong = ["", "10.5.52.0", "10.5.52.0-33", "10.5.52.0-24&10.5.53.0-24", "a&b&c", "-24"];
    for (const text of wrong) {
      assert.throws(() => parseLeaseKey(text), { code: "invalid_argument" }, text);
    }
  });
});
