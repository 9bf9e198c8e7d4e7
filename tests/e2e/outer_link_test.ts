/**
 * The outer interface of a running host changes: its address, its MTU, or all of it. The host keeps
 * its subnet, its peers learn of it, and packets flow again without anybody's help.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import type { Status } from "../../src/agent/status.ts";
import { all, ip } from "./dual_stack.ts";
import { type Lab, withLab } from "./lab.ts";

const BACKENDS = ["vxlan", "host-gw"] as const;
type Type = typeof BACKENDS[number];
/** How long it may take until packets flow again. */
const BACK_MS = 5_000;
const GATEWAY = "198.18.0.254";
const BEFORE = "198.18.0.2";
const AFTER = "198.18.0.22";
/** What the encapsulation takes of the interface's MTU. */
const OVERHEAD_BYTES: Readonly<Record<Type, number>> = { vxlan: 50, "host-gw": 0 };

/** Gives the outer interface an address, as whoever set it up does, and what hangs on that. */
function giveAddress(lab: Lab, address: string): void {
  all(lab, lab.network(2).host, [
    `addr add ${address}/24 dev eth0`,
    "link set eth0 up",
    `route replace default via ${GATEWAY} dev eth0`,
  ]);
}

/** A veth whose far end is on a bridge, and that on the lab's switch. */
function plugIn(lab: Lab): void {
  all(lab, lab.network(2).host, [
    "link add eth0 type veth peer name far0",
    "link set far0 master uplink up",
  ]);
}

/** Puts a bridge of the host's own before its outer interface, which can then be made again. */
function makePluggable(lab: Lab): void {
  all(lab, lab.network(2).host, [
    "link set eth0 down",
    "addr flush dev eth0",
    "link set eth0 name switch0",
    "link add uplink type bridge",
    "link set uplink up",
    "link set switch0 master uplink up",
  ]);
  plugIn(lab);
  giveAddress(lab, BEFORE);
}

/** Three hosts whose packets flow, the second pluggable; resolves with the second's subnets. */
async function start(
  lab: Lab,
  type: Type,
  flags: readonly string[] = [],
): Promise<readonly string[]> {
  makePluggable(lab);
  const config = { Network: "10.210.0.0/16", Backend: { Type: type } };
  await lab.startRegistry(config);
  await lab.startJoined(2, flags);
  await lab.startJoined(3);
  await lab.untilPeers(2, 1, 2, 3);
  for (const host of [1, 2, 3]) await lab.attach(host);
  const { subnets } = (await lab.ready(2)).lease!;
  await untilBack(lab, subnets);
  return subnets;
}

/** Waits until packets flow from host 2, and back, with these hosts. */
async function untilReached(lab: Lab, ...peers: number[]): Promise<void> {
  const end_ms = performance.now() + BACK_MS;
  for (const peer of peers) await lab.untilPing(2, peer, end_ms);
}

/** Host 2 as it was: with its subnet, all peers, no problems, and its interface of this name. */
async function untilWell(lab: Lab, subnets: readonly string[], name = "eth0"): Promise<void> {
  const isWell = ({ phase, problems, interface: link }: Status) =>
    phase === "ready" && problems.length === 0 && link?.name === name;
  const { lease, skippedPeers, backend } = await lab.until(2, "not well", isWell);
  assert.deepEqual(lease!.subnets, subnets);
  assert.deepEqual([skippedPeers, backend!.peerCount], [[], 2]);
}

/** Packets may flow before the daemon has looked at its link again, and made its device anew. */
async function untilBack(lab: Lab, subnets: readonly string[], name?: string): Promise<void> {
  await untilReached(lab, 1, 3);
  await untilWell(lab, subnets, name);
  lab.assertPings([1, 2], [2, 1], [2, 3], [3, 2], [1, 3]);
}

