import { test } from "node:test";
import assert from "node:assert/strict";
import { openEtcd } from "../../../src/etcd/client/open_etcd.ts";
import { withEtcd } from "../lab.ts";
test("try", async () => {
  const t0 = performance.now();
  await withEtcd({}, async (lab) => {
    console.log("up", performance.now() - t0);
    const etcd = openEtcd(lab.clientOptions);
    const r = await etcd.transact([{ key: "/a/b", target: "version", is: 0n }], [{
      put: "/a/b",
      value: "x",
      leaseId: 0n,
    }], [{ get: "/a/b" }]);
    console.log(r, await etcd.list("/a/"), performance.now() - t0);
    const abort = new AbortController();
    let n = 0;
    for await (const b of etcd.watch("/a/", 1n, abort.signal)) {
      console.log(b);
      if (++n == 2) abort.abort();
      else await lab.put("/a/c", "y");
    }
    console.log(performance.now() - t0);
    etcd.close();
    await assert.rejects(etcd.get("x"));
  });
});
