/** What every test of the egress loop holds about its counters. */
import assert from "node:assert/strict";
import { DROP_REASONS, readCounters } from "../../src/dataplane/counters.ts";
import type { Bench } from "./scripted_io.ts";

/** Every packet that came in went out or was dropped for one reason. */
export function assertAddsUp({ shared }: Bench): void {
  const { tunPackets, sentPackets, drops } = readCounters(shared);
  const dropped = DROP_REASONS.filter(({ role }) => role === "egress")
    .reduce((sum, { name }) => sum + drops[name]!, 0);
  assert.equal(tunPackets, sentPackets + dropped);
}

/** Runs the loop over `reads`, and checks that exactly these drops were counted. */
export function assertDrops(
  on: Bench,
  reads: Uint8Array[],
  expected: Record<string, number>,
): void {
  on.io.reads = reads;
  assert.equal(on.egress(), 0);
  const { drops } = readCounters(on.shared);
  assert.deepEqual(Object.fromEntries(Object.entries(drops).filter(([, n]) => n > 0)), expected);
  assertAddsUp(on);
}
