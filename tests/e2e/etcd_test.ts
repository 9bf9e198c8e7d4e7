/** Daemons over a real etcd, in namespaces: what they write, and what they do when it fails. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Status } from "../../src/agent/status.ts";
import { type Lab, withLab } from "./lab.ts";
import { LabEtcd } from "./lab_etcd.ts";

const vxlan = (options: Record<string, unknown> = {}) => ({
  Network: "10.210.0.0/16",
  Backend: { Type: "vxlan", ...options },
});

async function withEtcd(hostCount: number, run: (lab: Lab, etcd: LabEtcd) => Promise<void>) {
  await withLab(hostCount, async (lab) => {
    const etcd = new LabEtcd(lab);
    try {
      etcd.start();
      await run(lab, etcd);
    } finally {
      await etcd.close();
    }
  });
}

const subnetOf = (status: Status): string => status.lease!.subnets[0]!;
const keyOf = (status: Status): string => subnetOf(status).replace("/", "-");

test("flannel's bytes, its entries served, foreign keys left out, and etcd may go and come", () =>
  withEtcd(3, async (lab, etcd) => {
    await etcd.setConfig(vxlan());
    const [, second] = await etcd.startHosts([1, 2]);
    lab.assertPings([1, 2], [2, 1]);
    const mac = second!.backend!.devices[0]!.vtepMac!;
    // flannel passes over the last member.
    assert.equal(
      etcd.leases().get(keyOf(second!))!.replace(/,"Node":\{"ID":"\w{32}","Run":"\w{32}"\}/, ""),
      `{"PublicIP":"${lab.network(2).outerAddress}","PublicIPv6":null,"BackendType":"vxlan",` +
        `"BackendData":{"VNI":1,"VtepMAC":"${mac}"}}`,
    );

    // As flannel v0.20 wrote it; and an older one's, without VNI and PublicIPv6.
    const data = { VNI: 1, VtepMAC: "ea:18:5c:b2:85:27" };
    const flannels = { PublicIP: "198.18.0.77", PublicIPv6: null, BackendType: "vxlan" };
    etcd.putLease("10.210.252.0-24", { ...flannels, BackendData: data });
    etcd.putLease("10.210.253.0-24", {
      PublicIP: "198.18.0.78",
      BackendType: "vxlan",
      BackendData: { VtepMAC: "aa:f3:68:3c:a3:48" },
    });
    etcd.putLease("no subnet", { PublicIP: "198.18.0.79" });
    etcd.putLease("10.210.251.0-24", { ...flannels, PublicIP: "0.0.0.0", BackendData: data });
    await lab.untilPeers(3, 1, 2);
    const told = await lab.until(
      2,
      "no key is unreadable",
      ({ store }) => store!.unreadableCount === 2,
    );
    assert.equal(told.store!.kind, "etcd");
    const unreadable = "10.210.251.0-24: value: not an address of a host: PublicIP is 0.0.0.0\n";
    assert.ok(lab.run(2, ["status"]).stdout.includes(unreadable));
    assert.ok(lab.run(2, ["leases"]).stderr.includes(unreadable));
    assert.equal(lab.log(2).split("PublicIP is 0.0.0.0").length, 2, "the log names it once");
    const fdb = lab.exec(lab.network(2).host, "bridge", "fdb", "show", "dev", "selvage.1").stdout;
    assert.match(fdb, /ea:18:5c:b2:85:27 dst 198\.18\.0\.77 self permanent/);
    assert.match(fdb, /aa:f3:68:3c:a3:48 dst 198\.18\.0\.78 self permanent/);
    etcd.deleteLease("10.210.252.0-24");
    etcd.deleteLease("no subnet");
    etcd.deleteLease("10.210.251.0-24");
    await lab.untilPeers(2, 1, 2);

    await etcd.kill();
    const lost = await lab.until(2, "etcd not missed", ({ store }) => !store!.connected);
    assert.match(lost.store!.lastError!, /198\.18\.0\.1:2379/);
    lab.assertPings([1, 2], [2, 1]);
    etcd.start();
    await lab.until(2, "etcd not found again", ({ store }) => store!.connected);
    lab.launch(3, [etcd.flag]);
    await lab.ready(3);
    await lab.untilPeers(3, 1, 2, 3);
    await lab.attach(3);
    lab.assertPings([1, 3], [3, 2]);
  }));

test("a changed configuration: options are obeyed while running, another network is told of", () =>
  withEtcd(2, async (lab, etcd) => {
    await etcd.setConfig(vxlan());
    const before = await etcd.startHosts([1, 2]);
    await etcd.setConfig(vxlan({ VNI: 7, Port: 4789 }));
    for (const host of [1, 2]) {
      const status = await lab.until(
        host,
        "VNI 7 is not there",
        ({ phase, backend, peers }) =>
          phase === "ready" && backend?.devices[0]?.vni === 7 && peers.length === 1 &&
          backend.peerCount === 1,
      );
      assert.equal(status.backend!.devices[0]!.port, 4789);
      assert.equal(subnetOf(status), subnetOf(before[host - 1]!));
    }
    lab.assertPings([1, 2], [2, 1]);
    const links = lab.exec(lab.network(1).host, "ip", "-br", "link").stdout;
    assert.ok(!links.includes("selvage.1 "), links);

    await etcd.setConfig({ ...vxlan({ VNI: 7, Port: 4789 }), Network: "10.211.0.0/16" });
    const told = await lab.until(1, "no problem", ({ problems }) => problems.length > 0);
    assert.match(told.problems[0]!, /10\.211\.0\.0\/16 in place of 10\.210\.0\.0\/16; restart/);
    lab.assertPings([1, 2]);
    await etcd.setConfig(vxlan({ VNI: 7, Port: 4789 }));
    await lab.until(1, "the problem stays", ({ problems }) => problems.length === 0);
  }));

test("a node paused past its lease's end, whose subnet another has taken, moves and says so", () =>
  withEtcd(2, async (lab, etcd) => {
    await etcd.setConfig(vxlan());
    const [, paused] = await etcd.startHosts([1, 2]);
    const lost = keyOf(paused!);
    const own = etcd.leases().get(lost);
    lab.signal(2, "SIGSTOP");
    etcd.expireLease(lost);
    await lab.untilPeers(0, 1);
    const other = JSON.stringify({
      PublicIP: "198.18.0.77",
      PublicIPv6: null,
      BackendType: "vxlan",
      BackendData: { VNI: 1, VtepMAC: "ea:18:5c:b2:85:27" },
    });
    etcd.putLease(lost, JSON.parse(other));
    await lab.untilPeers(1, 1);
    lab.signal(2, "SIGCONT");
    const moved = await lab.until(
      2,
      "it keeps a lost subnet",
      (status) => status.phase === "ready" && status.lease !== null && keyOf(status) !== lost,
    );
    await lab.untilPeers(2, 1);
    const leases = etcd.leases();
    assert.deepEqual(etcd.leaseHistory(lost), [own, null, other]);
    assert.deepEqual([...leases.keys()].sort(), [
      ...[keyOf(await lab.ready(1)), lost, keyOf(moved)].sort(),
    ]);
    assert.match(leases.get(keyOf(moved))!, /"PublicIP":"198\.18\.0\.2"/);

    const log = lab.log(2);
    assert.ok(log.includes(`lease ${lost} was revoked; trying for the same subnet`), log);
    assert.ok(
      log.includes(`the store did not give ${lost} again; this host moves to ${keyOf(moved)}`),
      log,
    );
    assert.match(
      moved.problems.join("\n"),
      /^cni0 has \S+, which is not of this host's subnet [^\n]+$/,
    );
    const shown = lab.run(2, ["status"]).stdout;
    assert.ok(shown.includes(subnetOf(moved)), shown);
    // It forwards for the new subnet, and sends what goes to the old one to the other.
    const { host } = lab.network(2);
    const addresses = lab.exec(host, "ip", "-br", "addr", "show", "selvage.1").stdout;
    const addressOf = (status: Status) => subnetOf(status).replace(/\/.*/, "/32");
    assert.ok(addresses.includes(addressOf(moved)), addresses);
    assert.ok(!addresses.includes(addressOf(paused!)), addresses);
    // Its containers' bridge has the old subnet yet, and is not ours.
    const skipped = await lab.until(2, "no peer is left out", (one) => one.skippedPeers.length > 0);
    assert.equal(skipped.skippedPeers[0]!.key, lost);
    assert.match(skipped.skippedPeers[0]!.reason, /dev cni0 .*in the way/);
    assert.equal(lab.exec(host, "ip", "addr", "flush", "dev", "cni0").status, 0);
    const { problems } = await lab.until(
      2,
      "the other is left out",
      (one) => one.skippedPeers.length === 0,
    );
    assert.deepEqual(problems, []);
    const route = lab.exec(host, "ip", "route", "show", subnetOf(paused!)).stdout;
    assert.match(route, /dev selvage\.1 proto 83/);
  }));
