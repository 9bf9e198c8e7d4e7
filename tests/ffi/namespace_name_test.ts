import assert from "node:assert/strict";
import { test } from "node:test";
import { holderOf, NamespaceName } from "../../ffi/namespace_name.ts";
import { closeNetns, createNetns, withNetns } from "../../ffi/netns.ts";

const NAME = `selvage-test-${process.pid}`;

test("a name is one process's in a network namespace, and free again when given back", () => {
  const netns = createNetns();
  try {
    assert.equal(holderOf(NAME), null);
    const first = NamespaceName.take(NAME);
    assert.ok(first);
    assert.equal(NamespaceName.take(NAME), null);
    assert.deepEqual(holderOf(NAME), { pid: process.pid, uid: process.getuid!() });
    withNetns(netns, () => {
      assert.equal(holderOf(NAME), null);
      const other = NamespaceName.take(NAME);
      assert.ok(other);
      other.close();
    });
    first.close();
    const again = NamespaceName.take(NAME);
    assert.ok(again);
    again.close();
  } finally {
    closeNetns(netns);
  }
});
