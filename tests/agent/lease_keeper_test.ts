import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { configure, type LogRecord, reset } from "@logtape/logtape";
import { LeaseKeeper, renewalDelay_ms } from "../../src/agent/lease_keeper.ts";
import { MACHINE_CLOCK } from "../../src/clock.ts";
import { SelvageError } from "../../src/errors.ts";
import {
  type Lease,
  type LeaseChange,
  type LeaseRequest,
  parseLeaseKey,
} from "../../src/lease/lease.ts";
import { LeaseTable } from "../../src/lease/lease_table.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { pause } from "../../src/retry.ts";
import type { LeaseHolder, LeaseStore } from "../../src/store/store.ts";

const ATTRIBUTES = {
  publicAddresses: [IpAddress.parse("192.0.2.1")],
  backendType: "udp",
  backendData: {},
};
const OTHER = { publicAddresses: [IpAddress.parse("192.0.2.66")] };
const MUST_NOT_MOVE = () => Promise.reject(new Error("must not move"));

function lease(key: string, changes: Partial<Lease> = {}): Lease {
  const expiry_ms = Date.now() + 24 * 3600_000;
  return { ...ATTRIBUTES, subnets: parseLeaseKey(key), expiry_ms, ...changes };
}

/** A store that answers from a script, keeps what it was asked, and tells when. */
class ScriptedStore {
  readonly acquired: LeaseRequest[] = [];
  readonly renewed: Lease[] = [];
  /** Whose the lease was said to be, of each renewal. */
  readonly holders: string[] = [];
  #wake: () => void = () => {};

  constructor(
    readonly acquireAnswers: (Lease | Error)[],
    readonly renewAnswers: (Lease | Error)[] = [],
  ) {}

  /** Shows nothing until it is told to. */
  async *watch(signal: AbortSignal): AsyncGenerator<readonly LeaseChange[]> {
    this.watchCount++;
    try {
      while (!signal.aborted) {
        await pause(1, signal);
        yield* this.shown.splice(0);
      }
    } finally {
      this.watchCount--;
    }
  }
  watchCount = 0;
  readonly shown: (readonly LeaseChange[])[] = [];

  kind = "remote";
  state() {
    return { kind: this.kind };
  }

  acquire(request: LeaseRequest): Promise<Lease> {
    this.acquired.push(request);
    this.#wake();
    return settle(this.acquireAnswers.shift());
  }

  renew(held: Lease, _signal?: AbortSignal, holder: LeaseHolder = held): Promise<Lease> {
    this.renewed.push(held);
    this.holders.push(holder.publicAddresses.join(" "));
    this.#wake();
    return settle(this.renewAnswers.shift());
  }

