import { afterEach, describe, test } from "node:test";
import assert from "node:assert/strict";
import { connect, createServer } from "node:net";
import type { AddressInfo, Server, Socket } from "node:net";
import { copyFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { leaseKey, parseLeaseKey } from "../../src/lease/lease.ts";
import type { RegistryLimits } from "../../src/registry/server.ts";
import { registryPath } from "../../src/store/embedded_store.ts";
import { ensureCertificate } from "../../src/registry/certificate.ts";
import { nodeNumber, seededRandom } from "../lease/sample.ts";
import { describeLeaseStore } from "../store/contract.ts";
import { ConfigFollower, Follower, type HarnessOptions, rejectsWith } from "../store/harness.ts";
import { TestRegistry } from "./harness.ts";

describeLeaseStore("the remote store", async (options) => {
  const registry = await TestRegistry.start(options);
  return {
    store: registry.remote(),
    registry: registry.store,
    clock: registry.clock,
    close: () => registry.close(),
  };
});

const request = (n: number) => ({ attributes: nodeNumber(n), previousSubnets: [] });

/** A machine that takes connections and says nothing, or hangs up at once. */
async function listenTcp(onConnection: (socket: Socket) => void): Promise<Server> {
  const server = createServer(onConnection);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

describe("the remote store", () => {
  let registry: TestRegistry | null = null;
  async function start(
    options: Partial<HarnessOptions> = {},
    limits: Partial<RegistryLimits> = {},
  ): Promise<TestRegistry> {
    registry = await TestRegistry.start({ random: seededRandom(3), ...options }, limits);
    registry.store.setConfig('{"Network": "10.5.0.0/16"}', "test");
    return registry;
  }
  afterEach(async () => {
    await registry?.close();
    registry = null;
  });

  test("goes on where it was after the registry was down", async () => {
    const there = await start();
    const remote = there.remote();
    const held = await remote.acquire(request(1));
    const follower = new Follower(remote);
    await follower.until((self) => self.table.size === 1);
    await there.server.close();
    await there.store.close();
    await rejectsWith("unavailable", remote.list());
    const { connected, lastError } = remote.state();
    assert.equal(connected, false);
    assert.match(lastError ?? "", /cannot be reached.*127\.0\.0\.1:\d+/);
    there.openStore();
    const other = await there.store.acquire(request(2));
    await there.store.release(held);
    await there.listen();
    await follower.until((self) => self.table.size === 1 && self.batches.flat().length === 3);
    const seen = follower.batches.flat().map((change) => [change.type, change.key]);
    const [one, two] = [leaseKey(held.subnets), leaseKey(other.subnets)];
    assert.deepEqual(seen[0], ["put", one]);
    // The registry was opened anew, so the difference comes, in the order of the subnets.
    const difference = new Map(seen.slice(1).map(([type, key]) => [key, type]));
    assert.deepEqual(difference, new Map([[one, "delete"], [two, "put"]]));
    assert.equal(remote.state().connected, true);
    assert.equal(remote.state().lastError, null);
    await follower.stop();
  });

  test("hears of a configuration that was set while it was away, forgotten or not", async () => {
    for (const eventCountMax of [1000, 2]) {
      const there = await start({ eventCountMax });
      const remote = there.remote();
      const leases = new Follower(remote);
      await leases.until((self) => self.batches.length === 1);
      const configs = new ConfigFollower(remote, await remote.readConfig());
      await there.server.close();
      await there.store.acquire(request(1));
      there.store.setConfig('{"Network": "10.6.0.0/16"}', "test");
      for (let n = 2; n < 6; n++) await there.store.acquire(request(n));
      await there.listen();
      await configs.until((self) => self.told.length === 1);
      assert.deepEqual(configs.networks(), ["10.6.0.0/16"]);
      await leases.until((self) => self.table.size === 5);
      while (there.server.watcherCount === 0) await new Promise((resolve) => setImmediate(resolve));
      // One stream serves both.
      assert.equal(there.server.watcherCount, 1);
      await configs.stop();
      await leases.stop();
      await there.close();
      registry = null;
    }
  });

  test("lists anew when the changes it missed are forgotten", async () => {
    const there = await start({ eventCountMax: 5 });
    const remote = there.remote();
    const held = await remote.acquire(request(0));
    const follower = new Follower(remote);
    await follower.until((self) => self.table.size === 1);
    await there.server.close();
    for (let n = 1; n <= 20; n++) await there.store.acquire(request(n));
    await there.store.release(held);
    await there.listen();
    await follower.until((self) => self.table.size === 20);
    // The difference alone: nothing is told twice.
    assert.equal(follower.batches.flat().length, 22);
    await follower.stop();
  });

  test("says that the registry takes no changes, though it answers, until it does", async () => {
    const there = await start();
    const told: (string | null)[] = [];
    const remote = there.remote({}, { onStateChange: ({ lastError }) => told.push(lastError) });
    const held = await remote.acquire(request(1));
    const follower = new Follower(remote);
    await follower.until((self) => self.table.size === 1);
    const path = registryPath(there.stateDir);
    copyFileSync(path, `${path}.other`);
    renameSync(`${path}.other`, path);
    await rejectsWith("unavailable", remote.renew(held));
    await rejectsWith("unavailable", remote.renew(held));
    // Neither what is read nor the watch's signs of life hide it.
    assert.equal((await remote.list()).length, 1);
    await rejectsWith("lease_lost", remote.renew({ ...held, ...nodeNumber(2) }));
    const { connected, lastError, errorSince_ms } = remote.state();
    assert.equal(connected, true);
    assert.match(lastError ?? "", /another file was put in its place.*Restart selvage/);
    assert.notEqual(errorSince_ms, null);
    rmSync(path);
    await remote.renew(held);
    assert.equal(remote.state().lastError, null);
    assert.deepEqual(told, [null, lastError, null]);
    // What an administrator asks for is not tried again: it must not leave the host unready for as
    // long as it renews nothing.
    copyFileSync(registryPath(there.stateDir), `${path}.other`);
    renameSync(`${path}.other`, path);
    const reserved = parseLeaseKey("10.5.200.0-24");
    await rejectsWith("unavailable", remote.reserve(reserved, nodeNumber(3)));
    await rejectsWith("unavailable", remote.reserveByForce(reserved, nodeNumber(3)));
    await rejectsWith("unavailable", remote.revoke(leaseKey(held.subnets)));
    assert.deepEqual([remote.state().connected, remote.state().lastError], [true, null]);
    await follower.stop();
  });

  test("lists anew when the registry's file was replaced by an older copy of it", async () => {
    const there = await start();
    const remote = there.remote();
    const kept = await there.store.acquire(request(1));
    const path = registryPath(there.stateDir);
    const copy = join(there.parent, "copy.db");
    await there.server.close();
    await there.store.close();
    copyFileSync(path, copy);
    there.openStore();
    await there.listen();
    const follower = new Follower(remote);
    await there.store.acquire(request(2));
    await follower.until((self) => self.table.size === 2);
    const { registryId } = there.store;
    await there.server.close();
    await there.store.close();

    copyFileSync(copy, path);
    there.openStore();
    assert.equal(there.store.registryId, registryId);
    // Its revisions have passed those that the host knows, with other changes under them.
    for (let i = 0; i < 20; i++) await there.store.renew(kept);
    await there.listen();
    await follower.until((self) => self.table.size === 1);
    assert.deepEqual(follower.keys(), kept.subnets.map(String));
    await follower.stop();
  });

  test("lists anew when the registry was made anew, its revisions going back", async () => {
    const there = await start();
    const remote = there.remote();
    for (let n = 0; n < 5; n++) await there.store.acquire(request(n));
    const follower = new Follower(remote);
    await follower.until((self) => self.table.size === 5);
    await there.server.close();
    await there.store.close();
    there.openStore(":memory:");
    there.store.setConfig('{"Network": "10.6.0.0/16"}', "test");
    const lease = await there.store.acquire(request(9));
    for (let i = 0; i < 20; i++) await there.store.renew(lease);
    await there.listen();
    await follower.until((self) => self.table.size === 1);
    assert.deepEqual(follower.keys(), lease.subnets.map(String));
    await follower.stop();
  });

  test("takes a stream without heartbeats for lost, and opens another", async () => {
    const there = await start({}, { heartbeat_ms: 1_000_000 });
    const remote = there.remote({}, { silence_ms: 100 });
    const follower = new Follower(remote);
    await follower.until((self) => self.batches.length === 1);
    while (remote.state().lastError === null) await new Promise((go) => setTimeout(go, 5));
    assert.match(remote.state().lastError ?? "", /no heartbeat came in 100 ms/);
    await there.store.acquire(request(1));
    await follower.until((self) => self.table.size === 1);
    await follower.stop();
  });

  test("stays on a stream with heartbeats", async () => {
    const there = await start({}, { heartbeat_ms: 20 });
    const remote = there.remote({}, { silence_ms: 200 });
    const follower = new Follower(remote);
    await follower.until((self) => self.batches.length === 1);
    const { since_ms } = remote.state();
    // That nothing happens has no event to wait for.
    await new Promise((resolve) => setTimeout(resolve, 500));
    // By the time of day, which may have been put right meanwhile by a little.
    assert.ok(Math.abs(remote.state().since_ms - since_ms) < 100);
    assert.equal(there.server.watcherCount, 1);
    await follower.stop();
  });

  test("is refused with a wrong token, and with one that is revoked its watch ends", async () => {
    const there = await start();
    const wrong = `${there.token.id}.${"A".repeat(43)}`;
    const error = await rejectsWith("unauthorized", there.remote({ token: wrong }).readConfig());
    assert.match(error.message, /registry 127\.0\.0\.1:\d+: .*unknown or was revoked/);
    assert.match((error as Error & { hint: string }).hint, /selvage token create/);
    const api = there.tokens.create("api").token;
    await rejectsWith("forbidden", there.remote({ token: api }).readConfig());
    const remote = there.remote();
    const follower = new Follower(remote);
    await follower.until((self) => self.batches.length === 1);
    there.tokens.revoke(there.token.id);
    while (remote.state().connected) await new Promise((resolve) => setTimeout(resolve, 2));
    while (there.server.watcherCount > 0) await new Promise((resolve) => setTimeout(resolve, 2));
    await there.store.acquire(request(1));
    await rejectsWith("unauthorized", remote.list());
    assert.equal(follower.table.size, 0);
    await follower.stop();
  });

  test("sends nothing to a machine with another certificate", async () => {
    const there = await start();
    const fingerprint = "ab".repeat(32);
    const error = await rejectsWith("unauthorized", there.remote({ fingerprint }).list());
    assert.match(
      error.message,
      /registry 127\.0\.0\.1:\d+: its certificate is not the join string/,
    );
    assert.match((error as Error & { hint: string }).hint, /Another machine may be answering/);
  });

  test("notices that the certificate was exchanged under a store that had connected", async () => {
    const there = await start();
    const remote = there.remote();
    await remote.list();
    await there.server.close();
    there.certificate = await ensureCertificate(join(there.parent, "other"));
    await there.listen();
    const error = await rejectsWith("unauthorized", remote.list());
    assert.match(error.message, /its certificate is not the join string/);
    assert.equal(remote.state().connected, false);
  });

  test("tries one address after the other, and keeps to the one that answers", async () => {
    const there = await start();
    let connectionCount = 0;
    const hangingUp = await listenTcp((socket) => {
      connectionCount++;
      socket.destroy();
    });
    const { port } = hangingUp.address() as AddressInfo;
    const addresses = [{ host: "127.0.0.1", port }, ...there.join().addresses];
    const remote = there.remote({ addresses });
    assert.deepEqual(await remote.list(), []);
    const before = connectionCount;
    assert.ok(before > 0);
    assert.deepEqual(await remote.list(), []);
    assert.equal(connectionCount, before);
    hangingUp.close();
  });

  test("does not wait for ever for a machine that says nothing", async () => {
    const there = await start();
    const sockets: Socket[] = [];
    const silent = await listenTcp((socket) => sockets.push(socket));
    const { port } = silent.address() as AddressInfo;
    const quiet = { host: "127.0.0.1", port };
    const remote = there.remote({ addresses: [quiet] }, { deadline_ms: 100 });
    const error = await rejectsWith("unavailable", remote.list());
    assert.match(error.message, /127\.0\.0\.1:\d+.*no answer/);
    const both = there.remote({ addresses: [quiet, ...there.join().addresses] }, {
      deadline_ms: 2000,
    });
    assert.deepEqual(await both.list(), []);
    for (const socket of sockets) socket.destroy();
    silent.close();
  });

  test("drops connections of an old address when told so, and goes on over new ones", async () => {
    const there = await start();
    const { port: behind } = there.join().addresses[0]!;
    const sockets = new Set<Socket>();
    const proxy = await listenTcp((socket) => {
      const on = connect(behind, "127.0.0.1");
      for (const end of [socket, on]) sockets.add(end.on("error", () => {}));
      socket.pipe(on).pipe(socket);
    });
    const { port } = proxy.address() as AddressInfo;
    const addresses = [{ host: "127.0.0.1", port }];
    const remote = there.remote({ addresses }, { deadline_ms: 20_000, silence_ms: 60_000 });
    const follower = new Follower(remote);
    await follower.until((self) => self.batches.length > 0);
    await remote.list();
    // As where the address is gone that they were made from: nothing comes, nothing breaks.
    for (const socket of sockets) socket.unpipe().pause();
    const started_ms = performance.now();
    const hanging = rejectsWith("unavailable", remote.list());
    const lease = await there.store.acquire(request(1));
    await new Promise((resolve) => setTimeout(resolve, 100));
    remote.reconnect();
    await hanging;
    await follower.until((self) => self.table.size === 1);
    assert.deepEqual((await remote.list()).map(({ subnets }) => leaseKey(subnets)), [
      leaseKey(lease.subnets),
    ]);
    assert.ok(performance.now() - started_ms < 5_000);
    await follower.stop();
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
});
