/** A registry is backed up while hosts join, lost, and restored: no host is restarted for it. */
import assert from "node:assert/strict";
import { rmSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { withLab } from "./lab.ts";
import { takeLeases } from "./simulated_peers.ts";

const PHANTOM = "10.210.100.0-24";

test("a registry is backed up and restored: hosts converge, and peers that it lost go", () =>
  withLab(3, async (lab) => {
    await lab.startRegistry();
    await lab.startJoined(2);
    const file = join(lab.directory, "backup");
    const refused = lab.run(2, ["registry", "backup", file]);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /keeps no registry; .* 198\.18\.0\.1:8286/);

    lab.launch(3, [`--join=@${await lab.joinFile()}`]);
    const done = lab.run(1, ["registry", "backup", file]);
    assert.equal(done.status, 0, done.stderr);
    assert.match(done.stdout, /the network's configuration, [23] leases, 1 token, certificate/);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const again = lab.run(1, ["registry", "backup", file]);
    assert.match(again.stderr, /already exists\n.*--force/);
    const dangling = join(lab.directory, "dangling");
    symlinkSync("nowhere", dangling);
    assert.match(lab.run(1, ["registry", "backup", dangling]).stderr, /already exists\n.*--force/);
    const third = await lab.ready(3);
    // It is restarted after the backup: its lease then names another run of its daemon.
    await lab.stop(2);
    const second = await lab.startJoined(2);

    // What the registry loses: a reservation, and the lease of host 3, if that came later.
    const reserved = lab.run(1, [
      ...["leases", "reserve", PHANTOM.replace("-", "/"), "--public-ip=198.18.0.77"],
    ]);
    assert.equal(reserved.status, 0, reserved.stderr);
    // The others serve it once its host has taken it.
    await takeLeases(lab, ['{"PublicIP":"198.18.0.77"}']);
    await lab.untilPeers(3, 1, 2, 3);
    const state = lab.hostDirectory(1);
    const restore = (...flags: string[]) =>
      lab.run(1, ["registry", "restore", file, `--state-dir=${state}`, ...flags]);
    assert.match(restore("--force").stderr, /another process has it open\nStop selvage/);

    await lab.stop(1);
    assert.match(restore().stderr, /holds a registry already: .*registry\.db\n.*--force/);
    rmSync(join(state, "registry.db"));
    const restored = restore("--force");
    assert.equal(restored.status, 0, restored.stderr);
    await lab.startRegistry();
    await lab.untilPeers(2, 1, 2, 3);
    for (const [host, before] of [[2, second], [3, third]] as const) {
      const { peers, lease, pid } = await lab.ready(host);
      assert.ok(!peers.some(({ key }) => key === PHANTOM), JSON.stringify(peers));
      assert.deepEqual(lease!.subnets, before.lease!.subnets);
      assert.equal(pid, before.pid);
      // Nor does it take what it wrote in an earlier run for another host's word.
      assert.doesNotMatch(lab.log(host), /another daemon/);
    }
    for (const host of [1, 2, 3]) await lab.attach(host);
    lab.assertPings([1, 2], [1, 3], [2, 3]);
    // Its tokens still let hosts in.
    assert.equal((JSON.parse(lab.run(1, ["token", "list", "--json"]).stdout) as []).length, 1);

    // Of a registry that does not run the files are backed up.
    await lab.stop(1);
    const offline = lab.run(1, ["registry", "backup", file, "--force", `--state-dir=${state}`]);
    assert.equal(offline.status, 0, offline.stderr);
    assert.match(offline.stdout, /3 leases, 1 token, certificate and key/);
  }));
