/** A host whose subnet went to another: it yields where no other is free, else it moves. */
import assert from "node:assert/strict";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { Status } from "../../src/agent/status.ts";
import { type Lab, withLab } from "./lab.ts";
import { LabEtcd } from "./lab_etcd.ts";

/** Three subnets: the first of the four is the network's own. */
const configOf = (type: string) => ({ Network: "10.210.0.0/22", Backend: { Type: type } });

const other = (type: string, n: number) => ({
  PublicIP: `198.18.0.${n}`,
  PublicIPv6: null,
  BackendType: type,
  ...(type === "udp" ? {} : { BackendData: { VNI: 1, VtepMAC: `ea:18:5c:b2:85:${n}` } }),
});

const keyOf = ({ lease }: Status): string => lease!.subnets[0]!.replace("/", "-");

/** Nobody is told again of the subnet that is another's; other files are written again. */
async function assertNotRewritten(lab: Lab): Promise<void> {
  const file = (name: string) => join(lab.hostDirectory(2), name);
  rmSync(file("subnet.env"));
  rmSync(file("node_id"));
  await lab.until(2, "node_id is not written", () => existsSync(file("node_id")));
  assert.ok(!existsSync(file("subnet.env")), "subnet.env names the subnet of another host");
}

const run = (type: string) =>
  withLab(2, async (lab) => {
    const etcd = new LabEtcd(lab);
    try {
      etcd.start();
      await etcd.setConfig(configOf(type));
      const [first, second] = await etcd.startHosts([1, 2]);
      const [taken, used] = [keyOf(second!), keyOf(first!)];
      const free = ["10.210.1.0-24", "10.210.2.0-24", "10.210.3.0-24"]
        .find((key) => key !== taken && key !== used)!;
      const devices = () => lab.exec(lab.network(2).host, "ip", "-br", "link").stdout;
      const wayTo = (address: string) =>
        lab.exec(lab.network(2).host, "ip", "route", "get", address);
      const device = type === "udp" ? /^selvage0 /m : /^selvage\.1 /m;
      assert.match(devices(), device);
      const peer = `${lab.containers[0]}`;
      assert.match(wayTo(peer).stdout, /dev selvage/);

      // Stopped, so that it does not take its own again at once.
      lab.signal(2, "SIGSTOP");
      etcd.putLease(free, other(type, 78));
      etcd.deleteLease(taken);
      etcd.putLease(taken, other(type, 77));
      lab.signal(2, "SIGCONT");
      const lost = await lab.until(
        2,
        "it does not wait",
        ({ phase }) => phase === "waiting_for_lease",
      );
      assert.match(
        lost.waitingFor!,
        new RegExp(`${taken} is 198\\.18\\.0\\.77's now; .*are taken`),
      );
      assert.ok(lost.lease!.lostSince_ms! >= lost.started_ms);
      assert.equal(lost.ready, false);
      assert.doesNotMatch(devices(), device);
      // Nor does it leave by the default route; its own containers reach each other.
      assert.notEqual(wayTo(peer).status, 0, wayTo(peer).stdout);
      const own = `${lab.containers[1]}`;
      assert.match(wayTo(own).stdout, /dev cni0/);
      assert.match(lab.exec(lab.network(2).host, "nft", "list", "tables").stdout, /ip selvage/);
      await assertNotRewritten(lab);

      etcd.deleteLease(taken);
      const back = await lab.until(2, "it is not back", ({ phase }) => phase === "ready");
      assert.deepEqual([keyOf(back), back.lease!.lostSince_ms], [taken, null]);
      await lab.untilPeers(2, 1, 2);
      lab.assertPings([1, 2]);
      assert.deepEqual(back.problems, []);
      assert.match(wayTo(peer).stdout, /dev selvage/);

      lab.signal(2, "SIGSTOP");
      etcd.deleteLease(free);
      etcd.deleteLease(taken);
      etcd.putLease(taken, other(type, 77));
      lab.signal(2, "SIGCONT");
      const moved = await lab.until(
        2,
        "it does not move",
        (status) => status.phase === "ready" && keyOf(status) === free,
      );
      const [problem] = moved.problems;
      assert.match(
        problem!,
        /^cni0 has \S+, which is not of this host's subnet /,
      );
      lab.exec(lab.network(2).host, "ip", "link", "delete", "cni0");
      await lab.until(2, "the problem stays", ({ problems }) => problems.length === 0);
    } finally {
      await etcd.close();
    }
  });

for (const type of ["vxlan", "udp"]) {
  test(`a host whose subnet was taken yields, or moves: ${type}`, () => run(type));
}

for (const type of ["vxlan", "udp"]) {
  test(`a host whose subnet was taken while it did not run yields as well: ${type}`, () =>
    withLab(2, async (lab) => {
      const etcd = new LabEtcd(lab);
      try {
        etcd.start();
        await etcd.setConfig(configOf(type));
        const [first, second] = await etcd.startHosts([1, 2], ["--ip-masq"]);
        const [taken, used] = [keyOf(second!), keyOf(first!)];
        const peer = `${lab.containers[0]}`;
        const assertBarred = () => {
          const way = lab.exec(lab.network(2).host, "ip", "route", "get", peer);
          assert.notEqual(way.status, 0, way.stdout);
          const tables = lab.exec(lab.network(2).host, "nft", "list", "tables").stdout;
          assert.match(tables, /ip selvage/);
        };
        await lab.stop(2);
        etcd.deleteLease(taken);
        for (const third of [1, 2, 3]) {
          const key = `10.210.${third}.0-24`;
          if (key !== used) etcd.putLease(key, other(type, 70 + third));
        }
        const startInVain = async () => {
          lab.launch(2, [etcd.flag, "--ip-masq"]);
          await lab.until(2, "it does not wait", ({ waitingFor }) => /are taken/.test(waitingFor!));
          assertBarred();
        };
        await startInVain();
        // It stays so when it ends, and when it starts again.
        await lab.stop(2);
        assertBarred();
        await startInVain();
        etcd.deleteLease(taken);
        const back = await lab.until(2, "it is not back", ({ phase }) => phase === "ready");
        assert.equal(keyOf(back), taken);
        await lab.untilPeers(2, 1, 2);
        lab.assertPings([1, 2]);
        const routes = lab.exec(lab.network(2).host, "ip", "route", "show", "proto", "83").stdout;
        assert.doesNotMatch(routes, /blackhole/);
      } finally {
        await etcd.close();
      }
    }));
}
