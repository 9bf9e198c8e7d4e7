/** A host that starts while its store is away: it uses what it remembers of its last run. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { test } from "node:test";
import { type Lab, withLab } from "./lab.ts";
import { LabEtcd } from "./lab_etcd.ts";

const configOf = (type: string) => ({ Network: "10.210.0.0/16", Backend: { Type: type } });
const NOTICE = /started while the store was away, .*: its lease 10\.210\.\S+ and 2 peers/;

const fileOf = (lab: Lab, host: number, name: string) => join(lab.hostDirectory(host), name);
const keyOf = (lab: Lab, host: number) => fileOf(lab, host, "last_lease.json");

/** Waits until a host has written as many peers as it has. */
async function untilRemembered(lab: Lab, host: number, count: number): Promise<void> {
  const path = fileOf(lab, host, "last_peers.json");
  const countNow = () => existsSync(path) ? JSON.parse(readFileSync(path, "utf8")).peers.length : 0;
  for (let i = 0; i < 1_200 && countNow() !== count; i++) await setTimeout(50);
  assert.equal(countNow(), count, lab.log(host));
}

interface LastLease {
  store: string;
  key: string;
  taken: { boot: string; steady_ms: number; now_ms: number };
}

function changeLease(lab: Lab, host: number, change: (file: LastLease) => void): void {
  const file = JSON.parse(readFileSync(keyOf(lab, host), "utf8"));
  change(file);
  writeFileSync(keyOf(lab, host), JSON.stringify(file));
}

const DAY_MS = 24 * 3600_000;

for (const type of ["udp", "vxlan", "host-gw"]) {
  test(`a host restarts while the registry is away, and reaches its peers at once: ${type}`, () =>
    withLab(3, async (lab) => {
      await lab.startRegistry(configOf(type));
      const joinFile = await lab.joinFile();
      await Promise.all([lab.startJoined(2), lab.startJoined(3)]);
      await lab.untilPeers(2, 1, 2, 3);
      for (const host of [1, 2, 3]) await lab.attach(host);
      await untilRemembered(lab, 2, 2);
      assert.equal(statSync(keyOf(lab, 2)).mode & 0o777, 0o600);
      const subnets = (await lab.ready(2)).lease!.subnets;

      // The registry's host still forwards: only its registry is out of reach.
      const nft = (command: string) => {
        const done = lab.exec(lab.network(1).host, "nft", command);
        assert.equal(done.status, 0, done.stderr);
      };
      nft("add table inet cut; add chain inet cut input { type filter hook input priority 0; }");
      nft("add rule inet cut input tcp dport 8286 reject");
      // As after a reboot: nothing under /run, and nothing of ours in the kernel.
      await lab.kill(2);
      rmSync(fileOf(lab, 2, "subnet.env"));
      lab.exec(lab.network(2).host, "ip", "link", "delete", "selvage.1");
      lab.exec(lab.network(2).host, "ip", "route", "flush", "proto", "83");
      lab.launch(2, [`--join=@${joinFile}`]);
      const started = await lab.ready(2);
      assert.deepEqual(started.lease!.subnets, subnets);
      assert.ok(started.lease!.expiry_ms! <= Date.now() + DAY_MS);
      assert.equal(started.store!.connected, false);
      assert.match(started.notices.join("\n"), NOTICE);
      assert.equal(started.ready, true);
      assert.ok(existsSync(fileOf(lab, 2, "subnet.env")));
      lab.assertPings([2, 3], [3, 2], [2, 1], [1, 2]);

      // The store comes back: the lease is confirmed, and no packet is lost for it.
      const ping = lab.startPing(3, 2);
      await ping.flowing();
      nft("delete table inet cut");
      const back = await lab.until(2, "not confirmed", (status) => status.notices.length === 0);
      assert.deepEqual(back.lease!.subnets, subnets);
      assert.deepEqual(back.problems, []);
      await ping.flowing(20);
      assert.deepEqual(await ping.endAndListLost(), []);
      assert.match(lab.log(2), /the store confirms 10\.210\./);
    }));
}

