import { test } from "node:test";
import assert from "node:assert/strict";
import { once } from "node:events";
import { setImmediate } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import {
  PREFIX_CELL_COUNT,
  PREFIX_CELL_COUNT_BITS,
  PREFIX_CURRENT_OFFSET,
  PREFIX_ENTRY_COUNT_MAX,
  PREFIX_HASH_4,
  PREFIX_HASH_LENGTH,
  PREFIX_HASH_MIX,
  PREFIX_HASH_SHIFT,
  PREFIX_LONG_LENGTHS_OFFSET,
  PREFIX_PROBE_MAX,
  PREFIX_TABLE_SIZE,
} from "../../wasm/prefix_layout.ts";
import { WaitBudget } from "../../src/dataplane/epochs.ts";
import { PrefixTable, type PrefixTableLimits } from "../../src/dataplane/prefix_table.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { AREA, pure } from "../wasm/pure.ts";
import { OneEpoch } from "./one_epoch.ts";
import { ADDRESS_COUNT, type PrefixFindings, prefixOf, slotOf, STEADY } from "./prefix_plan.ts";
import { Random } from "./random.ts";

const NO_WAIT = new WaitBudget(0);

function setUp(limits?: PrefixTableLimits) {
  const { shared, functions } = pure();
  const epochs = new OneEpoch(shared);
  const table = new PrefixTable(shared, AREA, epochs, limits);
  const lookup = ({ value }: IpAddress): number =>
    functions.prefixLookup(AREA, value >> 64n, BigInt.asUintN(64, value));
  return { shared, epochs, table, lookup, lookupText: (text: string) => lookup(address(text)) };
}

function address(text: string): IpAddress {
  return IpAddress.parse(text);
}

function prefix(text: string): IpPrefix {
  return IpPrefix.parse(text);
}

function random128(random: Random): bigint {
  return [0, 0, 0, 0].reduce((value) => value << 32n | BigInt(random.below(2 ** 32)), 0n);
}

/** The naive twin: walks the list for the longest. */
function naiveLookup(live: ReadonlyMap<string, [IpPrefix, number]>, at: IpAddress): number {
  let [longest, found] = [0, -1];
  for (const [one, slot] of live.values()) {
    if (one.length > longest && one.contains(at)) [longest, found] = [one.length, slot];
  }
  return found;
}

/** Prefixes of a few lengths, close together: some hold others. */
function randomPrefix(random: Random): IpPrefix {
  const length = random.pick([1, 16, 32, 47, 48, 63, 64, 64, 64, 65, 80, 96, 127, 128, 128]);
  const any = random.below(4) === 0
    ? random128(random)
    : address("fd00:0:0:7::").value | BigInt(random.below(4)) << 64n |
      BigInt(random.below(8)) << 40n | BigInt(random.below(4));
  return IpPrefix.of(IpAddress.of(6, any), length);
}

/** Addresses where a mistake would show: the ends of a prefix and those next to them. */
function edges({ address, last }: IpPrefix): IpAddress[] {
  return [address.value - 1n, address.value, last.value, last.value + 1n]
    .filter((value) => value >= 0n && value < 1n << 128n)
    .map((value) => IpAddress.of(6, value));
}

test("look-ups equal the naive twin's while prefixes of all lengths come and go", () => {
  const { shared, table, lookup } = setUp({ entryCountMax: 60, usedCountMax: 64 });
  const random = new Random(4291);
  const live = new Map<string, [IpPrefix, number]>();
  const seen = Array.from({ length: 300 }, () => randomPrefix(random));
  let switchCount = 0;
  let current = 0;
  for (let step = 0; step < 10_000; step++) {
    const one = random.pick(seen);
    const present = live.get(`${one}`);
    const slot = step % 65536;
    if (present !== undefined) {
      table.remove(one, present[1]);
      live.delete(`${one}`);
    } else if (live.size < 50) {
      assert.ok(table.add(one, slot, NO_WAIT), `step ${step}`);
      live.set(`${one}`, [one, slot]);
    }
    const before = current;
    current = shared.u32[(AREA + PREFIX_CURRENT_OFFSET) / 4]!;
    if (current !== before) switchCount++;
    for (const at of [...edges(one), ...edges(random.pick(seen))]) {
      const where = `seed ${random.seed}, step ${step}, ${at}`;
      assert.equal(lookup(at), naiveLookup(live, at), where);
    }
  }
  assert.ok(switchCount > 10, `built anew ${switchCount} times`);
});