/** The MAC of the VXLAN device; "" where there is none. */
function vtepMac(lab: Lab): string {
  const { stdout } = lab.exec(lab.network(2).host, "ip", "-br", "link", "show", "type", "vxlan");
  return /([0-9a-f]{2}:){5}[0-9a-f]{2}/.exec(stdout)?.[0] ?? "";
}

for (const type of BACKENDS) {
  describe(type, () => {
    test("its address: the lease is the same, and the peers send to the new one", () =>
      withLab(3, async (lab) => {
        const subnets = await start(lab, type);
        ip(lab, lab.network(2).host, `addr del ${BEFORE}/24 dev eth0`);
        giveAddress(lab, AFTER);
        for (const host of [1, 3]) {
          await lab.until(
            host,
            "does not see the new address",
            ({ peers }) =>
              peers.some(({ subnets: [subnet], publicAddresses: [address] }) =>
                subnet === subnets[0] && address === AFTER
              ),
          );
        }
        await untilBack(lab, subnets);
        const leases = lab.run(1, ["leases"]).stdout;
        assert.equal(leases.trim().split("\n").length, 4, `a title and three leases: ${leases}`);
      }));

    test("all of it, deleted and made again: everything is back", () =>
      withLab(3, async (lab) => {
        const subnets = await start(lab, type);
        const mac = vtepMac(lab);
        assert.equal(mac !== "", type === "vxlan");
        ip(lab, lab.network(2).host, "link del eth0");
        assert.equal(vtepMac(lab), "");
        await setTimeout(300);
        plugIn(lab);
        giveAddress(lab, BEFORE);
        await untilBack(lab, subnets);
        assert.equal(vtepMac(lab), mac);
      }));

    test("its MTU: the device and subnet.env follow", () =>
      withLab(3, async (lab) => {
        const subnets = await start(lab, type);
        const ping = lab.startPing(2, 1);
        for (const outer_bytes of [1400, 1500]) {
          ip(lab, lab.network(2).host, `link set eth0 mtu ${outer_bytes}`);
          const mtu_bytes = outer_bytes - OVERHEAD_BYTES[type];
          await lab.until(
            2,
            "does not follow",
            ({ backend, phase }) => phase === "ready" && backend?.mtu_bytes === mtu_bytes,
          );
          const file = readFileSync(join(lab.hostDirectory(2), "subnet.env"), "utf8");
          assert.match(file, new RegExp(`^FLANNEL_MTU=${mtu_bytes}$`, "m"));
          if (type === "vxlan") {
            const { stdout } = lab.exec(lab.network(2).host, "ip", "link", "show", "selvage.1");
            assert.match(stdout, new RegExp(`mtu ${mtu_bytes} `));
          }
          await ping.flowing();
        }
        assert.deepEqual(await ping.endAndListLost(), []);
        await untilWell(lab, subnets);
      }));

    test("all of it, made again while the registry is away: the other hosts are reached", () =>
      withLab(3, async (lab) => {
        await start(lab, type);
        await lab.kill(1);
        ip(lab, lab.network(2).host, "link del eth0");
        plugIn(lab);
        giveAddress(lab, BEFORE);
        await untilReached(lab, 3);
        assert.equal((await lab.ready(2)).store!.connected, false);
      }));

    test("its address goes over to a bridge, and is what names the interface", () =>
      withLab(3, async (lab) => {
        const subnets = await start(lab, type, [`--iface=${BEFORE}`]);
        all(lab, lab.network(2).host, [
          "link add br0 type bridge",
          "link set br0 up",
          "link set eth0 master br0",
          `addr del ${BEFORE}/24 dev eth0`,
        ]);
        await lab.until(2, "does not miss it", ({ problems }) => problems.length > 0);
        // Nothing that befell the old one is still to be looked at.
        await setTimeout(1_500);
        all(lab, lab.network(2).host, [`addr add ${BEFORE}/24 dev br0`]);
        await untilBack(lab, subnets, "br0");
      }));
  });
}
