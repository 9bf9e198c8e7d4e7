/** Whether a path is narrow is decided by probes; in the place of the network is a function. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { PathProber, type ProbedPlane } from "../../src/agent/path_prober.ts";
import type { Overlay } from "../../src/dataplane/lanes.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { entry } from "../wasm/scripted_io.ts";

const FULL = 1472;
/** What PATH_MTU_FLOOR leaves of an outer packet for an inner one. */
const FLOOR = 1280 - 28;
const PEER = entry("10.0.2.0/24", "192.0.2.2");

class Bench {
  now_ms = 0;
  /** Bytes of the longest inner packet that comes through, and is answered; 0: no answers. */
  carried = FULL;
  /** What was set, in order: 0 for the full size. */
  readonly set: number[] = [];
  readonly exchanges: (readonly number[])[] = [];
  plane: ProbedPlane = this.newPlane();
  peers = [PEER];
  assumed = -101;
  readonly prober = new PathProber({
    dataplane: () => this.plane,
    peers: () => this.peers,
    exchange: (_peer, sizes) => {
      this.exchanges.push(sizes);
      return Promise.resolve(new Set(sizes.filter((size) => size <= this.carried)));
    },
    assumedByKernel: () => this.assumed,
    now_ms: () => this.now_ms,
  });

  newPlane(): ProbedPlane {
    const overlay = { family: 4, mtu_bytes: FULL, encapsulation: { type: "none" } };
    return {
      overlay: () => overlay as unknown as Overlay,
      setPathMtu: (_family, _key, mtu_bytes) => this.set.push(mtu_bytes),
    };
  }

  /** A message about an outer packet, and all that comes of it. */
  async say(mtu_bytes: number, destination = "192.0.2.2"): Promise<void> {
    this.prober.onTooBig({ destination: IpAddress.parse(destination), mtu_bytes });
    await settle();
  }

  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 1000) {
      this.now_ms += 1000;
      this.prober.askAgain();
      if (this.now_ms % 10_000 === 0) this.prober.lookAtKernel();
      await settle();
    }
  }
}

/** Lets every promise that can go on do so. */
function settle(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

async function withBench(run: (on: Bench) => Promise<void>): Promise<void> {
  const on = new Bench();
  try {
    await run(on);
  } finally {
    on.prober.stop();
  }
}

describe("what a message about a path comes to", () => {
  for (const mtu of [0, 68, 552, 1000, 1300, 1499]) {
    test(`one that says ${mtu} of a wide path changes nothing`, () =>
      withBench(async (on) => {
        await on.say(mtu);
        assert.equal(on.exchanges.length, 1, "the first answer to the full size is enough");
        assert.deepEqual([on.set, on.prober.narrowCount], [[], 0]);
        for (let i = 0; i < 1000; i++) await on.say(mtu);
        assert.equal(on.exchanges.length, 1, "asked no more for a while");
        await on.pass(4_000);
        await on.say(mtu);
        assert.equal(on.exchanges.length, 2);
        assert.deepEqual(on.set, []);
      }));
  }

  test("a path that is narrow is believed to be so, and probed again until it is wide", () =>
    withBench(async (on) => {
      on.carried = 1272;
      await on.say(1300);
      assert.deepEqual(on.set, [1272]);
      assert.equal(on.exchanges.length, 3, "one lost probe proves nothing");
      await on.pass(60_000);
      assert.deepEqual(on.set, [1272, 1272, 1272, 1272]);
      assert.equal(on.prober.narrowCount, 1);
      on.carried = FULL;
      await on.pass(20_000);
      assert.equal(on.set.at(-1), 0);
      const count = on.exchanges.length;
      await on.pass(60_000);
      assert.equal(on.exchanges.length, count, "what is wide is not probed");
    }));

  test("a path narrower than the floor is believed when probes confirm it", () =>
    withBench(async (on) => {
      on.carried = 576 - 28;
      await on.say(576);
      assert.deepEqual(on.set, [548]);
    }));

  test("a message that exaggerates about a narrow path does not make it narrower", () =>
    withBench(async (on) => {
      on.carried = 1272;
      await on.say(1300);
      await on.say(552);
      assert.deepEqual(on.set, [1272, 1272]);
    }));

  test("a second router further on says less", () =>
    withBench(async (on) => {
      on.carried = 1372;
      await on.say(1400);
      on.carried = 1272;
      await on.say(1300);
      assert.deepEqual(on.set, [1372, 1272]);
    }));

  test("of a peer that answers nothing it is believed to the floor, and for seconds", () =>
    withBench(async (on) => {
      on.carried = 0;
      await on.say(552);
      assert.deepEqual(on.set, [FLOOR]);
      await on.pass(12_000);
      assert.deepEqual(on.set, [FLOOR, 0]);
    }));

  test("one about a stranger, or that says more than is assumed, asks nothing", () =>
    withBench(async (on) => {
      await on.say(552, "192.0.2.99");
      await on.say(1500);
      await on.say(9000);
      assert.deepEqual(on.exchanges, []);
    }));

  test("a flood about thousands of peers asks few of them at a time", () =>
    withBench(async (on) => {
      on.peers = Array.from(
        { length: 2000 },
        (_, i) => entry(`10.1.${i >> 8}.${i & 255}/32`, "192.0.2.2"),
      );
      on.prober.onTooBig({ destination: IpAddress.parse("192.0.2.2"), mtu_bytes: 552 });
      assert.ok(on.exchanges.length <= 16, `${on.exchanges.length} at once`);
      await settle();
    }));

  test("what the kernel assumes, as of a route with an MTU, is asked about as well", () =>
    withBench(async (on) => {
      on.assumed = 1300;
      on.carried = 1272;
      await on.pass(10_000);
      assert.deepEqual(on.set, [1272]);
    }));

  test("a data plane that was started anew is told again", () =>
    withBench(async (on) => {
      on.carried = 1272;
      await on.say(1300);
      on.plane = on.newPlane();
      await on.say(1300);
      assert.deepEqual(on.set, [1272, 1272]);
    }));
});
