/** The life of a cluster, with the built executable in real namespaces (see lab.ts). */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { withLab } from "./lab.ts";
import { takeLeases } from "./simulated_peers.ts";

describe("a cluster", () => {
  test("a host joins while traffic flows, and not a packet of it is lost", () =>
    withLab(3, async (lab) => {
      await lab.startRegistry();
      await lab.startJoined(2);
      await lab.untilPeers(1, 1, 2);
      await lab.attach(1);
      await lab.attach(2);
      const ping = lab.startPing(1, 2);
      await ping.flowing();
      await lab.startJoined(3);
      await lab.untilPeers(2, 1, 2, 3);
      await lab.attach(3);
      lab.assertPings([3, 1], [2, 3]);
      await ping.flowing();
      assert.deepEqual(await ping.endAndListLost(), []);
    }));

  test("a host that leaves with --release-on-exit is forgotten by all others", () =>
    withLab(3, async (lab) => {
      await lab.startRegistry();
      await lab.startJoined(2);
      await lab.startJoined(3, ["--release-on-exit"]);
      await lab.untilPeers(2, 1, 2, 3);
      const gone = (await lab.host(3).status())!.lease!.subnets[0]!;
      await lab.stop(3);
      await lab.untilPeers(1, 1, 2);
      for (const host of [1, 2]) {
        const status = (await lab.host(host).status())!;
        assert.ok(!status.peers.some((peer) => peer.subnets.includes(gone)), `host${host}`);
      }
    }));

  test("with --release-on-exit nothing stays of an earlier run, also without its registry", () =>
    withLab(2, async (lab) => {
      await lab.startRegistry({ Network: "10.210.0.0/16", Backend: { Type: "vxlan" } });
      await lab.startJoined(2, ["--ip-masq"]);
      const { host } = lab.network(2);
      const left = () =>
        lab.exec(host, "ip", "-o", "link").stdout + lab.exec(host, "nft", "list", "tables").stdout;
      await lab.kill(2);
      await lab.kill(1);
      assert.match(left(), /selvage\.1[\s\S]*table ip selvage/);
      // With what it remembers it would start at once.
      rmSync(join(lab.hostDirectory(2), "last_lease.json"));
      lab.launch(2, [`--join=@${await lab.joinFile()}`, "--ip-masq", "--release-on-exit"]);
      await lab.until(2, "does not wait", ({ phase }) => phase === "waiting_for_store");
      await lab.stop(2);
      assert.doesNotMatch(left(), /selvage/);
    }));

  test("a host that ends without it keeps its lease for the next start", () =>
    withLab(2, async (lab) => {
      await lab.startRegistry();
      const before = await lab.startJoined(2);
      await lab.stop(2);
      const status = (await lab.host(1).status())!;
      assert.equal(status.peers[0]!.subnets[0], before.lease!.subnets[0]);
      assert.equal((await lab.startJoined(2)).lease!.subnets[0], before.lease!.subnets[0]);
    }));

  test("kill -9, and back with the same subnet: traffic goes on", () =>
    withLab(2, async (lab) => {
      await lab.startAll();
      for (const host of [2, 1]) {
        const before = (await lab.host(host).status())!.lease!.subnets;
        await lab.kill(host);
        const links = lab.exec(lab.network(host).host, "ip", "-o", "link").stdout;
        assert.doesNotMatch(links, /selvage0/, "the device went with the process");
        const after = host === 1 ? await lab.startRegistry() : await lab.startJoined(2);
        assert.deepEqual(after.lease!.subnets, before);
        await lab.untilPeers(1, 1, 2);
        lab.assertPings([1, 2], [2, 1]);
      }
    }));

  test("the registry is away for a while: traffic is unharmed, and a change is learnt after", () =>
    withLab(4, async (lab) => {
      await lab.startRegistry();
      await lab.startJoined(2);
      await lab.startJoined(3);
      await lab.untilPeers(2, 1, 2, 3);
      await lab.attach(2);
      await lab.attach(3);
      const ping = lab.startPing(2, 3);
      await ping.flowing();
      await lab.kill(1);
      const lost = await lab.until(
        2,
        "store not lost",
        (status) => status.store?.connected === false,
      );
      assert.notEqual(lost.store!.lastError, null);
      assert.equal(lost.phase, "ready");
      await ping.flowing(20);
      await lab.startRegistry();
      for (const host of [2, 3]) {
        await lab.until(host, "store not back", (status) => status.store?.connected === true);
      }
      await lab.startJoined(4);
      await lab.untilPeers(3, 1, 2, 3, 4);
      assert.deepEqual(await ping.endAndListLost(), []);
    }));

  test("a revoked lease: the same subnet again, and traffic goes on", () =>
    withLab(2, async (lab) => {
      await lab.startAll();
      const before = (await lab.host(2).status())!.lease!;
      const revoked = lab.run(1, ["leases", "revoke", before.subnets[0]!]);
      assert.equal(revoked.status, 0, revoked.stderr);
      const after = await lab.until(
        2,
        "no new lease",
        (status) => status.lease !== null && status.lease.expiry_ms !== before.expiry_ms,
      );
      assert.deepEqual(after.lease!.subnets, before.subnets);
      await lab.untilPeers(1, 1, 2);
      lab.assertPings([1, 2]);
      assert.match(lab.log(2), /was revoked/);
    }));

  test("a revoked lease whose subnet someone else takes: the host moves", () =>
    withLab(2, async (lab) => {
      await lab.startAll();
      const before = (await lab.host(2).status())!.lease!.subnets[0]!;
      await lab.kill(2);
      assert.equal(lab.run(1, ["leases", "revoke", before]).status, 0);
      const reserved = lab.run(1, ["leases", "reserve", before, "--public-ip=198.18.0.77"]);
      assert.equal(reserved.status, 0, reserved.stderr);
      const after = (await lab.startJoined(2)).lease!.subnets[0]!;
      assert.notEqual(after, before);
      const file = readFileSync(join(lab.hostDirectory(2), "subnet.env"), "utf8");
      assert.match(file, new RegExp(`FLANNEL_SUBNET=${after.replace(/\.0\/24$/, "\\.1/24")}`));
    }));

  test("a running host whose subnet another takes moves, also if subnet.env resists at first", () =>
    withLab(3, async (lab) => {
      await lab.startAll();
      const before = (await lab.host(2).status())!.lease!.subnets[0]!;
      const file = join(lab.hostDirectory(2), "subnet.env");
      // Nothing can be renamed over a directory that is not empty.
      rmSync(file);
      mkdirSync(join(file, "in-the-way"), { recursive: true });
      lab.signal(2, "SIGSTOP");
      assert.equal(lab.run(1, ["leases", "revoke", before]).status, 0);
      const reserved = lab.run(1, ["leases", "reserve", before, "--public-ip=198.18.0.77"]);
      assert.equal(reserved.status, 0, reserved.stderr);
      lab.signal(2, "SIGCONT");
      await lab.until(2, "did not try", ({ waitingFor }) => /cannot move/.test(waitingFor ?? ""));
      rmSync(file, { recursive: true });
      const after = await lab.until(
        2,
        "has not moved",
        ({ phase, lease, waitingFor }) =>
          phase === "ready" && waitingFor === null && lease!.subnets[0] !== before,
      );
      const subnet = after.lease!.subnets[0]!;
      assert.match(readFileSync(file, "utf8"), new RegExp(subnet.replace(".0/24", ".1/24")));
      const { host } = lab.network(2);
      const route = lab.exec(host, "ip", "route", "show", "10.210.0.0/16").stdout;
      assert.match(route, /dev selvage0/);
      const address = lab.exec(host, "ip", "-o", "-4", "addr", "show", "selvage0").stdout;
      assert.ok(address.includes(`${subnet.replace("/24", "")}/32`), address);
      // The others serve the reservation once its host has taken it.
      await takeLeases(lab, ['{"PublicIP":"198.18.0.77"}']);
      await lab.untilPeers(3, 1, 3);
    }));

  test("a host that moves takes up a network that was changed meanwhile", () =>
    withLab(2, async (lab) => {
      await lab.startAll();
      const before = (await lab.host(2).status())!.lease!.subnets[0]!;
      await lab.stop(1);
      await lab.startRegistry({ Network: "10.220.0.0/16" });
      await lab.until(2, "not back", (status) => status.store!.connected);
      assert.equal(lab.run(1, ["leases", "revoke", before]).status, 0);
      const after = await lab.until(
        2,
        "has not moved",
        ({ lease, phase }) => phase === "ready" && lease!.subnets[0]!.startsWith("10.220."),
      );
      assert.deepEqual(after.network, ["10.220.0.0/16"]);
      await lab.untilPeers(1, 1, 2);
    }));
});
