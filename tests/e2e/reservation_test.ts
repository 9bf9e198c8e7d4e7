/** Reservations of subnets that running hosts hold, and second reservations for one host. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { withLab } from "./lab.ts";

test("a running host's subnet is reserved for another by force, and it moves", () =>
  withLab(2, async (lab) => {
    await lab.startRegistry();
    const before = (await lab.startJoined(2)).lease!.subnets[0]!;
    const reserve = (subnet: string, address: string, ...flags: string[]) =>
      lab.run(1, ["leases", "reserve", subnet, `--public-ip=${address}`, ...flags]);

    const refused = reserve(before, "198.18.0.77");
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, /is taken: it is leased to 198\.18\.0\.2/);
    assert.match(refused.stderr, /--force/);

    const forced = reserve(before, "198.18.0.77", "--force");
    assert.equal(forced.status, 0, forced.stderr);
    const key = before.replace("/", "-");
    assert.match(forced.stdout, new RegExp(`^reserved ${key} for 198\\.18\\.0\\.77\n`));
    assert.match(forced.stdout, new RegExp(`the lease ${key} of 198\\.18\\.0\\.2 is deleted`));
    const { lease } = await lab.until(2, "it does not move", ({ lease, phase }) => {
      return phase === "ready" && lease!.lostSince_ms === null && lease!.subnets[0] !== before;
    });

    // A host has one reservation; it says which, and how to have another.
    const second = reserve("10.210.99.0/24", "198.18.0.77");
    assert.equal(second.status, 1);
    assert.match(second.stderr, new RegExp(`198\\.18\\.0\\.77 has a reservation already: ${key}`));
    const replaced = reserve("10.210.99.0/24", "198.18.0.77", "--force");
    assert.equal(replaced.status, 0, replaced.stderr);
    assert.match(replaced.stdout, new RegExp(`${key} is no longer reserved for it`));

    // Its host has never come: it is shown as that, and no packets are carried to it.
    const notCome = "it is reserved, and its host has not come yet";
    const { backend, ready } = await lab.until(1, "it is not left out", ({ skippedPeers }) => {
      return skippedPeers.some(({ key, reason }) => key === "10.210.99.0-24" && reason === notCome);
    });
    assert.deepEqual([backend!.peerCount, ready], [1, true]);
    const shown = lab.run(1, ["status"]).stdout;
    assert.match(shown, /10\.210\.99\.0\/24 +198\.18\.0\.77 +not come yet/);
    assert.ok(shown.includes(`Skipped 10.210.99.0-24: ${notCome}`), shown);
    assert.match(
      lab.run(1, ["leases"]).stdout,
      /10\.210\.99\.0\/24 +198\.18\.0\.77 +udp +never \(reserved\), host has not come yet/,
    );

    // What a reservation does to a host that holds another subnet is said.
    const moved = reserve("10.210.98.0/24", "198.18.0.2");
    assert.equal(moved.status, 0, moved.stderr);
    const held = lease!.subnets[0]!.replace("/", "-");
    assert.match(
      moved.stderr,
      new RegExp(`holds ${held} now. It moves at the next start of selvage there`),
    );

    // At that start it moves, and the log says why.
    await lab.stop(2);
    assert.equal((await lab.startJoined(2)).lease!.subnets[0], "10.210.98.0/24");
    const why = `10.210.98.0-24 is reserved for this host (public address 198.18.0.2), so it ` +
      `moves from ${held} to 10.210.98.0-24`;
    assert.ok(lab.log(2).includes(why), lab.log(2));
    // The host has come: it is served.
    const { peers } = await lab.until(1, "it is not served", ({ skippedPeers }) => {
      return skippedPeers.every(({ key }) => key !== "10.210.98.0-24");
    });
    const come = peers.find(({ key }) => key === "10.210.98.0-24")!;
    assert.equal(come.awaitsHost, undefined);

    // Its reader has enough, and nothing changes any more that it could fail to write.
    const socket = join(lab.hostDirectory(1), "api.sock");
    const script = `"$0" leases watch --api-socket=${socket} | head -n 1`;
    const piped = spawnSync("sh", ["-c", script, lab.self.command], {
      encoding: "utf8",
      timeout: 30_000,
    });
    assert.equal(piped.status, 0, `it does not end: ${piped.stderr}`);
    assert.match(piped.stdout, /^\+ 10\.210\.[0-9.-]+ .*\n$/);
  }));
