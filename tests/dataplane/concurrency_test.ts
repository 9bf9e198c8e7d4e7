import { test } from "node:test";
import assert from "node:assert/strict";
import { once } from "node:events";
import { setImmediate } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { STOP_FLAG_OFFSET } from "../../wasm/layout.ts";
import { readCounters, type Role } from "../../src/dataplane/counters.ts";
import { ForwardingTable } from "../../src/dataplane/forwarding_table.ts";
import { type Overlay, writeLanes } from "../../src/dataplane/lanes.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { createMemory } from "../../src/dataplane/memory.ts";
import { allNumbers, destination, endpointAddress, entryOf, ICMP_FD } from "./concurrency_plan.ts";
import type { Findings } from "./concurrency_worker.ts";
import { Random } from "./random.ts";

const SEED = 20;
const APPLY_COUNT_MIN = 600;
const PACKET_COUNT_MIN = 100_000;

const WAKE_FD = 3;
/** Descriptors mean nothing to the worker's system calls, but for that of ICMP errors. */
const OVERLAY: Overlay = {
  family: 4,
  subnet: IpPrefix.parse("10.0.1.0/24"),
  outerAddress: IpAddress.parse("192.0.2.1"),
  trustsUnderlay: false,
  allowsOutsideSources: true,
  network: IpPrefix.parse("0.0.0.0/32"),
  mtu_bytes: 1472,
  encapsulation: { type: "none" },
  icmp_fd: ICMP_FD,
  cut_fd: -1,
  queues: [{ tun_fd: 1, receive_fd: 2, send_fd: 2 }],
  offloads: [],
};

/**
 * Changes the table at random while one loop runs in a thread of its own. There are few more slots
 * and blocks than peers, so that all are used again at once: that is where a stale one would show.
 */
async function run(role: Role): Promise<Findings & { applyCount: number }> {
  const shared = createMemory();
  const random = new Random(SEED);
  const numbers = allNumbers();
  const steady = numbers.filter((number) => number % 7 === 0);
  const volatile = numbers.filter((number) => number % 7 !== 0);
  const table = new ForwardingTable(shared, 4, {
    peerCountMax: steady.length + 24,
    blockCountMax: 12,
    sourceCountMax: steady.length + 40,
  });
  // A steady peer keeps its outer address in the ingress run, where it is what is looked up.
  const variantOf = (): number => role === "ingress" ? 0 : random.below(256);
  const next = (): ReturnType<typeof entryOf>[] => {
    const chosen = new Set(Array.from({ length: 20 }, () => random.pick(volatile)));
    const changing = [...chosen].map((number) => entryOf(number, random.below(256)));
    return [...steady.map((number) => entryOf(number, variantOf())), ...changing];
  };
  table.apply(next());
  writeLanes(shared, [OVERLAY], WAKE_FD);
  const worker = new Worker(new URL("./concurrency_worker.ts", import.meta.url), {
    workerData: {
      memory: shared.memory,
      role,
      seed: SEED,
      destinations: numbers.flatMap((n) => [0, 7, 15].map((host) => destination(n, host))),
      sources: [...numbers.map((n) => endpointAddress(n, 0)), 0xdeadbeef],
    },
  });
  const findings = once(worker, "message");
  let hasFailed = false;
  findings.catch(() => hasFailed = true);
  let applyCount = 0;
  const packetCount = (): number => {
    const { tunPackets, datagrams } = readCounters(shared);
    return tunPackets + datagrams;
  };
  while (!hasFailed && (applyCount < APPLY_COUNT_MIN || packetCount() < PACKET_COUNT_MIN)) {
    table.apply(next());
    if (packetCount() > 0) applyCount++;
    await setImmediate();
  }
  Atomics.store(shared.u32, STOP_FLAG_OFFSET / 4, 1);
  const [result] = await findings;
  await worker.terminate();
  return { ...result as Findings, applyCount };
}

for (const role of ["egress", "ingress"] as const) {
  test(`${role}: no packet goes astray while the table changes`, { timeout: 60_000 }, async () => {
    const { wrong, checkedCount, applyCount } = await run(role);
    assert.deepEqual(wrong, [], `seed ${SEED}`);
    assert.ok(checkedCount > 10_000, `${checkedCount} checked in ${applyCount} changes`);
  });
}
