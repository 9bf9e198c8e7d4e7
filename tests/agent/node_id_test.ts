import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { loadNodeId, nodeIdPath } from "../../src/agent/node_id.ts";

test("the node's id is random, kept, and made anew where the file holds none", () => {
  const directory = mkdtempSync(join(tmpdir(), "selvage-node-id-"));
  try {
    const id = loadNodeId(directory);
    assert.match(id, /^[0-9a-f]{32}$/);
    assert.equal(loadNodeId(directory), id);
    const path = nodeIdPath(directory);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    writeFileSync(path, "nothing\n");
    const other = loadNodeId(directory);
    assert.match(other, /^[0-9a-f]{32}$/);
    assert.notEqual(other, id);
    assert.equal(loadNodeId(directory), other);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
