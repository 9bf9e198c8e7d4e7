/** A host whose subnet went to another: it yields where no other is free, else it moves. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Status } from "../../src/agent/status.ts";
import { withLab } from "./lab.ts";
import { LabEtcd } from "./lab_etcd.ts";

/** Three subnets: the first of the four is the network's own. */
const CONFIG = { Network: "10.210.0.0/22", Backend: { Type: "vxlan" } };

const other = (n: number) => ({
  PublicIP: `198.18.0.${n}`,
  PublicIPv6: null,
  BackendType: "vxlan",
  BackendData: { VNI: 1, VtepMAC: `ea:18:5c:b2:85:${n}` },
});

const keyOf = ({ lease }: Status): string => lease!.subnets[0]!.replace("/", "-");

test("a host whose subnet was taken yields, or moves", () =>
  withLab(2, async (lab) => {
    const etcd = new LabEtcd(lab);
    try {
      etcd.start();
      await etcd.setConfig(CONFIG);
      const [first, second] = await etcd.startHosts([1, 2]);
      const [taken, used] = [keyOf(second!), keyOf(first!)];
      const free = ["10.210.1.0-24", "10.210.2.0-24", "10.210.3.0-24"]
        .find((key) => key !== taken && key !== used)!;
      const devices = () => lab.exec(lab.network(2).host, "ip", "-br", "link").stdout;
      assert.match(devices(), /^selvage\.1 /m);

      // Stopped, so that it does not take its own again at once.
      lab.signal(2, "SIGSTOP");
      etcd.putLease(free, other(78));
      etcd.deleteLease(taken);
      etcd.putLease(taken, other(77));
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
      assert.doesNotMatch(devices(), /^selvage\.1 /m);

      etcd.deleteLease(taken);
      const back = await lab.until(2, "it is not back", ({ phase }) => phase === "ready");
      assert.deepEqual([keyOf(back), back.lease!.lostSince_ms], [taken, null]);
      await lab.untilPeers(2, 1, 2);
      assert.ok(lab.ping(1, 2).received > 0);
      assert.deepEqual(back.problems, []);

      lab.signal(2, "SIGSTOP");
      etcd.deleteLease(free);
      etcd.deleteLease(taken);
      etcd.putLease(taken, other(77));
      lab.signal(2, "SIGCONT");
      const moved = await lab.until(
        2,
        "it does not move",
        (status) => status.phase === "ready" && keyOf(status) === free,
      );
      const subnet = taken.replace("-", "/");
      const [problem] = moved.problems;
      assert.match(
        problem!,
        new RegExp(`^cni0 has .* of ${subnet}, which this host holds no more`),
      );
      lab.exec(lab.network(2).host, "ip", "link", "delete", "cni0");
      await lab.until(2, "the problem stays", ({ problems }) => problems.length === 0);
    } finally {
      await etcd.close();
    }
  }));
