/** Networks that overlap what the hosts themselves are in, harmlessly or not. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { CheckReport } from "../../src/check/report.ts";
import { all } from "./dual_stack.ts";
import { EXECUTABLE, type Lab, withLab } from "./lab.ts";

/** As flannel's own example: the hosts, 198.18.0.N, are in it, and not where subnets are. */
const AROUND_HOSTS = {
  Network: "198.0.0.0/8",
  SubnetLen: 20,
  SubnetMin: "198.30.0.0",
  SubnetMax: "198.99.0.0",
};

/** No host's outer address is in it, but a second interface of host 2 is. */
const AROUND_ETH1 = { Network: "198.32.0.0/11", Backend: { Type: "udp" } };

const CUT_OFF = /cut this host off from .*the network 198\.40\.0\.0\/16 of eth1/;

for (const type of ["vxlan", "host-gw"]) {
  test(`hosts inside the network, outside of its subnets, reach each other over ${type}`, () =>
    withLab(2, async (lab) => {
      await lab.startRegistry({ ...AROUND_HOSTS, Backend: { Type: type } });
      await lab.startJoined(2);
      await lab.untilPeers(1, 1, 2);
      for (const host of [1, 2]) await lab.attach(host);
      lab.assertPings([1, 2], [2, 1]);
      const { problems, skippedPeers, ready } = await lab.ready(2);
      assert.deepEqual([problems, skippedPeers, ready], [[], [], true]);
      if (type !== "vxlan") return;
      // Routed as a whole it would take the hosts' own packets.
      const file = join(lab.directory, "generation2.json");
      const Backend = { Type: "vxlan", Generation: 2 };
      writeFileSync(file, JSON.stringify({ ...AROUND_HOSTS, Backend }));
      for (const flags of [[], ["--dry-run"], ["--force", "--dry-run"]]) {
        const { status, stderr } = lab.run(1, ["config", "set", file, ...flags]);
        assert.equal(status, 1, flags.join(" "));
        assert.match(stderr, /198\.18\.0\.1 lies in the overlay's network 198\.0\.0\.0\/8/);
      }
      lab.assertPings([1, 2]);
    }));
}

function check(lab: Lab, host: number, file: string): { status: number | null; text: string } {
  const args = ["check", "--json", "--iface=eth0", `--net-config=${file}`];
  const { status, stdout } = lab.exec(lab.network(host).host, EXECUTABLE.command, ...args);
  const { checks } = JSON.parse(stdout) as CheckReport;
  return { status, text: checks.map(({ seen }) => seen).join("\n") };
}

test("a network that would cut a host off is refused there, unless a flag says otherwise", () =>
  withLab(2, async (lab) => {
    const { host } = lab.network(2);
    all(lab, host, [
      "link add eth1 type veth peer name far1",
      "addr add 198.40.0.2/16 dev eth1",
      "link set eth1 up",
    ]);
    const file = join(lab.directory, "overlap.json");
    writeFileSync(file, JSON.stringify(AROUND_ETH1));
    const refused = check(lab, 2, file);
    assert.equal(refused.status, 1);
    assert.match(refused.text, CUT_OFF);
    assert.doesNotMatch(check(lab, 1, file).text, CUT_OFF);

    // As the registry's host.
    const { process: child } = lab.launch(2, [`--net-config=${file}`]);
    await once(child, "exit");
    assert.notEqual(child.exitCode, 0);
    assert.match(lab.log(2), CUT_OFF);
    assert.match(lab.log(2), /--allow-network-overlap/);

    // As one that joins, and waits for another configuration.
    await lab.startRegistry(AROUND_ETH1);
    lab.launch(2, [`--join=@${await lab.joinFile()}`]);
    const waiting = await lab.until(
      2,
      "does not wait for another configuration",
      ({ phase }) => phase === "waiting_for_config",
    );
    assert.match(waiting.waitingFor!, CUT_OFF);
    assert.equal(waiting.ready, false);
    assert.doesNotMatch(lab.exec(host, "ip", "route").stdout, /198\.32\.0\.0/);
    await lab.stop(2);
    await lab.startJoined(2, ["--allow-network-overlap"]);
    await lab.untilPeers(1, 1, 2);
  }));

test("an outer address in the network is refused with the flag, too, which no hint advises", () =>
  withLab(1, async (lab) => {
    const file = join(lab.directory, "around_host.json");
    writeFileSync(file, JSON.stringify({ Network: "198.18.0.0/15", Backend: { Type: "udp" } }));
    const { process: child } = lab.launch(1, [`--net-config=${file}`, "--allow-network-overlap"]);
    await once(child, "exit");
    assert.notEqual(child.exitCode, 0);
    assert.match(lab.log(1), /the outer address 198\.18\.0\.1 lies in the overlay's network/);
    assert.match(lab.log(1), /--allow-network-overlap does not allow this/);
    assert.doesNotMatch(lab.log(1), /use --allow-network-overlap/);
  }));

test("a peer whose subnet is the network of another interface is left out by name", () =>
  withLab(2, async (lab) => {
    all(lab, lab.network(2).host, [
      "link add eth1 type veth peer name far1",
      "addr add 198.40.0.2/16 dev eth1",
      "link set eth1 up",
    ]);
    await lab.startRegistry({
      Network: "198.32.0.0/11",
      SubnetMin: "198.41.0.0",
      SubnetMax: "198.41.255.0",
      Backend: { Type: "vxlan" },
    });
    const { status, stderr } = lab.run(1, [
      "leases",
      "reserve",
      "198.40.1.0/24",
      "--public-ip=198.18.0.9",
    ]);
    assert.equal(status, 0, stderr);
    await lab.startJoined(2);
    const { skippedPeers, problems } = await lab.until(
      2,
      "does not leave it out",
      (one) => one.skippedPeers.length === 1,
    );
    assert.match(skippedPeers[0]!.reason, /cut off the network 198\.40\.0\.0\/16 of eth1/);
    assert.deepEqual(problems, []);
    await lab.untilPeers(1, 2);
  }));
