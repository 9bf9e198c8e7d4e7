import assert from "node:assert/strict";
import { test } from "node:test";
import { LeaseRival } from "../../src/agent/lease_rival.ts";
import { lease, nodeNumber } from "../lease/sample.ts";

test("what this host wrote in an unknown run is its own word, as after a restored registry", () => {
  const ours = { ...nodeNumber(1), node: { id: "one", run: "second" } };
  const shown = (id: string, run: string) =>
    lease("10.5.1.0/24", { ...nodeNumber(1), node: { id, run } });
  const rows: [id: string, run: string, isRival: boolean][] = [
    ["one", "second", false],
    ["one", "", false],
    ["one", "first", true],
    ["two", "", true],
  ];
  for (const [id, run, isRival] of rows) {
    assert.equal(new LeaseRival().note(shown(id, run), [ours]), isRival, `${id} ${run}`);
  }
});
