import { test } from "node:test";
import assert from "node:assert/strict";
import {
  LANE_INGRESS_EPOCH_OFFSET,
  LANES_OFFSET,
  PEER_COUNT_MAX,
  SOURCE_CELL_COUNT,
  SOURCE_CELL_COUNT_BITS,
  SOURCE_HASH_MULTIPLIER,
  SOURCE_PROBE_MAX,
} from "../../wasm/layout.ts";
import { Epochs, WaitBudget } from "../../src/dataplane/epochs.ts";
import { instantiateLoops, type Loops } from "../../src/dataplane/loops.ts";
import { createMemory, type SharedMemory } from "../../src/dataplane/memory.ts";
import { SourceTable } from "../../src/dataplane/source_table.ts";
import { bound, ScriptedIo } from "../wasm/scripted_io.ts";
import { Random } from "./random.ts";

const NO_WAIT = new WaitBudget(0);

async function setUp(
  usedCountMax?: number,
): Promise<{ shared: SharedMemory; table: SourceTable; loops: Loops }> {
  const shared = createMemory();
  const loops = await instantiateLoops(shared.memory, bound(new ScriptedIo(shared)));
  return { shared, loops, table: new SourceTable(shared, new Epochs(shared), usedCountMax) };
}

/** Addresses whose place in the table is the same. */
function colliding(count: number, place: number): number[] {
  const found: number[] = [];
  for (let address = 1; found.length < count; address++) {
    const hash = Math.imul(address, SOURCE_HASH_MULTIPLIER) >>> (32 - SOURCE_CELL_COUNT_BITS);
    if (hash === place) found.push(address);
  }
  return found;
}

test("look-ups equal a Map's while addresses come and go and the table is built anew", async () => {
  const { table, loops } = await setUp(64);
  const random = new Random(1071);
  const twin = new Map<number, number>();
  const addresses = Array.from({ length: 400 }, () => 1 + random.below(2 ** 32 - 1));
  for (let step = 0; step < 20_000; step++) {
    const address = random.pick(addresses);
    const slot = twin.get(address);
    if (slot !== undefined) {
      table.remove(address, slot);
      twin.delete(address);
    } else if (twin.size < 50) {
      assert.ok(table.add(address, step % 65536, NO_WAIT), `step ${step}`);
      twin.set(address, step % 65536);
    }
    for (const probe of [address, random.pick(addresses), random.below(2 ** 32)]) {
      const where = `seed ${random.seed}, step ${step}, address ${probe}`;
      assert.equal(loops.lookupSource(probe), twin.get(probe) ?? -1, where);
    }
  }
});

test("as many addresses as there can be peers, in a row: all are found", async () => {
  const { table, loops } = await setUp();
  const first = 0xc0a80001;
  for (let i = 0; i < PEER_COUNT_MAX; i++) assert.ok(table.add(first + i, i, NO_WAIT), `${i}`);
  for (let i = 0; i < PEER_COUNT_MAX; i++) assert.equal(loops.lookupSource(first + i), i);
  assert.equal(loops.lookupSource(first - 1), -1);
  assert.equal(loops.lookupSource(first + PEER_COUNT_MAX), -1);
});

test("as many addresses as there can be peers, at random: all are found", async () => {
  const { table, loops } = await setUp();
  const random = new Random(65536);
  const twin = new Map<number, number>();
  while (twin.size < PEER_COUNT_MAX) {
    const address = 1 + random.below(2 ** 32 - 1);
    if (twin.has(address)) continue;
    assert.ok(table.add(address, twin.size, NO_WAIT), `seed ${random.seed}, ${twin.size}`);
    twin.set(address, twin.size);
  }
  for (const [address, slot] of twin) assert.equal(loops.lookupSource(address), slot);
});

test("collisions are found past the end of the table, and past removed ones", async () => {
  const { table, loops } = await setUp();
  const addresses = colliding(5, SOURCE_CELL_COUNT - 2);
  addresses.forEach((address, slot) => assert.ok(table.add(address, slot, NO_WAIT)));
  table.remove(addresses[1]!, 1);
  table.remove(addresses[3]!, 3);
  assert.deepEqual(addresses.map(loops.lookupSource), [0, -1, 2, -1, 4]);
  table.add(addresses[3]!, 33, NO_WAIT);
  assert.deepEqual(addresses.map(loops.lookupSource), [0, -1, 2, 33, 4]);
});

test("more collisions than a probe is long are refused, and nothing changes", async () => {
  const { table, loops } = await setUp();
  const addresses = colliding(SOURCE_PROBE_MAX + 1, 7);
  const last = addresses.pop()!;
  addresses.forEach((address, slot) => assert.ok(table.add(address, slot, NO_WAIT)));
  assert.ok(!table.add(last, 999, NO_WAIT));
  assert.equal(loops.lookupSource(last), -1);
  assert.equal(loops.lookupSource(addresses.at(-1)!), SOURCE_PROBE_MAX - 1);
  table.remove(addresses[0]!, 0);
  assert.ok(table.add(last, 999, NO_WAIT), "there is room again, once built anew");
  assert.deepEqual([addresses[0]!, addresses[1]!, last].map(loops.lookupSource), [-1, 1, 999]);
});

test("peers at one address: it stays until the last has gone", async () => {
  const { table, loops } = await setUp();
  for (const slot of [4, 5, 6]) table.add(0xc0000201, slot, NO_WAIT);
  assert.equal(loops.lookupSource(0xc0000201), 4);
  table.remove(0xc0000201, 4);
  assert.equal(loops.lookupSource(0xc0000201), 5);
  table.remove(0xc0000201, 6);
  assert.equal(loops.lookupSource(0xc0000201), 5);
  table.remove(0xc0000201, 5);
  assert.equal(loops.lookupSource(0xc0000201), -1);
});

test("a table that a loop may still be reading is not overwritten", async () => {
  const { shared, table, loops } = await setUp(1);
  table.add(1, 1, NO_WAIT);
  table.remove(1, 1);
  // A loop enters its batch and reads table A from here on; B is free, and becomes current.
  Atomics.add(shared.u32, (LANES_OFFSET + LANE_INGRESS_EPOCH_OFFSET) / 4, 1);
  assert.ok(table.add(2, 2, NO_WAIT));
  table.remove(2, 2);
  assert.ok(!table.add(3, 3, NO_WAIT), "building anew would overwrite A");
  Atomics.add(shared.u32, (LANES_OFFSET + LANE_INGRESS_EPOCH_OFFSET) / 4, 1);
  assert.ok(table.add(3, 3, NO_WAIT));
  assert.deepEqual([1, 2, 3].map(loops.lookupSource), [-1, -1, 3]);
});
