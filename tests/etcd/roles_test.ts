/** What docs/etcd.md says of roles, held against a real etcd. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openEtcdStore } from "../../src/etcd/open_etcd_store.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { base64, withEtcd } from "./lab.ts";

const PREFIX = "/lab/network";

test("whoever may not write leases is told so before, and nothing is written", async () => {
  const user = { username: "reader", password: "secret", prefix: `${PREFIX}/config` };
  await withEtcd({ user }, async (lab) => {
    const store = openEtcdStore({ ...lab.clientOptions, prefix: PREFIX }, {
      onStateChange: () => {},
    });
    try {
      await assert.rejects(store.probeWrite(), { code: "forbidden" });
    } finally {
      await store.close();
    }
  });
});

test("a host whose role only reads the configuration takes, renews, watches leases", async () => {
  const user = { username: "node", password: "secret", prefix: `${PREFIX}/subnets/` };
  await withEtcd({ user }, async (lab) => {
    const permission = {
      permType: "READ",
      key: base64(`${PREFIX}/`),
      // The character after the slash.
      range_end: base64(`${PREFIX}0`),
    };
    await lab.put(`${PREFIX}/config`, '{"Network":"10.5.0.0/16"}');
    const store = openEtcdStore({ ...lab.clientOptions, prefix: PREFIX }, {
      onStateChange: () => {},
    });
    try {
      await assert.rejects(store.readConfig(), { code: "forbidden" });
      await lab.admin("/v3/auth/role/grant", { name: "lab", perm: permission });
      assert.equal((await store.readConfig()).backend.type, "udp");
      const attributes = {
        publicAddresses: [IpAddress.parse("192.0.2.1")],
        backendType: "udp",
        backendData: {},
      };
      const lease = await store.acquire({ attributes, previousSubnets: [] });
      await store.renew(lease);
      const ending = new AbortController();
      for await (const changes of store.watch(ending.signal)) {
        assert.equal(changes.length, 1);
        ending.abort();
      }
      assert.equal((await store.list()).length, 1);
      await store.release(lease);
      const text = '{"Network":"10.6.0.0/16"}';
      await assert.rejects(store.setConfig(text, "test"), { code: "forbidden" });
      await store.probeWrite();
      assert.deepEqual(await store.list(), []);
      assert.equal((await store.readConfig()).ranges[0]?.network.toString(), "10.5.0.0/16");
    } finally {
      await store.close();
    }
  });
});
