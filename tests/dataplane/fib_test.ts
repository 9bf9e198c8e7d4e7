import { test } from "node:test";
import assert from "node:assert/strict";
import {
  FIB_LEVEL1_COUNT,
  FIB_LEVEL1_OFFSET,
  LANE_EGRESS_EPOCH_OFFSET,
  LANES_OFFSET,
} from "../../wasm/layout.ts";
import { Epochs, WaitBudget } from "../../src/dataplane/epochs.ts";
import { Fib } from "../../src/dataplane/fib.ts";
import { instantiateLoops, type Loops } from "../../src/dataplane/loops.ts";
import { createMemory, type SharedMemory } from "../../src/dataplane/memory.ts";
import { bound, ScriptedIo } from "../wasm/scripted_io.ts";
import { Random } from "./random.ts";

interface Prefix {
  readonly address: number;
  readonly length: number;
  readonly slot: number;
}

const NO_WAIT = new WaitBudget(0);

async function setUp(
  blockCountMax?: number,
): Promise<{ shared: SharedMemory; fib: Fib; loops: Loops }> {
  const shared = createMemory();
  const loops = await instantiateLoops(shared.memory, bound(new ScriptedIo(shared)));
  return { shared, loops, fib: new Fib(shared, new Epochs(shared), blockCountMax) };
}

function endOf({ address, length }: Prefix): number {
  return address + 2 ** (32 - length);
}

/** The naive twin: walks the list. */
function naiveLookup(prefixes: readonly Prefix[], address: number): number {
  return prefixes.find((p) => address >= p.address && address < endOf(p))?.slot ?? -1;
}

function overlaps(prefixes: readonly Prefix[], prefix: Prefix): boolean {
  return prefixes.some((p) => p.address < endOf(prefix) && prefix.address < endOf(p));
}

/** Lengths of /8 to /32, most of them around /24; addresses close together, so they meet. */
function randomPrefix(random: Random, slot: number): Prefix {
  const length = random.pick([8, 12, 16, 20, 22, 23, 24, 24, 25, 26, 27, 28, 28, 29, 30, 31, 32]);
  const high = length < 20 ? random.below(256) * 2 ** 24 : random.pick([10, 192, 255]) * 2 ** 24;
  const any = high + random.below(2 ** 14);
  const address = any - any % 2 ** (32 - length);
  return { address, length, slot };
}

/** The addresses where a mistake would show: the ends of a prefix and those next to them. */
function edges(prefix: Prefix): number[] {
  const { address } = prefix;
  const end = endOf(prefix);
  return [address - 1, address, Math.floor((address + end) / 2), end - 1, end]
    .filter((at) => at >= 0 && at < 2 ** 32);
}

test("look-ups equal the naive twin's while prefixes of all lengths come and go", async () => {
  const { fib, loops } = await setUp();
  const random = new Random(824);
  const live: Prefix[] = [];
  const seen: Prefix[] = [];
  for (let step = 0; step < 3000; step++) {
    if (live.length > 0 && random.below(5) < 2) {
      const [gone] = live.splice(random.below(live.length), 1);
      fib.remove(gone!.address, gone!.length);
    } else {
      const prefix = randomPrefix(random, random.below(65536));
      if (overlaps(live, prefix)) continue;
      assert.ok(fib.insert(prefix.address, prefix.length, prefix.slot, NO_WAIT));
      live.push(prefix);
      seen.push(prefix);
    }
    for (const prefix of [seen.at(-1)!, random.pick(seen), random.pick(seen)]) {
      for (const address of edges(prefix)) {
        const where = `seed ${random.seed}, step ${step}, address ${address.toString(16)}`;
        assert.equal(loops.lookupPeer(address), naiveLookup(live, address), where);
      }
    }
  }
  assert.ok(seen.length > 1000 && live.length > 50, `${seen.length} seen, ${live.length} live`);
});

test("removing everything leaves the first level empty", async () => {
  const { shared, fib } = await setUp();
  const random = new Random(88);
  const live: Prefix[] = [];
  for (let i = 0; i < 500; i++) {
    const prefix = randomPrefix(random, i);
    if (overlaps(live, prefix)) continue;
    fib.insert(prefix.address, prefix.length, i, NO_WAIT);
    live.push(prefix);
  }
  for (const prefix of live) fib.remove(prefix.address, prefix.length);
  const first = FIB_LEVEL1_OFFSET / 4;
  const level1 = shared.u32.subarray(first, first + FIB_LEVEL1_COUNT);
  assert.equal(level1.findIndex((entry) => entry !== 0), -1);
});

test("a /8 full of /24s: every one is found, and nothing around them", async () => {
  const { fib, loops } = await setUp();
  const first = 10 * 2 ** 24;
  for (let i = 0; i < 65536; i++) fib.insert(first + i * 256, 24, i, NO_WAIT);
  for (let i = 0; i < 65536; i++) {
    assert.equal(loops.lookupPeer(first + i * 256 + i % 256), i);
  }
  assert.equal(loops.lookupPeer(first - 1), -1);
  assert.equal(loops.lookupPeer(first + 2 ** 24), -1);
});

test("with no block free a long prefix is refused, and nothing changes", async () => {
  const { fib, loops } = await setUp(1);
  assert.ok(fib.insert(0x0a000000, 28, 1, NO_WAIT));
  assert.ok(!fib.insert(0x0a000100, 28, 2, NO_WAIT));
  assert.ok(fib.insert(0x0a000010, 28, 3, NO_WAIT), "the same block has room");
  assert.deepEqual([0x0a000000, 0x0a000100, 0x0a000010].map(loops.lookupPeer), [1, -1, 3]);
});

test("a block is used again only after a loop that was inside a batch has left it", async () => {
  const { shared, fib } = await setUp(1);
  fib.insert(0x0a000000, 28, 1, NO_WAIT);
  Atomics.add(shared.u32, (LANES_OFFSET + LANE_EGRESS_EPOCH_OFFSET) / 4, 1);
  fib.remove(0x0a000000, 28);
  assert.ok(!fib.insert(0x0a000100, 28, 2, NO_WAIT));
  assert.ok(!fib.insert(0x0a000100, 28, 2, new WaitBudget(5)));
  Atomics.add(shared.u32, (LANES_OFFSET + LANE_EGRESS_EPOCH_OFFSET) / 4, 1);
  assert.ok(fib.insert(0x0a000100, 28, 2, NO_WAIT));
});