  /** Resolves when it has been asked so often; the test's time limit is the runner's. */
  async asked(count: () => number, expected: number): Promise<void> {
    while (count() < expected) await new Promise<void>((resolve) => this.#wake = resolve);
  }
}

function settle(answer: Lease | Error | undefined): Promise<Lease> {
  if (answer === undefined) return Promise.reject(new Error("the script is at its end"));
  return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
}

function keeperOf(
  store: ScriptedStore,
  options: { ttl_ms?: number; waits?: (string | null)[] } = {},
): LeaseKeeper {
  return new LeaseKeeper({
    store: store as unknown as LeaseStore,
    attributes: ATTRIBUTES,
    renewMargin_ms: 3600_000,
    ...(options.ttl_ms === undefined ? {} : { ttl_ms: options.ttl_ms }),
    onWaiting: (reason) => options.waits?.push(reason),
  });
}

const table = (...leases: Lease[]) => LeaseTable.of(leases);

/** Runs `keep` while `act` runs, and ends it then. */
async function whileKeeping(
  keeper: LeaseKeeper,
  act: (end: () => void) => Promise<void> | void,
  onMoved: (lease: Lease) => Promise<void> = MUST_NOT_MOVE,
): Promise<void> {
  const ending = new AbortController();
  const kept = keeper.keep(ending.signal, onMoved);
  await Promise.race([act(() => ending.abort()), kept]);
  ending.abort();
  await kept;
}

/** What is logged while `act` runs, one text a record. */
async function linesLogged(act: () => Promise<void>): Promise<string[]> {
  const lines: string[] = [];
  const sink = ({ message }: LogRecord) => lines.push(message.map(String).join(""));
  await configure({
    sinks: { sink },
    loggers: [{ category: ["selvage"], sinks: ["sink"], lowestLevel: "info" }],
    reset: true,
  });
  try {
    await act();
  } finally {
    await reset();
  }
  return lines;
}

describe("after how long a lease is renewed", () => {
  const hour_ms = 3600_000;
  test("the margin before its end", () => {
    assert.equal(renewalDelay_ms(24 * hour_ms, hour_ms), 23 * hour_ms);
  });
  test("not before half of it is over, however long the margin", () => {
    assert.equal(renewalDelay_ms(2 * hour_ms, 10 * hour_ms), hour_ms);
  });
});

describe("lease keeper", () => {
  test("tries until it has a lease, and says why it waits", async () => {
    const store = new ScriptedStore([
      new SelvageError("unavailable", "nobody there"),
      lease("10.1.0.0-24"),
    ]);
    const waits: (string | null)[] = [];
    const held = await keeperOf(store, { waits }).acquire([], new AbortController().signal);
    assert.equal(held.subnets[0]!.toString(), "10.1.0.0/24");
    assert.deepEqual(waits, ["no lease: nobody there", null]);
  });

  test("a time of day that is set moves the shown end of the lease along", async () => {
    const hour_ms = 3600_000;
    const clock = { now: 5_000 * hour_ms, steady: 7 * hour_ms };
    const keeper = new LeaseKeeper({
      store: new ScriptedStore([lease("10.1.0.0-24")]) as unknown as LeaseStore,
      attributes: ATTRIBUTES,
      renewMargin_ms: hour_ms,
      clock: { now_ms: () => clock.now, steady_ms: () => clock.steady },
      onWaiting: () => {},
    });
    await keeper.acquire([], new AbortController().signal);
    clock.steady += hour_ms;
    for (const now of [4_000 * hour_ms, 5_001 * hour_ms, 9_999 * hour_ms]) {
      clock.now = now;
      assert.equal(keeper.expiry_ms, now + 23 * hour_ms);
      assert.equal(keeper.renewal_ms, now + 22 * hour_ms);
    }
  });

  describe("with a remembered lease", () => {
    const away = new SelvageError("unavailable", "nobody there");
    const begin = (store: ScriptedStore, waits: (string | null)[] = []) => {
      const taken: boolean[] = [];
      const keeper = new LeaseKeeper({
        store: store as unknown as LeaseStore,
        attributes: ATTRIBUTES,
        renewMargin_ms: 3600_000,
        remembered: {
          lease: lease("10.1.0.0-24", { expiry_ms: undefined }),
          taken_ms: MACHINE_CLOCK.steady_ms() - 20 * 3600_000,
        },
        onTaken: () => taken.push(true),
        onWaiting: (reason) => waits.push(reason),
      });
      return { keeper, taken };
    };

    test("a store that is away is not waited for, and confirms the lease when back", async () => {
      const store = new ScriptedStore([away, away, lease("10.1.0.0-24")]);
      const waits: (string | null)[] = [];
      const { keeper, taken } = begin(store, waits);
      const held = await keeper.acquire([], new AbortController().signal);
      assert.equal(`${held.subnets}`, "10.1.0.0/24");
      assert.deepEqual([keeper.isConfirmed, keeper.lostSince_ms], [false, null]);
      assert.ok(keeper.expiry_ms! < Date.now() + 4.1 * 3600_000);
      await whileKeeping(keeper, async () => {
        await store.asked(() => store.acquired.length, 2);
        // What is listed before the lease is asked for may be without it.
        keeper.observe(table());
        keeper.noteStoreSign([]);
        while (!keeper.isConfirmed) await pause(1, new AbortController().signal);
      });
      assert.deepEqual([...new Set(waits)], [null]);
      assert.equal(taken.length, 1);
      assert.ok(keeper.expiry_ms! > Date.now() + 23 * 3600_000);
    });

    test("it moves if the subnet was given to another meanwhile", async () => {
      const store = new ScriptedStore([away, lease("10.2.0.0-24")]);
      const { keeper } = begin(store);
      await keeper.acquire([], new AbortController().signal);
      const moved = Promise.withResolvers<string>();
      await whileKeeping(keeper, async () => {
        assert.equal(await moved.promise, "10.2.0.0/24");
      }, (to) => Promise.resolve(moved.resolve(String(to.subnets[0]))));
    });

    test("a store that answers is obeyed", async () => {
      const store = new ScriptedStore([lease("10.3.0.0-24")]);
      const { keeper } = begin(store);
      const held = await keeper.acquire([], new AbortController().signal);
      assert.equal(`${held.subnets}`, "10.3.0.0/24");
      assert.ok(keeper.isConfirmed);
    });
  });

  test("a first lease is asked for again as soon as one is freed", async () => {
    const full = new SelvageError("out_of_subnets", "the network is full");
    const store = new ScriptedStore([full, full, full, lease("10.1.0.0-24")]);
    const told: string[] = [];
    const keeper = new LeaseKeeper({
      store: store as unknown as LeaseStore,
      attributes: ATTRIBUTES,
      renewMargin_ms: 3600_000,
      onWaiting: () => {},
      onNone: (reason) => Promise.resolve(void told.push(reason)),
    });
    const acquired = keeper.acquire([], new AbortController().signal);
    await store.asked(() => store.acquired.length, 3);
    const freed_ms = performance.now();
    store.shown.push([{ type: "delete", key: "10.1.0.0-24" }]);
    await acquired;
    assert.ok(performance.now() - freed_ms < 1_500);
    assert.deepEqual(told, ["no lease: the network is full"]);
    await pause(10, new AbortController().signal);
    assert.equal(store.watchCount, 0);
  });

  test("a wrong token ends the start at once", async () => {
    const store = new ScriptedStore([new SelvageError("unauthorized", "wrong token")]);
    await assert.rejects(keeperOf(store).acquire([], new AbortController().signal), /wrong token/);
    assert.equal(store.acquired.length, 1);
  });

  test("a wrong user of etcd is waited for: it may be put right", async () => {
    const wrong = new SelvageError("unauthorized", "wrong user");
    const store = new ScriptedStore([wrong, lease("10.1.0.0-24")]);
    store.kind = "etcd";
    const waits: (string | null)[] = [];
    await keeperOf(store, { waits }).acquire([], new AbortController().signal);
    assert.deepEqual(waits, ["no lease: wrong user", null]);
  });

  test("renews when due, publishes its own attributes, and takes what comes back", async () => {
    const long = lease("10.1.0.0-24", { expiry_ms: Date.now() + 48 * 3600_000 });
    const store = new ScriptedStore([lease("10.1.0.0-24", OTHER)], [long]);
    const keeper = keeperOf(store, { ttl_ms: 60 });
    await keeper.acquire([], new AbortController().signal);
    await whileKeeping(keeper, () => store.asked(() => store.renewed.length, 1));
    assert.equal(keeper.lease?.expiry_ms, long.expiry_ms);
    assert.deepEqual(store.renewed[0]!.publicAddresses, ATTRIBUTES.publicAddresses);
  });

  test("the store's clock may be days behind: that makes no renewal due", async () => {
    const past = lease("10.1.0.0-24", { expiry_ms: Date.now() - 3 * 24 * 3600_000 });
    const store = new ScriptedStore([past]);
    const keeper = keeperOf(store);
    await keeper.acquire([], new AbortController().signal);
    await whileKeeping(keeper, () => new Promise((resolve) => setTimeout(resolve, 50)));
    assert.equal(store.renewed.length, 0);
    assert.ok(keeper.renewal_ms! > Date.now() + 22 * 3600_000);
  });

  test("a reservation is never renewed", async () => {
    const store = new ScriptedStore([lease("10.1.0.0-24", { expiry_ms: null })]);
    const keeper = keeperOf(store, { ttl_ms: 1 });
    await keeper.acquire([], new AbortController().signal);
    assert.equal(keeper.renewal_ms, null);
    await whileKeeping(keeper, () => new Promise((resolve) => setTimeout(resolve, 30)));
    assert.equal(store.renewed.length, 0);
  });

  for (
    const [when, shown] of [
      ["after the watch had shown it", [table(lease("10.1.0.0-24")), table()]],
      ["before the watch began", [table(lease("10.9.0.0-24", OTHER))]],
    ] as const
  ) {
    test(`a lease revoked ${when} is asked for again; nothing moves if it is had`, async () => {
      const store = new ScriptedStore([lease("10.1.0.0-24"), lease("10.1.0.0-24")]);
      const keeper = keeperOf(store);
      await keeper.acquire([], new AbortController().signal);
      await whileKeeping(keeper, () => {
        for (const leases of shown) keeper.observe(leases);
        return store.asked(() => store.acquired.length, 2);
      });
      assert.equal(store.acquired[1]!.previousSubnets[0]!.toString(), "10.1.0.0/24");
    });
  }

  test("changes that are older than the new lease do not lose it again", async () => {
    const store = new ScriptedStore([lease("10.1.0.0-24"), lease("10.1.0.0-24")]);
    const keeper = keeperOf(store);
    await keeper.acquire([], new AbortController().signal);
    await whileKeeping(keeper, async () => {
      keeper.observe(table());
      await store.asked(() => store.acquired.length, 2);
      await new Promise((resolve) => setTimeout(resolve, 5));
      // Another host's change, from before ours.
      keeper.observe(table(lease("10.9.0.0-24", OTHER)));
      await new Promise((resolve) => setTimeout(resolve, 20));
      keeper.observe(table(lease("10.1.0.0-24")));
    });
    assert.equal(store.acquired.length, 2);
  });

  test("a subnet that went to another node moves this one", async () => {
    const store = new ScriptedStore([lease("10.1.0.0-24"), lease("10.2.0.0-24")]);
    const keeper = keeperOf(store);
    await keeper.acquire([], new AbortController().signal);
    const moved = Promise.withResolvers<string>();
    await whileKeeping(keeper, async () => {
      keeper.observe(table(lease("10.1.0.0-24", OTHER)));
      assert.equal(await moved.promise, "10.2.0.0/24");
    }, (to) => Promise.resolve(moved.resolve(String(to.subnets[0]))));
  });

  const RESERVED_MOVE = "10.1.9.0-24 is reserved for this host (public address 192.0.2.1), so it " +
    "moves from 10.1.0.0-24 to 10.1.9.0-24";

  for (
    const [what, answer, line] of [
      ["reserved", lease("10.1.9.0-24", { expiry_ms: null }), RESERVED_MOVE],
      [
        "other",
        lease("10.1.9.0-24"),
        "the store did not give 10.1.0.0-24 again; this host moves to 10.1.9.0-24",
      ],
    ] as const
  ) {
    test(`a host that moves to a subnet that is ${what} while it runs logs why`, async () => {
      const lines = await linesLogged(async () => {
        const store = new ScriptedStore([lease("10.1.0.0-24"), answer]);
        const keeper = keeperOf(store);
        await keeper.acquire([], new AbortController().signal);
        const moved = Promise.withResolvers<void>();
        await whileKeeping(keeper, async () => {
          keeper.observe(table());
          await moved.promise;
        }, () => Promise.resolve(moved.resolve()));
      });
      assert.deepEqual(lines, [
        "lease 10.1.0.0-24 was revoked; trying for the same subnet",
        line,
      ]);
    });
  }

  test("a host that starts on a reserved subnet logs why, unless it had that before", async () => {
    const starts = (...previous: string[]) =>
      linesLogged(async () => {
        const store = new ScriptedStore([lease("10.1.9.0-24", { expiry_ms: null })]);
        const subnets = previous.flatMap((key) => parseLeaseKey(key));
        await keeperOf(store).acquire(subnets, new AbortController().signal);
      });
    assert.deepEqual(await starts("10.1.0.0-24"), [RESERVED_MOVE]);
    assert.deepEqual(await starts("10.1.9.0-24"), []);
    assert.deepEqual(await starts(), []);
  });

  test("a subnet that went to another, and none to be had: it yields for so long", async () => {
    const full = new SelvageError("out_of_subnets", "the network is full");
    const store = new ScriptedStore([lease("10.1.0.0-24"), full, full, full, lease("10.1.0.0-24")]);
    const told: (string | null)[] = [];
    const moved = Promise.withResolvers<string>();
    const keeper = new LeaseKeeper({
      store: store as unknown as LeaseStore,
      attributes: ATTRIBUTES,
      renewMargin_ms: 3600_000,
      onWaiting: (reason) => told.push(reason),
      onNone: (reason) => Promise.resolve(void told.push(`yields: ${reason}`)),
    });
    await keeper.acquire([], new AbortController().signal);
    assert.deepEqual([keeper.lostSince_ms, keeper.isNone], [null, false]);
    const before_ms = Date.now();
    await whileKeeping(keeper, async () => {
      keeper.observe(table(lease("10.1.0.0-24", OTHER)));
      await store.asked(() => store.acquired.length, 4);
      assert.ok(keeper.isNone);
      // Both times are whole milliseconds, so the time since may be rounded down to one before.
      assert.ok(keeper.lostSince_ms! >= before_ms - 1);
      // Free again: the next try would else be two seconds away at least.
      const freed_ms = performance.now();
      keeper.noteStoreSign([{ type: "delete", key: "10.1.0.0-24" }]);
      keeper.observe(table());
      assert.equal(await moved.promise, "10.1.0.0/24");
      assert.ok(performance.now() - freed_ms < 1_500);
    }, (to) => Promise.resolve(moved.resolve(String(to.subnets[0]))));
    assert.deepEqual([keeper.lostSince_ms, keeper.isNone], [null, false]);
    const reason = "no lease: 10.1.0.0-24 is 192.0.2.66's now; the network is full";
    assert.deepEqual(told, [null, `yields: ${reason}`, reason, reason, reason, null]);
  });

  test("a store that is back is asked at once, and not before", async () => {
    const away = new SelvageError("unavailable", "nobody there");
    const store = new ScriptedStore([
      lease("10.1.0.0-24"),
      ...[away, away, away],
      lease("10.1.0.0-24"),
    ]);
    const keeper = keeperOf(store);
    await keeper.acquire([], new AbortController().signal);
    await whileKeeping(keeper, async () => {
      keeper.observe(table());
      await store.asked(() => store.acquired.length, 4);
      const heard_ms = performance.now();
      keeper.noteStoreSign([]);
      await store.asked(() => store.acquired.length, 5);
      assert.ok(performance.now() - heard_ms < 1_500);
    });
  });

  test("a revoked lease that nobody took is no reason to yield", async () => {
    const away = new SelvageError("unavailable", "nobody there");
    const store = new ScriptedStore([lease("10.1.0.0-24"), away, lease("10.1.0.0-24")]);
    const keeper = new LeaseKeeper({
      store: store as unknown as LeaseStore,
      attributes: ATTRIBUTES,
      renewMargin_ms: 3600_000,
      onWaiting: () => {},
      onNone: () => Promise.reject(new Error("must not yield")),
    });
    await keeper.acquire([], new AbortController().signal);
    await whileKeeping(keeper, async () => {
      keeper.observe(table());
      await store.asked(() => store.acquired.length, 3);
    });
  });

  test("what a node publishes otherwise after a move, the store is told at once", async () => {
    const moved = lease("10.1.9.0-24");
    const store = new ScriptedStore([lease("10.1.5.0-24"), moved], [moved]);
    const keeper = keeperOf(store);
    await keeper.acquire([], new AbortController().signal);
    keeper.observe(table(lease("10.1.5.0-24", OTHER)));
    const attributes = { ...ATTRIBUTES, backendType: "vxlan" };
    const publish = () => Promise.resolve(keeper.publish(attributes));
    await whileKeeping(keeper, () => store.asked(() => store.renewed.length, 1), publish);
    assert.equal(store.renewed[0]!.backendType, "vxlan");
    assert.equal(store.renewed.length, 1);
  });

  test("another address is told at once, with the one that the store has", async () => {
    const moved = lease("10.1.0.0-24", OTHER);
    const store = new ScriptedStore(
      [lease("10.1.0.0-24")],
      [new SelvageError("unavailable", "nobody there"), moved, moved],
    );
    const keeper = keeperOf(store);
    await keeper.acquire([], new AbortController().signal);
    await whileKeeping(keeper, async () => {
      keeper.publish({ ...ATTRIBUTES, ...OTHER });
      await store.asked(() => store.renewed.length, 1);
      // Put off: what is published again wakes it.
      keeper.publish({ ...ATTRIBUTES, ...OTHER });
      await store.asked(() => store.renewed.length, 2);
      await new Promise((resolve) => setTimeout(resolve, 5));
      // What a watch shows of either address is ours.
      keeper.observe(table(lease("10.1.0.0-24", OTHER)));
      keeper.publish({ ...ATTRIBUTES, ...OTHER, backendType: "vxlan" });
      await store.asked(() => store.renewed.length, 3);
    });
    const told = store.renewed.map(({ publicAddresses }) => `${publicAddresses}`);
    assert.deepEqual(told, ["192.0.2.66", "192.0.2.66", "192.0.2.66"]);
    assert.deepEqual(store.holders, ["192.0.2.1", "192.0.2.1", "192.0.2.66"]);
    assert.equal(`${keeper.lease?.publicAddresses}`, "192.0.2.66");
    assert.equal(store.acquired.length, 1);
  });

  test("what it publishes already needs no renewal", async () => {
    const store = new ScriptedStore([lease("10.1.0.0-24")]);
    const keeper = keeperOf(store);
    await keeper.acquire([], new AbortController().signal);
    await whileKeeping(keeper, () => {
      keeper.publish({ ...ATTRIBUTES });
      return new Promise((resolve) => setTimeout(resolve, 30));
    });
    assert.equal(store.renewed.length, 0);
  });

  test("a lease shown before its store has answered is missed when it goes again", async () => {
    let keeper: LeaseKeeper | null = null;
    const store = new ScriptedStore([]);
    const held = lease("10.1.0.0-24");
    store.acquireAnswers.push(held, held, held);
    const { acquire } = store;
    // As etcd's watch may do: the event comes before the answer.
    store.acquire = (request) => {
      const answer = acquire.call(store, request);
      keeper!.observe(table(held));
      return answer;
    };
    keeper = keeperOf(store);
    await keeper.acquire([], new AbortController().signal);
    keeper.observe(table(held));
    await whileKeeping(keeper, async () => {
      for (const count of [2, 3]) {
        keeper!.observe(table());
        await store.asked(() => store.acquired.length, count);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    });
    assert.equal(store.acquired.length, 3);
  });

  test("a lease moved to and shown before its store has answered is missed too", async () => {
    const [first, second] = [lease("10.1.0.0-24"), lease("10.2.0.0-24")];
    const store = new ScriptedStore([first, second, second]);
    const keeper = keeperOf(store);
    await keeper.acquire([], new AbortController().signal);
    const { acquire } = store;
    store.acquire = (request) => {
      const answer = acquire.call(store, request);
      keeper.observe(table(lease("10.1.0.0-24", OTHER), second));
      return answer;
    };
    const moved = Promise.withResolvers<void>();
    await whileKeeping(keeper, async () => {
      keeper.observe(table(lease("10.1.0.0-24", OTHER)));
      await moved.promise;
      keeper.observe(table(lease("10.1.0.0-24", OTHER)));
      await store.asked(() => store.acquired.length, 3);
    }, () => Promise.resolve(moved.resolve()));
    assert.equal(store.renewed.length, 0);
  });

  test("a lease that came and went in one look is asked after, until it is seen", async () => {
    const held = lease("10.1.0.0-24");
    const lost = new SelvageError("lease_lost", "nobody holds it");
    const store = new ScriptedStore([held, held, held], [held, lost]);
    const keeper = keeperOf(store);
    await keeper.acquire([], new AbortController().signal);
    await whileKeeping(keeper, async () => {
      keeper.observe(table());
      await store.asked(() => store.acquired.length, 2);
      keeper.observe(table());
      // The store knows: it is ours the first time, and not the second.
      await store.asked(() => store.acquired.length, 3);
      assert.equal(store.renewed.length, 2);
      await new Promise((resolve) => setTimeout(resolve, 5));
      keeper.observe(table(held));
      await new Promise((resolve) => setTimeout(resolve, 1_100));
    });
    assert.equal(store.renewed.length, 2);
    assert.equal(store.acquired.length, 3);
  });

  test("another daemon's word of us is told of, and ours is put back", async () => {
    const store = new ScriptedStore([lease("10.1.0.0-24")], [lease("10.1.0.0-24")]);
    const keeper = keeperOf(store);
    await keeper.acquire([], new AbortController().signal);
    await whileKeeping(keeper, async () => {
      const backendData = { 4: { VNI: 1, VtepMAC: "02:00:00:00:00:09\u001b" } };
      keeper.observe(table(lease("10.1.0.0-24", { backendType: "vxlan", backendData })));
      await store.asked(() => store.renewed.length, 1);
    });
    assert.deepEqual(store.renewed[0]!.backendData, {});
    const expected = "another daemon with the public address 192.0.2.1 publishes our lease " +
      "10.1.0.0-24 as its own (vxlan";
    const problem = keeper.rivalProblem ?? "none";
    assert.ok(problem.startsWith(expected), problem);
    assert.ok(!problem.includes("\u001b"));
    assert.doesNotMatch(problem, /[{[]/, "the lease's data is not shown as it is written");
  });

  const MARK = { id: "a1", run: "b2" };

  /** What a keeper with our mark says after the store has shown these values of its lease. */
  async function problemAfter(...shown: Partial<Lease>[]): Promise<string | null> {
    const store = new ScriptedStore([lease("10.1.0.0-24")], [lease("10.1.0.0-24")]);
    const keeper = new LeaseKeeper({
      store: store as unknown as LeaseStore,
      attributes: { ...ATTRIBUTES, node: MARK },
      renewMargin_ms: 3600_000,
      onWaiting: () => {},
    });
    await keeper.acquire([], new AbortController().signal);
    await whileKeeping(keeper, async () => {
      for (const one of shown) keeper.observe(table(lease("10.1.0.0-24", one)));
      await new Promise((resolve) => setTimeout(resolve, 1_100));
    });
    return keeper.rivalProblem;
  }

  test("another daemon that publishes the same is told by its mark", async () => {
    const other = await problemAfter({ node: { id: "c3", run: "d4" } });
    assert.match(other!, /another daemon .*node c3.*--public-ip/);
    assert.doesNotMatch(other!, /node_id/);
    const copy = await problemAfter({ node: { ...MARK, run: "d4" } });
    assert.match(copy!, /another daemon .*node a1.*remove node_id from a copied state directory/);
    const flannel = await problemAfter({ node: MARK }, {});
    assert.match(flannel!, /another daemon .*no node id/);
  });

  test("our own mark, or none from a store that keeps none, is no other daemon's", async () => {
    assert.equal(await problemAfter({ node: MARK }), null);
    assert.equal(await problemAfter({}, {}), null);
    assert.match((await problemAfter({ backendType: "vxlan" }))!, /another daemon/);
  });

  test("a new address is a problem until the store has it", async () => {
    const store = new ScriptedStore([lease("10.1.0.0-24")], [lease("10.1.0.0-24")]);
    const keeper = keeperOf(store);
    await keeper.acquire([], new AbortController().signal);
    assert.equal(keeper.addressProblem, null);
    keeper.publish({ ...ATTRIBUTES, publicAddresses: [IpAddress.parse("192.0.2.77")] });
    assert.match(keeper.addressProblem!, /packets to .*, but its address is 192\.0\.2\.77 now/);
    await whileKeeping(keeper, () => new Promise((resolve) => setTimeout(resolve, 50)));
    assert.equal(keeper.addressProblem, null);
  });

  test("our own word that comes late is no other daemon's", async () => {
    const store = new ScriptedStore([lease("10.1.0.0-24")]);
    const keeper = keeperOf(store);
    await keeper.acquire([], new AbortController().signal);
    await whileKeeping(keeper, async () => {
      keeper.observe(table(lease("10.1.0.0-24", { backendType: "vxlan" })));
      keeper.observe(table(lease("10.1.0.0-24")));
      await new Promise((resolve) => setTimeout(resolve, 1_100));
    });
    assert.equal(store.renewed.length, 0);
    assert.equal(keeper.rivalProblem, null);
  });

  test("flannel's form says of an alloc lease what it says of udp", async () => {
    const store = new ScriptedStore([lease("10.1.0.0-24")]);
    const keeper = new LeaseKeeper({
      store: store as unknown as LeaseStore,
      attributes: { ...ATTRIBUTES, backendType: "alloc" },
      renewMargin_ms: 3600_000,
      onWaiting: () => {},
    });
    await keeper.acquire([], new AbortController().signal);
    await whileKeeping(keeper, async () => {
      keeper.observe(table(lease("10.1.0.0-24", { backendType: "udp" })));
      await new Promise((resolve) => setTimeout(resolve, 1_100));
    });
    assert.equal(store.renewed.length, 0);
  });

  test("a lease lost at renewal is taken anew", async () => {
    const store = new ScriptedStore(
      [lease("10.1.0.0-24"), lease("10.1.0.0-24")],
      [new SelvageError("lease_lost", "gone")],
    );
    const keeper = keeperOf(store, { ttl_ms: 40 });
    await keeper.acquire([], new AbortController().signal);
    await whileKeeping(keeper, () => store.asked(() => store.acquired.length, 2));
    assert.equal(store.renewed.length, 1);
  });
});
