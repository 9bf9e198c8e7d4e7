import assert from "node:assert/strict";
import { test } from "node:test";
import type { DataPath } from "../../src/agent/data_path.ts";
import { readinessOf } from "../../src/agent/readiness.ts";
import type { SnapshotParts } from "../../src/agent/snapshot.ts";
import type { StoreState } from "../../src/store/store.ts";
import { WAITING } from "./parts.ts";

const NOW_MS = 1_000_000;

function pathOf(problems: readonly string[], status: { running: boolean } | null): DataPath {
  return { problems, status: () => status } as unknown as DataPath;
}

const READY: SnapshotParts = {
  ...WAITING,
  phase: "ready",
  waitingFor: null,
  waitingSince_ms: null,
  expiry_ms: NOW_MS + 1,
  path: pathOf([], { running: true }),
};

function away(since_ms: number): StoreState {
  return {
    kind: "remote",
    location: "192.0.2.1:8286",
    connected: false,
    since_ms,
    lastError: "no answer",
    errorSince_ms: since_ms,
    unreadableCount: 0,
    unreadable: [],
  };
}

test("a node is ready when nothing is missing", () => {
  assert.deepEqual(readinessOf(READY, NOW_MS), { ready: true, reasons: [] });
  const inKernel = { ...READY, path: pathOf([], null), store: away(NOW_MS - 60_000) };
  assert.deepEqual(readinessOf(inKernel, NOW_MS), { ready: true, reasons: [] });
});

test("and else says all that is", () => {
  const reasons = (changes: Partial<SnapshotParts>) => {
    const { ready, reasons } = readinessOf({ ...READY, ...changes }, NOW_MS);
    assert.equal(ready, false);
    return reasons;
  };
  assert.deepEqual(reasons({ phase: "waiting_for_lease" }), ["waiting for lease"]);
  assert.deepEqual(reasons({ phase: "starting", waitingFor: "a command" }), ["a command"]);
  const path = pathOf(["no nftables"], { running: false });
  assert.deepEqual(reasons({ path, waitingFor: "moving", linkProblem: "no address" }), [
    "moving",
    "no address",
    "no nftables",
    "the data plane is not running",
  ]);
  assert.deepEqual(reasons({ expiry_ms: NOW_MS - 1 }), ["the lease has run out"]);
  assert.deepEqual(reasons({ store: away(NOW_MS - 60_001) }), [
    "the store cannot be reached: no answer",
  ]);
  // It answers, and takes no changes.
  const full = { ...away(NOW_MS - 60_001), connected: true, lastError: "its disk is full" };
  assert.deepEqual(reasons({ store: full }), ["the store takes no changes: its disk is full"]);
  // Of one on this host it is known at once, and said once.
  const stateProblems = ["registry: disk is full"];
  const store = { ...full, kind: "embedded" };
  assert.deepEqual(reasons({ store, stateProblems }), stateProblems);
});
