/** A change of the configuration that keeps running hosts apart. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type Lab, withLab } from "./lab.ts";

const configOf = (type: string) => ({ Network: "10.210.0.0/16", Backend: { Type: type } });

/** Waits until a host is not ready because of so many of its peers. */
async function untilParted(lab: Lab, host: number, count: number, where: RegExp): Promise<void> {
  const status = await lab.until(
    host,
    `not apart from ${count} peers`,
    ({ problems, ready }) =>
      !ready && problems.some((problem) => problem.includes(`${count} of its 2 peers`)),
  );
  assert.match(status.problems.join("\n"), where);
  const response = await lab.host(host).client.readyz.$get();
  assert.equal(response.status, 503);
  assert.match(JSON.stringify(await response.json()), /packets do not pass/);
}

const THERE = /Restart Selvage (there|on these hosts)/;
const HERE = /Restart Selvage on this host: .*host-gw in place of udp/;

test("the backend changes on a running network: no host says ready that cannot talk", () =>
  withLab(3, async (lab) => {
    await lab.startAll();
    const file = join(lab.directory, "changed.json");
    writeFileSync(file, JSON.stringify(configOf("host-gw")));
    const set = (...flags: string[]) => lab.run(1, ["config", "set", file, ...flags]);
    // Reported before it happens.
    for (const refused of [set("--dry-run"), set()]) {
      assert.equal(refused.status, 1);
      assert.match(
        refused.stderr,
        /splits the network of 3 hosts: Backend\.Type "udp" → "host-gw"/,
      );
      assert.match(refused.stderr, /restart Selvage on every host[\s\S]*--force/);
    }
    const dry = set("--dry-run", "--json");
    assert.equal(JSON.parse(dry.stdout).split.kind, "restart");
    assert.match(lab.run(1, ["config", "get"]).stdout, /"Type": "udp"/);
    const api = await lab.host(1).client.v1.config.$put({ json: configOf("host-gw"), query: {} });
    assert.equal(api.status, 409);
    const done = set("--force");
    assert.equal(done.status, 0, done.stderr);
    assert.match(done.stdout, /keeps the old value until Selvage is restarted there/);

    // The procedure: every host is restarted, here one after the other.
    for (const host of [1, 2, 3]) {
      const status = await lab.until(host, "no word", ({ problems }) => problems.length > 0);
      assert.match(status.problems.join(), /host-gw in place of udp; restart/);
      assert.equal(status.ready, true, "they still talk");
    }
    lab.assertPings([2, 3], [1, 2]);
    const joinFile = await lab.joinFile();
    await lab.stop(3);
    lab.launch(3, [`--join=@${joinFile}`]);
    await lab.ready(3);
    await untilParted(lab, 3, 2, THERE);
    await untilParted(lab, 1, 1, HERE);
    await untilParted(lab, 2, 1, HERE);
    await lab.stop(2);
    lab.launch(2, [`--join=@${joinFile}`]);
    await untilParted(lab, 2, 1, THERE);
    await untilParted(lab, 3, 1, THERE);
    await untilParted(lab, 1, 2, HERE);
    lab.assertPings([2, 3]);
    await lab.stop(1);
    await lab.startRegistry(configOf("host-gw"));
    for (const host of [1, 2, 3]) {
      await lab.until(
        host,
        "not ready again",
        ({ ready, problems }) => ready && problems.length === 0,
      );
    }
    lab.assertPings([1, 2], [2, 3], [3, 1]);
    // What is not in the way is not in the way of scripts.
    writeFileSync(file, JSON.stringify({ ...configOf("host-gw"), SubnetLen: 26 }));
    assert.equal(set().status, 0);
    // A reservation of a host that never came is no fault.
    const reserve = ["leases", "reserve", "10.210.9.0/26", "--public-ip=198.18.0.99"];
    assert.equal(lab.run(1, reserve).status, 0);
    for (const host of [1, 2, 3]) {
      const status = await lab.until(
        host,
        "no reservation",
        ({ peers }) => peers.some(({ key }) => key === "10.210.9.0-26"),
      );
      assert.deepEqual([status.backend!.peerCount, status.ready], [2, true]);
    }
  }));
