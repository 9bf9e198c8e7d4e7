import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { LeaseKeeper, renewalTime_ms } from "../../src/agent/lease_keeper.ts";
import { SelvageError } from "../../src/errors.ts";
import {
  type Lease,
  type LeaseChange,
  type LeaseRequest,
  parseLeaseKey,
} from "../../src/lease/lease.ts";
import { IpAddress } from "../../src/net/ip.ts";
import type { LeaseStore } from "../../src/store/store.ts";

const ATTRIBUTES = {
  publicAddresses: [IpAddress.parse("192.0.2.1")],
  backendType: "udp",
  backendData: {},
};

function lease(key: string, changes: Partial<Lease> = {}): Lease {
  const expiry_ms = Date.now() + 24 * 3600_000;
  return { ...ATTRIBUTES, subnets: parseLeaseKey(key), expiry_ms, ...changes };
}

/** A store that answers from a script and keeps what it was asked. */
class ScriptedStore {
  readonly acquired: LeaseRequest[] = [];
  readonly renewed: Lease[] = [];
  constructor(
    readonly acquireAnswers: (Lease | Error)[],
    readonly renewAnswers: (Lease | Error)[] = [],
  ) {}
  acquire(request: LeaseRequest): Promise<Lease> {
    this.acquired.push(request);
    return settle(this.acquireAnswers.shift());
  }
  renew(held: Lease): Promise<Lease> {
    this.renewed.push(held);
    return settle(this.renewAnswers.shift());
  }
}

function settle(answer: Lease | Error | undefined): Promise<Lease> {
  if (answer === undefined) return Promise.reject(new Error("the script is at its end"));
  return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
}

function keeperOf(store: ScriptedStore, waits: (string | null)[] = []): LeaseKeeper {
  return new LeaseKeeper({
    store: store as unknown as LeaseStore,
    attributes: ATTRIBUTES,
    renewMargin_ms: 3600_000,
    onWaiting: (reason) => waits.push(reason),
  });
}

const deleted = (key: string): LeaseChange => ({ type: "delete", key });

describe("when a lease is renewed", () => {
  const hour_ms = 3600_000;
  const at = (expiry_ms: number | null) => lease("10.1.0.0-24", { expiry_ms });

  test("the margin before its end", () => {
    assert.equal(renewalTime_ms(at(24 * hour_ms), hour_ms, 0), 23 * hour_ms);
  });
  test("not before half of it is over, however long the margin", () => {
    assert.equal(renewalTime_ms(at(2 * hour_ms), 10 * hour_ms, 0), hour_ms);
  });
  test("never, for a reservation", () => {
    assert.equal(renewalTime_ms(at(null), hour_ms, 0), null);
  });
});

describe("lease keeper", () => {
  test("tries until it has a lease, and says why it waits", async () => {
    const store = new ScriptedStore([
      new SelvageError("unavailable", "nobody there"),
      lease("10.1.0.0-24"),
    ]);
    const waits: (string | null)[] = [];
    const held = await keeperOf(store, waits).acquire([], new AbortController().signal);
    assert.equal(held.subnets[0]!.toString(), "10.1.0.0/24");
    assert.deepEqual(waits, ["no lease: nobody there", null]);
  });

  test("a wrong token ends the start at once", async () => {
    const store = new ScriptedStore([new SelvageError("unauthorized", "wrong token")]);
    await assert.rejects(keeperOf(store).acquire([], new AbortController().signal), /wrong token/);
    assert.equal(store.acquired.length, 1);
  });

  test("renews when it is due, and takes what comes back", async () => {
    const ending = new AbortController();
    const long = lease("10.1.0.0-24", { expiry_ms: Date.now() + 24 * 3600_000 });
    const store = new ScriptedStore([lease("10.1.0.0-24", { expiry_ms: Date.now() + 40 })], [long]);
    const keeper = keeperOf(store);
    await keeper.acquire([], ending.signal);
    const kept = keeper.keep(ending.signal, () => Promise.reject(new Error("must not move")));
    while (store.renewed.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    ending.abort();
    await kept;
    assert.equal(keeper.lease?.expiry_ms, long.expiry_ms);
    assert.equal(store.renewed.length, 1);
  });

  test("a revoked lease is asked for again, and nothing moves if it is had", async () => {
    const ending = new AbortController();
    const store = new ScriptedStore([lease("10.1.0.0-24"), lease("10.1.0.0-24")]);
    const keeper = keeperOf(store);
    await keeper.acquire([], ending.signal);
    const kept = keeper.keep(ending.signal, () => Promise.reject(new Error("must not move")));
    keeper.observe([deleted("10.9.0.0-24"), deleted("10.1.0.0-24")]);
    while (store.acquired.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
    ending.abort();
    await kept;
    assert.equal(store.acquired[1]!.previousSubnets[0]!.toString(), "10.1.0.0/24");
  });

  test("a subnet that went to another node moves this one", async () => {
    const ending = new AbortController();
    const store = new ScriptedStore([lease("10.1.0.0-24"), lease("10.2.0.0-24")]);
    const keeper = keeperOf(store);
    await keeper.acquire([], ending.signal);
    const other = lease("10.1.0.0-24", { publicAddresses: [IpAddress.parse("192.0.2.66")] });
    const moved: string[] = [];
    const kept = keeper.keep(ending.signal, (to) => {
      moved.push(String(to.subnets[0]));
      ending.abort();
      return Promise.resolve();
    });
    keeper.observe([{ type: "put", key: "10.1.0.0-24", lease: other }]);
    await kept;
    assert.deepEqual(moved, ["10.2.0.0/24"]);
  });

  test("a lease lost at renewal is taken anew", async () => {
    const ending = new AbortController();
    const store = new ScriptedStore(
      [lease("10.1.0.0-24", { expiry_ms: Date.now() + 40 }), lease("10.1.0.0-24")],
      [new SelvageError("lease_lost", "gone")],
    );
    const keeper = keeperOf(store);
    await keeper.acquire([], ending.signal);
    const kept = keeper.keep(ending.signal, () => Promise.reject(new Error("must not move")));
    while (store.acquired.length < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    ending.abort();
    await kept;
    assert.equal(store.renewed.length, 1);
  });
});
