/** The contract of every lease store (src/store/store.ts), as one suite that runs against each. */
import { afterEach, beforeEach, describe, test } from "node:test";
import assert from "node:assert/strict";
import { SelvageError } from "../../src/errors.ts";
import { type Lease, leaseKey, parseLeaseKey } from "../../src/lease/lease.ts";
import { equalLeases } from "../../src/lease/lease_table.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import type { LeaseStore } from "../../src/store/store.ts";
import { node, nodeNumber, seededRandom } from "../lease/sample.ts";
import {
  ConfigFollower,
  Follower,
  type OpenHarness,
  rejectsWith,
  type StoreHarness,
  TTL_MS,
} from "./harness.ts";

const NETWORK = '{"Network": "10.5.0.0/16"}';

function acquire(store: LeaseStore, n: number, previous: string[] = []): Promise<Lease> {
  const previousSubnets = previous.map((text) => IpPrefix.parse(text));
  return store.acquire({ attributes: nodeNumber(n), previousSubnets });
}

/** Whether a lease that was listed is this one, where its end may not be known. */
function isSameHold(listed: Lease, held: Lease): boolean {
  const { expiry_ms } = listed;
  return equalLeases(listed, expiry_ms === undefined ? { ...held, expiry_ms } : held);
}

function keysOf(leases: readonly Lease[]): string[] {
  return leases.map((lease) => leaseKey(lease.subnets));
}

function acquireTests(harness: () => StoreHarness): void {
  test("a configuration that is missing is said so", async () => {
    const { store } = harness();
    await rejectsWith("config_missing", store.readConfig());
    await rejectsWith("config_missing", acquire(store, 1));
    assert.deepEqual(await store.list(), []);
  });

  test("the configuration is read as it was set", async () => {
    const { store, registry } = harness();
    assert.equal(await registry.setConfig(NETWORK, "test"), true);
    assert.equal(await registry.setConfig('{"network": "10.5.0.1/16"}', "test"), false);
    const config = await store.readConfig();
    assert.equal(String(config.ranges[0]?.network), "10.5.0.0/16");
    assert.equal(config.backend.type, "udp");
  });

  test("a node gets a lease, and the same one again", async () => {
    const { store, registry, clock } = harness();
    await registry.setConfig(NETWORK, "test");
    const first = await acquire(store, 1);
    assert.equal(first.subnets[0]?.length, 24);
    assert.equal(first.expiry_ms, clock.now_ms() + TTL_MS);
    clock.advance(1000);
    // Another previous subnet does not part a node from the lease it holds.
    const again = await acquire(store, 1, ["10.5.77.0/24"]);
    assert.deepEqual(keysOf([again]), keysOf([first]));
    assert.equal(again.expiry_ms, clock.now_ms() + TTL_MS);
    assert.deepEqual(keysOf(await store.list()), keysOf([first]));
  });

  test("the previous subnet is given if it is free and allowed", async () => {
    const { store, registry } = harness();
    await registry.setConfig(NETWORK, "test");
    assert.equal(leaseKey((await acquire(store, 1, ["10.5.77.0/24"])).subnets), "10.5.77.0-24");
    assert.notEqual(leaseKey((await acquire(store, 2, ["10.5.77.0/24"])).subnets), "10.5.77.0-24");
    const strange = await acquire(store, 3, ["10.6.1.0/24", "10.5.78.0/25", "10.5.0.0/24"]);
    assert.equal(String(strange.subnets[0]).startsWith("10.5."), true);
    assert.notEqual(leaseKey(strange.subnets), "10.5.0.0-24");
  });

  test("a hundred nodes at once get a hundred subnets", async () => {
    const { store, registry } = harness();
    await registry.setConfig(NETWORK, "test");
    const leases = await Promise.all(Array.from({ length: 100 }, (_, n) => acquire(store, n)));
    assert.equal(new Set(keysOf(leases)).size, 100);
    assert.deepEqual(keysOf(await store.list()), keysOf(leases.sort(bySubnet)));
  });

  test("a full network is said so, with the figures", async () => {
    const { store, registry } = harness();
    await registry.setConfig('{"Network": "10.9.9.0/28"}', "test");
    for (let n = 1; n <= 3; n++) await acquire(store, n);
    const error = await rejectsWith("out_of_subnets", acquire(store, 4));
    assert.match(error.message, /all 3 subnets of length \/30 .*10\.9\.9\.4 to 10\.9\.9\.12/);
    assert.equal((await store.list()).length, 3);
  });

  test("both families, and IPv6 alone", async () => {
    const { store, registry } = harness();
    const both = { EnableIPv6: true, Network: "10.5.0.0/16", IPv6Network: "fd00:5::/48" };
    await registry.setConfig(JSON.stringify(both), "test");
    const attributes = {
      ...node("192.0.2.1", "2001:db8::1"),
      backendType: "vxlan",
      backendData: { 4: { VNI: 1 }, 6: { VNI: 2 } },
    };
    const dual = await store.acquire({ attributes, previousSubnets: [] });
    assert.deepEqual(dual.subnets.map((subnet) => [subnet.family, subnet.length]), [[4, 24], [
      6,
      64,
    ]]);
    const [listed] = await store.list();
    assert.ok(isSameHold(listed!, dual));
    assert.deepEqual(listed?.backendData, { 4: { VNI: 1 }, 6: { VNI: 2 } });
    await registry.setConfig(JSON.stringify({ ...both, EnableIPv4: false }), "test");
    const request = { attributes: node("2001:db8::2"), previousSubnets: [] };
    const six = await store.acquire(request);
    assert.deepEqual(six.subnets.map((subnet) => subnet.family), [6]);
    assert.deepEqual(keysOf([await store.acquire(request)]), keysOf([six]));
  });
}

