/**
 * A stranger sends frames in VXLAN that configure hosts which believe them: router advertisements,
 * redirects, and questions by thousands of senders.
 *
 *     attacker 198.18.0.2 --- switch --- [ host 1: selvage run ]
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { withNetns } from "../../ffi/netns.ts";
import type { Status } from "../../src/agent/status.ts";
import { type Family, IpAddress } from "../../src/net/ip.ts";
import { giveOuterV6, outerV6 } from "./dual_stack.ts";
import {
  arpRequest,
  neighbourSolicitation,
  redirect,
  ROGUE_PREFIX,
  ROGUE_ROUTER,
  routerAdvertisement,
  sendVxlan,
} from "./forged_frames.ts";
import { type Lab, withLab } from "./lab.ts";
import { takeLeases, vxlanLeaseValue } from "./simulated_peers.ts";

/** The guard lets none of these frames in; here is what stands behind it. */
const WITHOUT_GUARD = ["--guard=false"];
const NETWORK = { Network: "10.210.0.0/16" };
const DUAL = { ...NETWORK, EnableIPv6: true, IPv6Network: "fc00::/48" };
const DEVICES: Readonly<Record<Family, string>> = { 4: "selvage.1", 6: "selvage-v6.1" };
const TIMEOUT_MS = 20_000;
const FLOOD_COUNT = 3_000;
/** Entries that such a flood may leave on a device. */
const NEIGHBOUR_COUNT_MAX = 200;

function run(lab: Lab, ...args: string[]): string {
  return lab.exec(lab.network(1).host, args[0]!, ...args.slice(1)).stdout;
}

function setSysctls(lab: Lab, values: Readonly<Record<string, string>>): void {
  withNetns(lab.network(1).host, () => {
    for (const [path, value] of Object.entries(values)) {
      writeFileSync(`/proc/sys/net/${path}`, value);
    }
  });
}

async function until(what: string, isReached: () => boolean): Promise<void> {
  const end_ms = performance.now() + TIMEOUT_MS;
  while (!isReached()) {
    assert.ok(performance.now() < end_ms, what);
    await setTimeout(20);
  }
}

/** Sends to the tunnel of a family, as anybody can. */
function attack(lab: Lab, family: Family, ...frames: Uint8Array[]): void {
  // The last host has no daemon.
  const attacker = lab.topology.hosts.length;
  const [from, to] = family === 4
    ? [lab.network(attacker).outerAddress, lab.network(1).outerAddress]
    : [outerV6(attacker), outerV6(1)];
  sendVxlan(lab.network(attacker).host, from, to, frames);
}

function isTakenOver(lab: Lab): boolean {
  const routes = run(lab, "ip", "-6", "route", "show");
  const addresses = run(lab, "ip", "-6", "addr", "show");
  return routes.includes(ROGUE_ROUTER) || addresses.includes(ROGUE_PREFIX);
}

/**
 * The daemon, stopped, cannot mend what lets the attack through: then it succeeds, which shows that
 * its frames arrive. Afterwards the daemon ends what came of it.
 */
async function assertAttackArrives(lab: Lab, family: Family): Promise<void> {
  const conf = `ipv6/conf/${DEVICES[family]}`;
  lab.signal(1, "SIGSTOP");
  try {
    setSysctls(lab, {
      [`${conf}/accept_ra`]: "2",
      [`${conf}/autoconf`]: "1",
      [`${conf}/disable_ipv6`]: "0",
    });
    await until("the router advertisement did not arrive", () => {
      attack(lab, family, routerAdvertisement());
      return isTakenOver(lab);
    });
  } finally {
    lab.signal(1, "SIGCONT");
  }
}

async function assertRouterIsNotBelieved(lab: Lab, family: Family): Promise<void> {
  attack(lab, family, ...Array.from({ length: 5 }, routerAdvertisement));
  await setTimeout(200);
  assert.ok(!isTakenOver(lab), run(lab, "ip", "-6", "route", "show"));
}

function neighbourCount(lab: Lab, family: Family): number {
  const text = run(lab, "ip", `-${family}`, "neigh", "show", "dev", DEVICES[family], "nud", "all");
  return text.split("\n").filter((line) => line.includes("lladdr 02:ba:d0")).length;
}

function macOf(status: Status, family: Family): string {
  return status.backend!.devices.find(({ name }) => name === DEVICES[family])!.vtepMac!;
}

/** Thousands of senders ask for the address of the device, as if each were about to talk to it. */
function flood(lab: Lab, status: Status, family: Family): void {
  const subnet = status.lease!.subnets[family === 4 ? 0 : 1]!;
  const target = subnet.slice(0, subnet.indexOf("/"));
  const frames = Array.from({ length: FLOOD_COUNT }, (_, i) => {
    const sender = family === 4
      ? `${IpAddress.parse("10.210.128.1").add(BigInt(i))}`
      : `${IpAddress.parse("fe80::bad:0").add(BigInt(i))}`;
    return family === 4
      ? arpRequest(sender, target)
      : neighbourSolicitation(macOf(status, 6), sender, target);
  });
  attack(lab, family, ...frames);
}