test("every length from 1 to 128 is found by itself, and at its ends", () => {
  for (let length = 1; length <= 128; length++) {
    const { table, lookup } = setUp();
    const one = IpPrefix.of(address("a5a5:5a5a:1234:8765:cafe:f00d:aaaa:5555"), length);
    assert.ok(table.add(one, length, NO_WAIT));
    for (const at of edges(one)) {
      assert.equal(lookup(at), one.contains(at) ? length : -1, `${one} at ${at}`);
    }
    table.remove(one, length);
    assert.equal(lookup(one.address), -1);
  }
});

for (const kind of ["/64s in a row", "addresses in a row", "/64s at random"] as const) {
  test(`as many as there can be, ${kind}: all are found`, () => {
    const { table, lookup } = setUp();
    const random = new Random(65536);
    const first = address("fd00:aaaa::").value;
    const prefixes = Array.from({ length: PREFIX_ENTRY_COUNT_MAX }, (_, i) => {
      if (kind === "/64s at random") return IpPrefix.of(IpAddress.of(6, random128(random)), 64);
      const [shift, length] = kind === "/64s in a row" ? [64n, 64] : [0n, 128];
      return IpPrefix.of(IpAddress.of(6, first + (BigInt(i) << shift)), length);
    });
    prefixes.forEach((one, slot) => assert.ok(table.add(one, slot, NO_WAIT), `${one}`));
    prefixes.forEach((one, slot) => assert.equal(lookup(one.last), slot, `${one}`));
    assert.equal(lookup(address("fd00:aaa9:ffff::")), -1);
    assert.ok(!table.add(prefix("fd01::/64"), 1, NO_WAIT), "there is no entry left");
    table.remove(prefixes[7]!, 7);
    assert.ok(table.add(prefix("fd01::/64"), 70, NO_WAIT));
    assert.deepEqual([lookup(prefixes[7]!.last), lookup(address("fd01::1"))], [-1, 70]);
  });
}

/** Addresses ::N whose place in the cells is the same. */
function colliding(count: number, place: number): IpPrefix[] {
  const found: IpPrefix[] = [];
  for (let low = 1; found.length < count; low++) {
    const sum = Math.imul(low, PREFIX_HASH_4) + Math.imul(128, PREFIX_HASH_LENGTH) | 0;
    const hash = Math.imul(sum ^ (sum >>> PREFIX_HASH_SHIFT), PREFIX_HASH_MIX) >>> 0;
    const isThere = hash >>> (32 - PREFIX_CELL_COUNT_BITS) === place;
    if (isThere) found.push(IpPrefix.of(IpAddress.of(6, BigInt(low)), 128));
  }
  return found;
}

test("collisions are found past the end of the cells, and past removed ones", () => {
  const { table, lookup } = setUp();
  const some = colliding(5, PREFIX_CELL_COUNT - 2);
  some.forEach((one, slot) => assert.ok(table.add(one, slot, NO_WAIT)));
  table.remove(some[1]!, 1);
  table.remove(some[3]!, 3);
  assert.deepEqual(some.map((one) => lookup(one.address)), [0, -1, 2, -1, 4]);
  table.add(some[3]!, 33, NO_WAIT);
  assert.deepEqual(some.map((one) => lookup(one.address)), [0, -1, 2, 33, 4]);
});

test("more collisions than a probe is long are refused, and nothing changes", () => {
  const { table, lookup } = setUp();
  const some = colliding(PREFIX_PROBE_MAX + 1, 7);
  const last = some.pop()!;
  some.forEach((one, slot) => assert.ok(table.add(one, slot, NO_WAIT)));
  assert.ok(!table.add(last, 999, NO_WAIT));
  assert.equal(lookup(last.address), -1);
  assert.deepEqual(some.map((one) => lookup(one.address)), some.map((_, slot) => slot));
  table.remove(some[0]!, 0);
  assert.ok(table.add(last, 999, NO_WAIT), "a removed one's cell is free");
  assert.deepEqual([some[0]!, some[1]!, last].map((one) => lookup(one.address)), [-1, 1, 999]);
});

test("slots at one prefix: it stays until the last has gone", () => {
  const { table, lookupText } = setUp();
  const one = prefix("2001:db8::7/128");
  for (const slot of [4, 5, 6]) table.add(one, slot, NO_WAIT);
  const steps: [gone: number, found: number][] = [[4, 5], [6, 5], [5, -1]];
  assert.equal(lookupText("2001:db8::7"), 4);
  for (const [gone, found] of steps) {
    table.remove(one, gone);
    assert.equal(lookupText("2001:db8::7"), found);
  }
});