function bySubnet(a: Lease, b: Lease): number {
  return a.subnets[0]!.compare(b.subnets[0]!);
}

function holdTests(harness: () => StoreHarness, limits: Limits): void {
  beforeEach(async () => {
    await harness().registry.setConfig(NETWORK, "test");
  });

  test("renewal extends the lease and publishes the attributes", async () => {
    const { store, clock } = harness();
    const held = await acquire(store, 1);
    clock.advance(TTL_MS / 2);
    const renewed = await store.renew({ ...held, backendType: "vxlan", backendData: { 4: 7 } });
    assert.equal(renewed.expiry_ms, clock.now_ms() + TTL_MS);
    const [listed] = await store.list();
    assert.equal(listed?.backendType, "vxlan");
    assert.deepEqual(listed?.backendData, { 4: 7 });
    const end_ms = limits.endsAreUnknown ? undefined : clock.now_ms() + TTL_MS;
    assert.equal(listed?.expiry_ms, end_ms);
  });

  test("the mark of the daemon that wrote a lease last is shown, as it was written", async () => {
    const { store, registry } = harness();
    await registry.setConfig(NETWORK, "test");
    const marked = (run: string) => ({ ...nodeNumber(1), node: { id: "a1", run } });
    const attributes = marked("one");
    const lease = await store.acquire({ attributes, previousSubnets: [] });
    assert.deepEqual((await store.list())[0]?.node, { id: "a1", run: "one" });
    await store.renew({ ...lease, ...marked("two") });
    assert.deepEqual((await store.list())[0]?.node, { id: "a1", run: "two" });
    await store.acquire({ attributes: nodeNumber(1), previousSubnets: [] });
    assert.equal((await store.list())[0]?.node, undefined);
  });

  test("a lease that is gone, or another's, is lost", async () => {
    const { store } = harness();
    const held = await acquire(store, 1);
    await store.revoke(leaseKey(held.subnets));
    await rejectsWith("lease_lost", store.renew(held));
    await acquire(store, 2, [String(held.subnets[0])]);
    const error = await rejectsWith("lease_lost", store.renew(held));
    assert.match(error.message, /192\.168\.0\.2/);
    assert.equal((await store.list())[0]?.publicAddresses[0]?.toString(), "192.168.0.2");
  });

  test("a node whose address has changed keeps its lease by saying which it had", async () => {
    const { store, clock } = harness();
    const held = await acquire(store, 1);
    clock.advance(TTL_MS / 2);
    const moved = { ...held, ...nodeNumber(2) };
    // Without that it is a stranger, and a stranger's word for who holds it does not help.
    for (const holder of [undefined, nodeNumber(2), nodeNumber(3)]) {
      await rejectsWith("lease_lost", store.renew(moved, undefined, holder));
    }
    const renewed = await store.renew(moved, undefined, nodeNumber(1));
    assert.deepEqual(keysOf([renewed]), keysOf([held]));
    assert.equal(renewed.expiry_ms, clock.now_ms() + TTL_MS);
    const listed = await store.list();
    assert.deepEqual(keysOf(listed), keysOf([held]));
    assert.equal(`${listed[0]?.publicAddresses}`, "192.168.0.2");
    // It is the new address's from now on; an answer that was lost may be asked for again.
    await rejectsWith("lease_lost", store.renew(held));
    assert.deepEqual(keysOf([await store.renew(moved, undefined, nodeNumber(1))]), keysOf([held]));
    assert.deepEqual(keysOf([await acquire(store, 2)]), keysOf([held]));
  });

  test("an address that holds another's lease takes none over by renewal", async () => {
    const { store } = harness();
    const [first, second] = [await acquire(store, 1), await acquire(store, 2)];
    const stolen = { ...first, ...nodeNumber(2) };
    await rejectsWith("lease_lost", store.renew(stolen, undefined, second));
    assert.deepEqual(
      (await store.list()).map((lease) => `${lease.publicAddresses}`).sort(),
      ["192.168.0.1", "192.168.0.2"],
    );
  });

  test("release gives the subnet back, and only one's own", async () => {
    const { store } = harness();
    const held = await acquire(store, 1);
    await store.release({ ...held, ...nodeNumber(2) });
    assert.equal((await store.list()).length, 1);
    await store.release(held);
    assert.deepEqual(await store.list(), []);
    await store.release(held);
  });

  const skip = limits.leasesDoNotEnd;
  test("a lease runs out after its time, and a renewed one does not", { skip }, async () => {
    const { store, clock } = harness();
    const [gone, kept] = [await acquire(store, 1), await acquire(store, 2)];
    clock.advance(TTL_MS / 2);
    await store.renew(kept);
    clock.advance(TTL_MS / 2 - 1);
    assert.equal((await store.list()).length, 2);
    clock.advance(1);
    assert.deepEqual(keysOf(await store.list()), keysOf([kept]));
    await rejectsWith("lease_lost", store.renew(gone));
  });

  test("a reservation is its node's, and stays one", async () => {
    const { store, clock } = harness();
    const key = "10.5.200.0-24";
    const reserved = await store.reserve(parseLeaseKey(key), nodeNumber(1));
    assert.equal(reserved.expiry_ms, null);
    const held = await acquire(store, 1, ["10.5.3.0/24"]);
    assert.deepEqual([leaseKey(held.subnets), held.expiry_ms], [key, null]);
    assert.equal((await store.renew(held)).expiry_ms, null);
    await store.release(held);
    clock.advance(100 * TTL_MS);
    assert.deepEqual(keysOf(await store.list()), [key]);
    assert.notEqual(leaseKey((await acquire(store, 2, ["10.5.200.0/24"])).subnets), key);
    await store.revoke(key);
    assert.equal((await store.list()).length, 1);
  });

  test("a reservation awaits its host until that host takes it", async () => {
    const { store } = harness();
    const subnets = parseLeaseKey("10.5.200.0-24");
    const attributes = { ...nodeNumber(1), awaitsHost: true as const };
    assert.equal((await store.reserve(subnets, attributes)).awaitsHost, true);
    assert.equal((await store.list())[0]!.awaitsHost, true);
    await acquire(store, 1);
    assert.deepEqual((await store.list()).map(({ awaitsHost }) => awaitsHost), [undefined]);
    // Its host has come, so to reserve it again changes nothing.
    await store.reserve(subnets, attributes);
    assert.equal((await store.list())[0]!.awaitsHost, undefined);
  });

  test("a reservation may have another size and lie outside of min and max", async () => {
    const { store } = harness();
    await store.reserve(parseLeaseKey("10.5.0.0-23"), nodeNumber(1));
    assert.equal(leaseKey((await acquire(store, 1)).subnets), "10.5.0.0-23");
  });

  test("a node that is given a reservation moves there when it comes back", async () => {
    const { store } = harness();
    await acquire(store, 1, ["10.5.3.0/24"]);
    await store.reserve(parseLeaseKey("10.5.4.0-24"), nodeNumber(1));
    assert.equal(leaseKey((await acquire(store, 1)).subnets), "10.5.4.0-24");
    assert.deepEqual(keysOf(await store.list()), ["10.5.4.0-24"]);
  });

  test("a reservation turns its node's own lease into one", async () => {
    const { store } = harness();
    const held = await acquire(store, 1);
    assert.equal((await store.reserve(held.subnets, nodeNumber(1))).expiry_ms, null);
    assert.equal((await store.renew(held)).expiry_ms, null);
  });

  test("what a node publishes stays when its lease becomes a reservation", async () => {
    const { store } = harness();
    const attributes = {
      publicAddresses: [...nodeNumber(1).publicAddresses, IpAddress.parse("fd00::1")],
      backendType: "vxlan",
      backendData: { 4: { VNI: 1, VtepMAC: "aa:bb:cc:dd:ee:ff" } },
    };
    const held = await store.acquire({ attributes, previousSubnets: [] });
    const reserved = await store.reserve(held.subnets, nodeNumber(1));
    assert.deepEqual(reserved, { ...held, expiry_ms: null });
  });

  test("nobody may have a public address inside the network, or reserve without one", async () => {
    const { store } = harness();
    const inside = { ...nodeNumber(1), publicAddresses: [IpAddress.parse("10.5.9.9")] };
    const acquired = store.acquire({ attributes: inside, previousSubnets: [] });
    assert.match((await rejectsWith("conflict", acquired)).message, /10\.5\.9\.9/);
    await rejectsWith("conflict", store.reserve(parseLeaseKey("10.5.8.0-24"), inside));
    const nameless = { ...nodeNumber(1), publicAddresses: [IpAddress.parse("fd00::1")] };
    const reserved = store.reserve(parseLeaseKey("10.5.8.0-24"), nameless);
    await rejectsWith("invalid_argument", reserved);
    assert.deepEqual(await store.list(), []);
  });

  test("a reservation that overlaps, or lies elsewhere, is refused", async () => {
    const { store } = harness();
    await acquire(store, 1, ["10.5.3.0/24"]);
    for (const key of ["10.5.3.0-24", "10.5.2.0-23", "10.5.3.128-25"]) {
      const error = await rejectsWith("conflict", store.reserve(parseLeaseKey(key), nodeNumber(2)));
      const isSame = key === "10.5.3.0-24";
      const said = isSame
        ? / is taken: it is leased to 192\.168\.0\.1$/
        : /\.0-24 of 192\.168\.0\.1$/;
      assert.match(error.message, said);
      assert.ok(error instanceof SelvageError);
      assert.match(error.hint, /free .*or revoke 10\.5\.3\.0-24\. .*--force/);
    }
    for (const key of ["10.6.0.0-24", "10.5.0.0-16", "10.5.3.0-31", "fd00::-64"]) {
      const reserve = store.reserve(parseLeaseKey(key), nodeNumber(2));
      const { message } = await rejectsWith("invalid_argument", reserve);
      assert.match(message, /cannot be reserved: it is not one subnet of 10\.5\.0\.0\/16/);
    }
    assert.deepEqual(keysOf(await store.list()), ["10.5.3.0-24"]);
  });

  test("a second reservation for the same node is refused, and does not move it", async () => {
    const { store } = harness();
    await store.reserve(parseLeaseKey("10.5.8.0-24"), nodeNumber(1));
    const second = store.reserve(parseLeaseKey("10.5.9.0-24"), nodeNumber(1));
    const error = await rejectsWith("conflict", second);
    assert.match(error.message, /192\.168\.0\.1 has a reservation already: 10\.5\.8\.0-24/);
    assert.ok(error instanceof SelvageError);
    assert.match(error.hint, /revoke 10\.5\.8\.0-24 first, or replace it with --force/);
    assert.equal(leaseKey((await acquire(store, 1)).subnets), "10.5.8.0-24");
    // The same once more changes nothing.
    await store.reserve(parseLeaseKey("10.5.8.0-24"), nodeNumber(1));
    assert.deepEqual(keysOf(await store.list()), ["10.5.8.0-24"]);
  });

  test("by force a reservation replaces the node's older one", async () => {
    const { store } = harness();
    await store.reserve(parseLeaseKey("10.5.8.0-24"), nodeNumber(1));
    const key = parseLeaseKey("10.5.9.0-24");
    const { lease, replaced } = await store.reserveByForce(key, nodeNumber(1));
    assert.equal(leaseKey(lease.subnets), "10.5.9.0-24");
    assert.deepEqual(keysOf(replaced), ["10.5.8.0-24"]);
    assert.deepEqual(keysOf(await store.list()), ["10.5.9.0-24"]);
  });

  test("by force a reservation takes subnets from the nodes that hold them", async () => {
    const { store } = harness();
    const running = await acquire(store, 2, ["10.5.8.0/24"]);
    const other = await acquire(store, 3, ["10.5.9.0/24"]);
    await acquire(store, 4, ["10.5.10.0/24"]);
    const same = await store.reserveByForce(running.subnets, nodeNumber(1));
    assert.deepEqual(keysOf(same.replaced), ["10.5.8.0-24"]);
    assert.ok(same.lease.publicAddresses[0]!.equals(nodeNumber(1).publicAddresses[0]!));
    await rejectsWith("lease_lost", store.renew(running));
    assert.notEqual(leaseKey((await acquire(store, 2, ["10.5.8.0/24"])).subnets), "10.5.8.0-24");

    // One of another size, over its own older one and another node's lease.
    const wide = await store.reserveByForce(parseLeaseKey("10.5.8.0-23"), nodeNumber(1));
    assert.deepEqual(keysOf(wide.replaced), ["10.5.8.0-24", "10.5.9.0-24"]);
    await rejectsWith("lease_lost", store.renew(other));
    const keys = keysOf(await store.list());
    assert.ok(keys.includes("10.5.8.0-23") && keys.includes("10.5.10.0-24"), keys.join());
    assert.ok(!keys.includes("10.5.8.0-24") && !keys.includes("10.5.9.0-24"), keys.join());
    const elsewhere = store.reserveByForce(parseLeaseKey("10.6.0.0-24"), nodeNumber(1));
    await rejectsWith("invalid_argument", elsewhere);
  });

  test("what is not there cannot be revoked", async () => {
    const { store } = harness();
    await rejectsWith("not_found", store.revoke("10.5.3.0-24"));
    await rejectsWith("invalid_argument", store.revoke("nonsense"));
  });
}