describe("frames of strangers in VXLAN", () => {
  for (const generation of [3, 2, 1]) {
    test(`kernel, generation ${generation}: no router is believed, no asker remembered`, () =>
      withLab(2, async (lab) => {
        const backend = { Type: "vxlan", Datapath: "kernel", Generation: generation };
        const status = await lab.startRegistry({ ...NETWORK, Backend: backend }, WITHOUT_GUARD);
        await assertRouterIsNotBelieved(lab, 4);
        flood(lab, status, 4);
        await setTimeout(200);
        assert.equal(neighbourCount(lab, 4), 0);
        lab.signal(1, "SIGSTOP");
        setSysctls(lab, {
          [`ipv4/conf/${DEVICES[4]}/arp_ignore`]: "0",
          // Loose, it refuses askers to whom no route leads, as is so with generation 3.
          "ipv4/conf/all/rp_filter": "0",
          [`ipv4/conf/${DEVICES[4]}/rp_filter`]: "0",
        });
        await until("the questions did not arrive", () => {
          flood(lab, status, 4);
          return neighbourCount(lab, 4) > 0;
        });
        lab.signal(1, "SIGCONT");
        await assertAttackArrives(lab, 4);
        await until("the daemon does not end it", () => !isTakenOver(lab));
        assert.deepEqual((await lab.ready(1)).problems, []);
      }));
  }

  test("kernel, both families: no router is believed, askers are forgotten", () =>
    withLab(2, async (lab) => {
      [1, 2].forEach((host) => giveOuterV6(lab, host));
      const backend = { Type: "vxlan", Datapath: "kernel" };
      const status = await lab.startRegistry({ ...DUAL, Backend: backend }, WITHOUT_GUARD);
      for (const family of [4, 6] as const) await assertRouterIsNotBelieved(lab, family);
      lab.signal(1, "SIGSTOP");
      await until("the questions did not arrive", () => {
        flood(lab, status, 6);
        return neighbourCount(lab, 6) > NEIGHBOUR_COUNT_MAX;
      });
      lab.signal(1, "SIGCONT");
      await until(
        "thousands of neighbours stay",
        () => neighbourCount(lab, 6) <= NEIGHBOUR_COUNT_MAX,
      );
      await assertAttackArrives(lab, 6);
    }));

  test("user space, both families: no router is believed", () =>
    withLab(2, async (lab) => {
      [1, 2].forEach((host) => giveOuterV6(lab, host));
      await lab.startRegistry(
        { ...DUAL, Backend: { Type: "vxlan", Datapath: "userspace" } },
        WITHOUT_GUARD,
      );
      const drops = (status: Status) =>
        Object.values(status.dataPlane!.drops).reduce((sum, count) => sum + count, 0);
      const before = drops(await lab.ready(1));
      for (const family of [4, 6] as const) await assertRouterIsNotBelieved(lab, family);
      // The kernel itself is told by the sysctls, should the loops ever let one through.
      const read = (name: string) => run(lab, "cat", `/proc/sys/net/ipv6/conf/${name}`).trim();
      assert.equal(read("selvage-v6.1/accept_ra"), "0");
      assert.equal(read("selvage.1/disable_ipv6"), "1");
      await lab.until(1, "the frames did not arrive", (status) => drops(status) >= before + 10);
    }));

  test("kernel: a flood of askers loses no packet of the peers", () =>
    withLab(3, async (lab) => {
      const backend = { Type: "vxlan", Datapath: "kernel" };
      const status = await lab.startRegistry({ ...NETWORK, Backend: backend }, WITHOUT_GUARD);
      await lab.startJoined(2, WITHOUT_GUARD);
      await lab.untilPeers(1, 1, 2);
      for (const host of [1, 2]) await lab.attach(host);
      const ping = lab.startPing(1, 2);
      await ping.flowing();
      for (let i = 0; i < 5; i++) {
        flood(lab, status, 4);
        await ping.flowing();
      }
      assert.deepEqual(await ping.endAndListLost(), []);
      assert.equal(neighbourCount(lab, 4), 0);
    }));

  test("udp: its device believes nobody, and has no IPv6", () =>
    withLab(1, async (lab) => {
      await lab.startRegistry({ ...NETWORK, Backend: { Type: "udp" } });
      const read = (path: string) => run(lab, "cat", `/proc/sys/net/${path}`).trim();
      assert.equal(read("ipv6/conf/selvage0/disable_ipv6"), "1");
      assert.equal(read("ipv6/conf/selvage0/accept_ra"), "0");
      assert.equal(read("ipv4/conf/selvage0/accept_redirects"), "0");
      assert.equal(read("ipv4/conf/selvage0/accept_source_route"), "0");
    }));

  test("a redirect is not obeyed", () =>
    withLab(2, async (lab) => {
      const status = await lab.startRegistry(
        { ...NETWORK, Backend: { Type: "vxlan" } },
        WITHOUT_GUARD,
      );
      const values = [3, 4].map((n) => vxlanLeaseValue(`198.18.0.${n}`, `02:00:00:00:00:0${n}`));
      const [subnet, other] = await takeLeases(lab, values);
      await lab.untilPeers(2, 1);
      const host = status.lease!.subnets[0]!.split("/")[0]!;
      const destination = `${subnet!.address.add(9n)}`;
      const gateway = `${other!.address}`;
      const forged = redirect(macOf(status, 4), {
        router: `${subnet!.address}`,
        host,
        destination,
        gateway,
      });
      const isObeyed = () => {
        attack(lab, 4, forged);
        return run(lab, "ip", "route", "get", destination).includes(gateway);
      };
      for (let i = 0; i < 5; i++) {
        assert.ok(!isObeyed());
        await setTimeout(20);
      }
      lab.signal(1, "SIGSTOP");
      setSysctls(lab, {
        "ipv4/conf/all/accept_redirects": "1",
        [`ipv4/conf/${DEVICES[4]}/accept_redirects`]: "1",
      });
      await until("the redirect did not arrive", isObeyed);
      lab.signal(1, "SIGCONT");
    }));
});
