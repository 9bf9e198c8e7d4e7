import assert from "node:assert/strict";
import { test } from "node:test";
import { NamespaceName } from "../../ffi/namespace_name.ts";
import { findHolder } from "../../src/agent/namespace_claim.ts";
import { closeNetns, createNetns, withNetns } from "../../ffi/netns.ts";

const NAME = `selvage-test-${process.pid}`;

test("a name is one process's in a network namespace, and free again when given back", () => {
  const netns = createNetns();
  try {
    assert.equal(findHolder(NAME), null);
    const first = NamespaceName.take(NAME);
    assert.ok(first);
    assert.equal(NamespaceName.take(NAME), null);
    assert.deepEqual(findHolder(NAME), { pid: process.pid, uid: process.getuid!() });
    withNetns(netns, () => {
      assert.equal(findHolder(NAME), null);
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

test("the holder of a name is found however often it was asked for", () => {
  const name = `${NAME}-often`;
  const taken = NamespaceName.take(name)!;
  try {
    // More than fit into the queue of a listening socket; nothing empties it meanwhile.
    for (let count = 0; count < 160; count++) {
      const holder = findHolder(name);
      assert.deepEqual(holder, { pid: process.pid, uid: process.getuid!() }, `time ${count + 1}`);
    }
  } finally {
    taken.close();
  }
  assert.equal(findHolder(name), null);
});