function watchTests(
  harness: () => StoreHarness,
  random: () => number,
  { leasesDoNotEnd: skip }: Limits,
): void {
  beforeEach(async () => {
    await harness().registry.setConfig(NETWORK, "test");
  });

  test("a watch begins with what there is, even when that is nothing", async () => {
    const { store } = harness();
    const empty = new Follower(store);
    await empty.until((self) => self.batches.length === 1);
    assert.deepEqual(empty.batches, [[]]);
    await empty.stop();
    const held = await acquire(store, 1);
    const full = new Follower(store);
    await full.until((self) => self.batches.length === 1);
    assert.ok(isSameHold(full.table.leases[0]!, held));
    await full.stop();
  });

  test("every change is seen, in its order", async () => {
    const { store, clock } = harness();
    const follower = new Follower(store);
    await follower.until((self) => self.batches.length === 1);
    const held = await acquire(store, 1);
    clock.advance(5);
    await store.renew(held);
    const other = await acquire(store, 2);
    await store.release(held);
    await follower.until((self) => self.batches.flat().length === 4);
    const [one, two] = keysOf([held, other]);
    const seen = follower.batches.flat().map((change) => [change.type, change.key]);
    assert.deepEqual(seen, [["put", one], ["put", one], ["put", two], ["delete", one]]);
    await follower.stop();
  });

  test("watches that begin amid many changes end with the same leases", async () => {
    const { store } = harness();
    const followers: Follower[] = [];
    const held: Lease[] = [];
    for (let i = 0; i < 200; i++) {
      if (i % 20 === 0) followers.push(new Follower(store));
      const lease = held[Math.floor(random() * held.length)];
      if (lease === undefined || random() < 0.6) held.push(await acquire(store, i));
      else if (random() < 0.5) await store.renew(lease);
      else {
        await store.release(lease);
        held.splice(held.indexOf(lease), 1);
      }
    }
    const final = await store.list();
    for (const follower of followers) {
      await follower.until(({ table }) =>
        table.size === final.length &&
        table.leases.every((lease, i) => equalLeases(lease, final[i]!))
      );
      await follower.stop();
    }
  });

  test("leases that run out are seen to go", { skip }, async () => {
    const { store, clock } = harness();
    const follower = new Follower(store);
    const held = await acquire(store, 1);
    await follower.until((self) => self.table.size === 1);
    clock.advance(TTL_MS);
    await store.list();
    await follower.until((self) => self.table.size === 0);
    assert.deepEqual(follower.batches.flat().at(-1), {
      type: "delete",
      key: leaseKey(held.subnets),
    });
    await follower.stop();
  });

  test("an aborted signal ends a call with its reason, and a watch quietly", async () => {
    const { store } = harness();
    const reason = new Error("no more");
    await assert.rejects(store.list(AbortSignal.abort(reason)), reason);
    for await (const _ of store.watch(AbortSignal.abort())) assert.fail("nothing is to come");
  });

  test("a closed store says so, and its watches end", async () => {
    const { store } = harness();
    const follower = new Follower(store);
    await follower.until((self) => self.batches.length === 1);
    assert.equal(store.state().connected, true);
    await store.close();
    await rejectsWith("unavailable", follower.ended());
    await rejectsWith("unavailable", store.list());
    assert.equal(store.state().connected, false);
  });
}

