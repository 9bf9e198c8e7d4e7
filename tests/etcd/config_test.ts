import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ConfigFollower, Follower, rejectsWith } from "../store/harness.ts";
import { failWrite, FATES } from "./faults.ts";
import { networkOfEachTest, PREFIX, TestNetwork } from "./harness.ts";

const KEY = `${PREFIX}/config`;
const FIVE = '{"Network":"10.5.0.0/16"}';
const SIX = '{\n  "Network": "10.6.0.0/16", "Backend": {"Type": "vxlan"}\n}';

describe("the configuration in etcd", () => {
  const start = networkOfEachTest();

  test("is written as it is given, and only where it says something else", async () => {
    const there = start(1, null);
    const store = there.store();
    assert.equal(await store.readConfigText(), null);
    assert.equal(await store.setConfig(SIX, "file"), true);
    assert.equal(there.server.entry(KEY)!.value, SIX);
    const { revision } = there.server;
    assert.deepEqual(await store.readConfigText(), { text: SIX, revision });
    assert.equal(await store.setConfig(SIX.replaceAll(/\s/g, ""), "file"), false);
    assert.equal(there.server.revision, revision);
    await rejectsWith("invalid_argument", store.setConfig('{"Network":"10.6.0.0"}', "file"));
    await rejectsWith("invalid_argument", store.setConfig("{", "file"));
    assert.equal(there.server.entry(KEY)!.value, SIX);
    // What is broken there may be replaced by what is not.
    there.setConfig("{");
    assert.equal(await store.setConfig(SIX, "file"), true);
  });

  test("is not written over what another wrote since it was looked at", async () => {
    const there = start();
    const store = there.store();
    const looked = (await store.readConfigText())!.revision;
    there.setConfig('{"Network":"10.7.0.0/16"}');
    const late = await rejectsWith("conflict", store.setConfig(SIX, "file", looked));
    assert.match(late.message, /\/coreos\.com\/network\/config: another program has changed it/);
    await rejectsWith("conflict", store.setConfig(SIX, "file", 0n));
    there.server.fault = (call) => {
      if (call === "transact") there.setConfig('{"Network":"10.8.0.0/16"}');
      return null;
    };
    await rejectsWith("conflict", store.setConfig(SIX, "file"));
    assert.equal(there.server.entry(KEY)!.value, '{"Network":"10.8.0.0/16"}');
  });

  test("whose answer is missing is written, or said not to be", async () => {
    for (const fate of FATES) {
      const there = new TestNetwork(1, FIVE);
      const store = there.store();
      failWrite(there.server, 0, fate, 99);
      const set = store.setConfig(SIX, "file");
      if (fate === "unanswered") assert.equal(await set, true);
      else await rejectsWith("unavailable", set);
      there.server.fault = () => null;
      assert.equal(await store.setConfig(SIX, "file"), fate !== "unanswered");
      await there.close();
    }
  });

  test("that breaks, goes and comes back is told each time", async () => {
    const there = start();
    const { store, etcd } = there.node();
    const follower = new ConfigFollower(store, await store.readConfig());
    const leases = new Follower(store);
    await leases.until((self) => self.batches.length === 1);
    there.setConfig("{");
    await follower.until((self) => self.told.length === 1);
    assert.match(follower.networks()[0]!, /etcd key \/coreos\.com\/network\/config: not JSON/);
    there.server.delete(KEY);
    await follower.until((self) => self.told.length === 2);
    assert.match(follower.networks()[1]!, /has no network configuration/);
    there.setConfig(SIX);
    await follower.until((self) => self.told.length === 3);
    there.setConfig(`${SIX} `);
    there.setConfig(FIVE);
    await follower.until((self) => self.told.length === 4);
    assert.deepEqual(follower.networks().slice(2), ["10.6.0.0/16", "10.5.0.0/16"]);
    // One stream serves both.
    assert.deepEqual(etcd.calls, ["get", "list", "watch"]);
    await follower.stop();
    await leases.stop();
  });

  test("that came while etcd was away is told when it is back", async () => {
    const there = start();
    const store = there.store();
    const follower = new ConfigFollower(store, await store.readConfig());
    const leases = new Follower(store);
    await leases.until((self) => self.batches.length === 1);
    there.server.setDown(true);
    there.setConfig(SIX);
    there.server.setDown(false);
    await follower.until((self) => self.told.length === 1);
    assert.deepEqual(follower.networks(), ["10.6.0.0/16"]);
    await follower.stop();
    await leases.stop();
  });

  test("says what a lease without a backend's name is: udp's, or alloc's", async () => {
    const there = start();
    there.putLease("10.5.1.0-24", '{"PublicIP":"192.168.0.1"}');
    const follower = new Follower(there.store());
    await follower.until((self) => self.table.leases[0]?.backendType === "udp");
    there.setConfig('{"Network":"10.5.0.0/16","Backend":{"Type":"alloc"}}');
    await follower.until((self) => self.table.leases[0]?.backendType === "alloc");
    there.putLease("10.5.2.0-24", '{"PublicIP":"192.168.0.2"}');
    await follower.until((self) => self.table.leases[1]?.backendType === "alloc");
    await follower.stop();
  });
});
