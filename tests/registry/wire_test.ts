import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { isLeaseValue, leaseValueSchema } from "../../src/lease/lease_value.ts";
import { leaseReply, readWireLease } from "../../src/registry/wire.ts";

const GOOD = { key: "10.1.2.0-24", value: { PublicIP: "192.0.2.1" }, expiry_ms: null };

test("a lease of a list is read as the schema would", () => {
  const lease = readWireLease(GOOD);
  assert.deepEqual(lease.subnets.map(String), ["10.1.2.0/24"]);
  assert.deepEqual(lease.publicAddresses.map(String), ["192.0.2.1"]);
  for (
    const change of [
      { key: 7 },
      { key: "10.1.2.0-24".padStart(129, "0") },
      { value: null },
      { value: { PublicIP: 7 } },
      { value: { PublicIP: "192.0.2.1", BackendType: "x".repeat(65) } },
      { expiry_ms: "soon" },
      { expiry_ms: 1.5 },
      { expiry_ms: undefined },
    ]
  ) {
    const bad = { ...GOOD, ...change };
    assert.equal(leaseReply.safeParse({ lease: bad }).success, false, JSON.stringify(bad));
    assert.throws(() => readWireLease(bad), /not a lease/);
  }
  assert.throws(() => readWireLease(null), /not a lease/);
});

test("the check by hand and the schema agree on every value", () => {
  const part = fc.oneof(fc.string(), fc.string({ minLength: 60, maxLength: 70 }), fc.jsonValue());
  const value = fc.oneof(
    fc.jsonValue(),
    fc.record({ PublicIP: part, PublicIPv6: part, BackendType: part, BackendData: part }, {
      requiredKeys: [],
    }),
  ).filter((one) => !Array.isArray(one));
  fc.assert(
    fc.property(value, (one) => {
      assert.equal(isLeaseValue(one), leaseValueSchema.safeParse(one).success);
    }),
    { seed: 5 },
  );
});