function watchConfigTests(harness: () => StoreHarness): void {
  const OTHER = '{"Network": "10.6.0.0/16"}';

  test("the first configuration is told when there is one, and then each new one", async () => {
    const { store, registry } = harness();
    const follower = new ConfigFollower(store);
    await registry.setConfig(NETWORK, "test");
    await follower.until((self) => self.told.length === 1);
    assert.equal(await registry.setConfig('{"network": "10.5.0.1/16"}', "test"), false);
    await registry.setConfig(OTHER, "test");
    await follower.until((self) => self.told.length === 2);
    await registry.setConfig('{"Network": "10.6.0.0/16", "Backend": {"Type": "vxlan"}}', "test");
    await follower.until((self) => self.told.length === 3);
    assert.deepEqual(follower.networks(), ["10.5.0.0/16", "10.6.0.0/16", "10.6.0.0/16"]);
    await follower.stop();
  });

  test("a configuration that is known is not told, but one that came since is", async () => {
    const { store, registry } = harness();
    await registry.setConfig(NETWORK, "test");
    const known = await store.readConfig();
    const leases = new Follower(store);
    await leases.until((self) => self.batches.length === 1);
    const before = new ConfigFollower(store, known);
    await registry.setConfig(OTHER, "test");
    const after = new ConfigFollower(store, known);
    for (const follower of [before, after]) {
      await follower.until((self) => self.told.length === 1);
      assert.deepEqual(follower.networks(), ["10.6.0.0/16"]);
    }
    // Leases that come and go are no news of the configuration.
    await acquire(store, 1);
    await leases.until((self) => self.table.size === 1);
    await registry.setConfig(NETWORK, "test");
    for (const follower of [before, after]) {
      await follower.until((self) => self.told.length === 2);
      assert.deepEqual(follower.networks(), ["10.6.0.0/16", "10.5.0.0/16"]);
      await follower.stop();
    }
    await leases.stop();
  });

  test("the watch of the configuration ends with its signal, and with the store", async () => {
    const { store, registry } = harness();
    await registry.setConfig(NETWORK, "test");
    for await (const _ of store.watchConfig(AbortSignal.abort())) assert.fail("nothing is to come");
    const follower = new ConfigFollower(store);
    await follower.until((self) => self.told.length === 1);
    await store.close();
    await rejectsWith("unavailable", follower.ended());
  });
}

/** What the suite cannot ask of a store, each with the reason that is shown. */
export interface Limits {
  /** Why leases do not end by the test's clock. */
  readonly leasesDoNotEnd?: string;
  /** Why the end of another's lease is not known. */
  readonly endsAreUnknown?: string;
}

/** Declares the suite for one store. The seed is in the suite's name. */
export function describeLeaseStore(
  name: string,
  open: OpenHarness,
  limits: Limits = {},
  seed = 20_251,
): void {
  describe(`${name} keeps the contract of a lease store (seed ${seed})`, () => {
    const random = seededRandom(seed);
    let current: StoreHarness | null = null;
    const harness = (): StoreHarness => {
      assert.ok(current !== null);
      return current;
    };
    beforeEach(async () => {
      current = await open({ random });
    });
    afterEach(async () => {
      await current?.close();
      current = null;
    });
    acquireTests(harness);
    describe("holding", () => holdTests(harness, limits));
    describe("watching", () => watchTests(harness, random, limits));
    describe("watching the configuration", () => watchConfigTests(harness));
  });
}