test("two tables in one memory know nothing of each other", () => {
  const { shared, functions } = pure();
  const epochs = new OneEpoch(shared);
  const tables = [AREA, AREA + PREFIX_TABLE_SIZE];
  tables.forEach((offset, i) => {
    assert.ok(new PrefixTable(shared, offset, epochs).add(prefix(`fd0${i}::/64`), i, NO_WAIT));
  });
  const found = tables.map((offset) =>
    [0, 1].map((i) => functions.prefixLookup(offset, address(`fd0${i}::`).value >> 64n, 9n))
  );
  assert.deepEqual(found, [[0, -1], [-1, 1]]);
});

test("look-ups try a length only while there is one", () => {
  const { shared, table } = setUp();
  const lengths = () =>
    [0, 1].map((i) => shared.u64[(AREA + PREFIX_LONG_LENGTHS_OFFSET) / 8 + i]!.toString(16));
  for (const one of ["fd00::/64", "fd00:0:0:1::/64", "fd00::/65", "fd00::1/128", "8000::/1"]) {
    table.add(prefix(one), 1, NO_WAIT);
  }
  assert.deepEqual(lengths(), ["8000000000000001", "8000000000000001"]);
  for (const one of ["fd00::/64", "fd00::/65", "8000::/1"]) table.remove(prefix(one), 1);
  assert.deepEqual(lengths(), ["1", "1"]);
});

test("an entry that a loop may still hold is not written over", () => {
  const { epochs, table, lookupText } = setUp({ entryCountMax: 1 });
  table.add(prefix("fd00::/64"), 1, NO_WAIT);
  epochs.step();
  table.remove(prefix("fd00::/64"), 1);
  assert.ok(!table.add(prefix("fd01::/64"), 2, NO_WAIT));
  assert.ok(!table.add(prefix("fd01::/64"), 2, new WaitBudget(5)));
  epochs.step();
  assert.ok(table.add(prefix("fd01::/64"), 2, NO_WAIT));
  assert.deepEqual(["fd00::", "fd01::"].map(lookupText), [-1, 2]);
});

test("cells that a loop may still be reading are not overwritten", () => {
  const { epochs, table, lookupText } = setUp({ usedCountMax: 1 });
  const names = ["fd00::", "fd01::", "fd02::"];
  const [a, b, c] = names.map((name) => prefix(`${name}/64`));
  table.add(a!, 1, NO_WAIT);
  table.remove(a!, 1);
  // A loop enters its batch and reads the first cells from here on; the others become current.
  epochs.step();
  assert.ok(table.add(b!, 2, NO_WAIT));
  table.remove(b!, 2);
  assert.ok(!table.add(c!, 3, NO_WAIT), "building anew would overwrite the first");
  assert.deepEqual(names.map(lookupText), [-1, -1, -1]);
  epochs.step();
  assert.ok(table.add(c!, 3, NO_WAIT));
  assert.deepEqual(names.map(lookupText), [-1, -1, 3]);
});

test(
  "a loop finds each address' own slot, while prefixes change",
  { timeout: 60_000 },
  async () => {
    const { shared, epochs, table } = setUp({ entryCountMax: 50, usedCountMax: 60 });
    const random = new Random(8200);
    const budget = () => new WaitBudget(1000);
    for (let i = 0; i < STEADY; i++) assert.ok(table.add(prefixOf(i), slotOf(i, 0), budget()));
    const worker = new Worker(new URL("./prefix_worker.ts", import.meta.url), {
      workerData: { memory: shared.memory, epoch: epochs.epoch, seed: random.seed },
    });
    const findings = once(worker, "message");
    const live = new Map<number, number>();
    let isDone = false;
    findings.finally(() => isDone = true);
    let changeCount = 0;
    while (!isDone) {
      for (let step = 0; step < 500; step++, changeCount++) {
        const i = STEADY + random.below(ADDRESS_COUNT - STEADY);
        const slot = live.get(i);
        if (slot !== undefined) {
          table.remove(prefixOf(i), slot);
          live.delete(i);
        } else if (live.size < 36 && table.add(prefixOf(i), slotOf(i, changeCount), budget())) {
          live.set(i, slotOf(i, changeCount));
        }
      }
      await setImmediate();
    }
    const [{ wrong, foundCount, missedCount }] = await findings as [PrefixFindings];
    await worker.terminate();
    assert.deepEqual(wrong, [], `seed ${random.seed}`);
    assert.ok(foundCount > 1000 && missedCount > 1000, `${foundCount} found, ${missedCount} not`);
    assert.ok(changeCount > 1000, `${changeCount} changes`);
  },
);
