import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { type LeaseChange, leaseKey } from "../../src/lease/lease.ts";
import { diffTables, LeaseTable, putChange } from "../../src/lease/lease_table.ts";
import { lease, node, nodeNumber, seededRandom } from "./sample.ts";

const KEYS = [
  "10.5.1.0-24",
  "10.5.1.0-24&fc00::-64",
  "10.5.1.0-25",
  "10.5.2.0-24",
  "10.5.2.0-24&fc00:0:0:1::-64",
  "10.5.10.0-24",
  "fc00:0:0:9::-64",
];

function keysOf(table: LeaseTable): string[] {
  return table.leases.map((one) => leaseKey(one.subnets));
}

describe("the lease table", () => {
  test("orders by number, not by text", () => {
    const table = LeaseTable.of([...KEYS].reverse().map((key) => lease(key)));
    assert.deepEqual(keysOf(table), KEYS);
    assert.equal(table.get("10.5.2.0-24")?.subnets.length, 1);
    assert.equal(table.get("fc00:0:0:1::-64&10.5.2.0/24")?.subnets.length, 2);
    assert.equal(table.get("10.5.3.0-24"), undefined);
  });

  test("applies changes in their order, and leaves the old table as it was", () => {
    const before = LeaseTable.of([lease("10.5.1.0-24"), lease("10.5.2.0-24")]);
    const changed = lease("10.5.2.0-24", node("192.0.2.9"));
    const after = before.apply([
      putChange(lease("10.5.3.0-24")),
      { type: "delete", key: "10.5.1.0-24" },
      { type: "delete", key: "10.5.3.0-24" },
      { type: "delete", key: "10.5.99.0-24" },
      { type: "delete", key: "10.5.2.0-24" },
      putChange(changed),
    ]);
    assert.deepEqual(keysOf(after), ["10.5.2.0-24"]);
    assert.equal(after.leases[0], changed);
    assert.deepEqual(keysOf(before), ["10.5.1.0-24", "10.5.2.0-24"]);
    assert.equal(before.apply([]), before);
  });

  test("agrees with a map, and diffs lead from any table to any other (seed 13)", () => {
    const random = seededRandom(13);
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)]!;
    let table = LeaseTable.EMPTY;
    const twin = new Map<string, ReturnType<typeof lease>>();
    for (let round = 0; round < 300; round++) {
      const changes: LeaseChange[] = [];
      while (random() < 0.7) {
        const key = pick(KEYS);
        if (random() < 0.4) changes.push({ type: "delete", key });
        else {
          const expiry_ms = pick([null, 1, 2]);
          changes.push(putChange(lease(key, nodeNumber(Math.floor(random() * 3)), expiry_ms)));
        }
      }
      const next = table.apply(changes);
      for (const change of changes) {
        if (change.type === "put") twin.set(change.key, change.lease);
        else twin.delete(change.key);
      }
      assert.deepEqual(keysOf(next), KEYS.filter((key) => twin.has(key)));
      for (const key of KEYS) assert.equal(next.get(key), twin.get(key));
      const difference = diffTables(table, next);
      assert.deepEqual(table.apply(difference).leases, next.leases);
      assert.ok(difference.length <= new Set(changes.map((change) => change.key)).size);
      assert.deepEqual(diffTables(next, next), []);
      table = next;
    }
  });

  test("sees a change of every part of a lease", () => {
    const one = lease("10.5.1.0-24", node("192.0.2.1", "2001:db8::1"), 5);
    const others = [
      { ...one, expiry_ms: 6 },
      { ...one, expiry_ms: null },
      { ...one, ...node("192.0.2.1") },
      { ...one, backendType: "vxlan" },
      { ...one, backendData: { 4: { VNI: 1 } } },
      { ...one, backendData: { 6: { VNI: 1 } } },
    ];
    for (const other of others) {
      const changes = diffTables(LeaseTable.of([one]), LeaseTable.of([other]));
      assert.deepEqual(changes, [putChange(other)]);
    }
    assert.deepEqual(diffTables(LeaseTable.of([one]), LeaseTable.of([{ ...one }])), []);
  });
});