test("a remembered lease that has ended, or is of another store, is not used", () =>
  withLab(2, async (lab) => {
    await lab.startRegistry();
    const joinFile = await lab.joinFile();
    await lab.startJoined(2);
    await untilRemembered(lab, 2, 1);
    await lab.stop(2);
    await lab.stop(1);
    const kept = readFileSync(keyOf(lab, 2), "utf8");
    const cases: [why: RegExp, change: (file: LastLease) => void][] = [
      [/it has ended/, ({ taken }) => taken.steady_ms -= DAY_MS],
      // After a new boot the time of day counts.
      [
        /it has ended/,
        ({ taken }) => Object.assign(taken, { boot: "x", now_ms: taken.now_ms - DAY_MS }),
      ],
      [/it was written for another store/, (file) => file.store = "registry 00"],
      [/it is not used/, (file) => file.key = "nonsense"],
    ];
    for (const [why, change] of cases) {
      writeFileSync(keyOf(lab, 2), kept);
      changeLease(lab, 2, change);
      writeFileSync(join(lab.hostDirectory(2), "log"), "");
      lab.launch(2, [`--join=@${joinFile}`]);
      await lab.until(2, "not waiting", ({ phase }) => phase === "waiting_for_store");
      assert.match(lab.log(2), why);
      assert.equal(lab.exec(lab.network(2).host, "ip", "link", "show", "selvage0").status, 1);
      await lab.stop(2);
    }
    // The control: the same file as it was serves, also by a clock that starts in 1970.
    writeFileSync(keyOf(lab, 2), kept);
    changeLease(
      lab,
      2,
      ({ taken }) => Object.assign(taken, { boot: "x", now_ms: Date.now() + DAY_MS }),
    );
    lab.launch(2, [`--join=@${joinFile}`]);
    const status = await lab.ready(2);
    assert.match(status.notices.join(), /started while the store was away/);
    await lab.stop(2);
    // Given back, it is forgotten.
    lab.launch(2, [`--join=@${joinFile}`, "--release-on-exit"]);
    await lab.ready(2);
    await lab.stop(2);
    assert.ok(!existsSync(keyOf(lab, 2)));
    assert.ok(!existsSync(fileOf(lab, 2, "last_peers.json")));
  }));

test("without subnet.env a host asks a new registry for the subnet that it remembers", () =>
  withLab(2, async (lab) => {
    await lab.startRegistry();
    await lab.joinFile();
    const { lease } = await lab.startJoined(2);
    await untilRemembered(lab, 2, 1);
    await lab.stop(2);
    rmSync(fileOf(lab, 2, "subnet.env"));
    assert.equal(lab.run(1, ["leases", "revoke", lease!.subnets[0]!]).status, 0);
    const again = await lab.startJoined(2);
    assert.deepEqual(again.lease!.subnets, lease!.subnets);
  }));

test("etcd is away at a restart: the host goes on at once, and moves if its subnet was taken", () =>
  withLab(3, async (lab) => {
    const etcd = new LabEtcd(lab);
    try {
      etcd.start();
      await etcd.setConfig(configOf("udp"));
      const [, second] = await etcd.startHosts([1, 2, 3]);
      await untilRemembered(lab, 2, 2);
      const key = second!.lease!.subnets[0]!.replace("/", "-");
      const value = etcd.leases().get(key)!;
      await lab.kill(2);
      // It takes connections and answers nothing.
      etcd.signal("SIGSTOP");
      const start_ms = performance.now();
      lab.launch(2, [etcd.flag]);
      const started = await lab.ready(2);
      assert.ok(performance.now() - start_ms < 20_000);
      assert.match(started.notices.join("\n"), NOTICE);
      lab.assertPings([2, 3], [3, 2], [2, 1]);
      etcd.signal("SIGCONT");
      await lab.until(2, "not confirmed", ({ notices }) => notices.length === 0);
      lab.assertPings([2, 3]);
      assert.deepEqual((await lab.ready(2)).lease!.subnets, second!.lease!.subnets);

      // The subnet goes to another host while this one is off.
      await lab.kill(2);
      etcd.deleteLease(key);
      etcd.putLease(key, { ...JSON.parse(value), PublicIP: "198.18.0.77" });
      etcd.signal("SIGSTOP");
      lab.launch(2, [etcd.flag]);
      await lab.ready(2);
      etcd.signal("SIGCONT");
      const moved = await lab.until(
        2,
        "it does not move",
        (status) =>
          status.phase === "ready" && status.notices.length === 0 &&
          status.lease!.subnets[0] !== second!.lease!.subnets[0],
      );
      assert.match(moved.problems.join(), /cni0 has \S+, which is not of this host's subnet/);
    } finally {
      await etcd.close();
    }
  }));
