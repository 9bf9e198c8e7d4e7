/** From the registry to etcd, while packets flow. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { withLab } from "./lab.ts";
import { LabEtcd } from "./lab_etcd.ts";

test("hosts go from the registry to etcd one by one; no subnet changes, no ping is lost", () =>
  withLab(2, async (lab) => {
    const etcd = new LabEtcd(lab);
    try {
      const config = { Network: "10.210.0.0/16", Backend: { Type: "vxlan" } };
      await lab.startRegistry(config);
      await lab.startJoined(2);
      await lab.untilPeers(1, 1, 2);
      for (const host of [1, 2]) await lab.attach(host);
      const before = [await lab.ready(1), await lab.ready(2)].map(({ lease }) => lease!.subnets);
      assert.equal(
        lab.run(1, ["leases", "reserve", "10.210.77.0/24", "-public-ip=198.18.0.77"]).status,
        0,
      );

      etcd.start();
      const ping = lab.startPing(1, 2);
      await ping.flowing();
      // Asked on the host that joined: what it knows is the registry's.
      let migrated = etcd.run(2, "migrate", "--json");
      for (let i = 0; i < 50 && /refused|no answer|leader/.test(migrated.stderr); i++) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        migrated = etcd.run(2, "migrate", "--json");
      }
      assert.equal(migrated.status, 0, migrated.stderr);
      const { counts } = JSON.parse(migrated.stdout);
      assert.deepEqual([counts.lease.created, counts.reservation.created], [2, 1]);

      for (const host of [2, 1]) {
        await lab.stop(host);
        lab.launch(host, ["--etcd-endpoints", etcd.url]);
        await lab.ready(host);
        await lab.untilPeers(1, host);
      }
      const after = [await lab.ready(1), await lab.ready(2)];
      assert.deepEqual(after.map(({ lease }) => lease!.subnets), before);
      assert.deepEqual(after.map(({ store }) => store!.kind), ["etcd", "etcd"]);
      await ping.flowing();
      assert.deepEqual(await ping.endAndListLost(), []);

      // Once more, from the registry's files: nothing is left to do.
      const again = etcd.run(1, "migrate", "--from-state-dir", lab.hostDirectory(1), "--json");
      assert.equal(again.status, 0, again.stderr);
      const { lease, reservation, configuration } = JSON.parse(again.stdout).counts;
      assert.deepEqual([lease.same, reservation.same, configuration.same], [2, 1, 1]);

      // A changed configuration is seen by both.
      const file = join(lab.directory, "changed.json");
      writeFileSync(file, JSON.stringify({ ...config, SubnetLen: 26 }));
      assert.equal(etcd.run(2, "config", "set", file).status, 0);
      assert.match(lab.run(1, ["config", "get"]).stdout, /"SubnetLen": 26/);
      const listed = lab.run(1, ["leases", "list"]).stdout;
      assert.match(listed, /10\.210\.77\.0\/24 +198\.18\.0\.77 +vxlan +never \(reserved\)/);
    } finally {
      await etcd.close();
    }
  }));
