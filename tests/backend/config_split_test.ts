import assert from "node:assert/strict";
import { test } from "node:test";
import { findSplit, refuseSplit } from "../../src/backend/config_split.ts";
import { configChanges } from "../../src/config/config_changes.ts";
import { hasCode } from "../../src/errors.ts";

const UDP = { Network: "10.1.0.0/16", SubnetLen: 24, Backend: { Type: "udp" } };

const splitOf = (next: object, now: object | null = UDP) => findSplit(configChanges(now, next));

test("another network, backend or family keeps hosts apart until each is restarted", () => {
  const changed = [
    { ...UDP, Network: "10.2.0.0/16" },
    { ...UDP, Backend: { Type: "vxlan" } },
    { ...UDP, EnableIPv6: true, IPv6Network: "fd00::/48" },
  ];
  for (const next of changed) {
    const split = splitOf(next)!;
    assert.equal(split.kind, "restart");
    assert.match(split.procedure, /keeps the old value until Selvage is restarted/);
    assert.throws(() => refuseSplit(split, 3), (error) => hasCode(error, "conflict"));
    // A host alone has nobody to be apart from.
    refuseSplit(split, 1);
  }
  assert.match(splitOf(changed[1]!)!.what, /^Backend\.Type "udp" → "vxlan"$/);
});

test("another VNI or port is reported and not refused", () => {
  const split = splitOf({ ...UDP, Backend: { Type: "udp", Port: 9000 } })!;
  assert.deepEqual([split.kind, split.what], ["running", "Backend.Port unset → 9000"]);
  assert.match(split.procedure, /let the new port pass every firewall/);
  refuseSplit(split, 3);
  const vni = splitOf({ Backend: { Type: "vxlan", VNI: 2 } }, {
    Backend: { Type: "vxlan", VNI: 3 },
  });
  assert.match(vni!.procedure, /cannot reach the store now, or that runs flanneld/);
});

test("other options, a default written out and a first configuration keep nobody apart", () => {
  assert.equal(splitOf({ ...UDP, SubnetLen: 26 }), null);
  assert.equal(splitOf({ ...UDP, Backend: { Type: "udp", Port: 8285 } }), null);
  assert.equal(splitOf({ ...UDP, Network: "10.9.0.0/16" }, null), null);
});
