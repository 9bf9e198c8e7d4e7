/**
 * Hosts with more than one interface, address or default route: which one carries the overlay, and
 * that it goes on doing so as long as it can.
 *
 *     host 1: eth0 198.18.0.1 --- switch --- eth0 198.18.0.N :hosts 2, 3
 *             br1  192.0.2.1 ------ eth1 192.0.2.N of host N
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { all, attachV6, giveOuterV6, outerV6 } from "./dual_stack.ts";
import { EXECUTABLE, type Lab, withLab } from "./lab.ts";

const GATEWAY = "198.18.0.254";
const OWN = "198.18.0.2";
const VIP = "198.18.0.222";
const OTHER = "198.18.7.1";
/** How long it may take until packets flow again. */
const BACK_MS = 15_000;

function pathOf({ fd }: Netns): string {
  return `/proc/${process.pid}/fd/${fd}`;
}

/** A second network of all hosts, whose bridge is host 1's second interface. */
function addSecondNetwork(lab: Lab): void {
  const { host: first } = lab.network(1);
  all(lab, first, [
    "link add br1 type bridge",
    "addr add 192.0.2.1/24 dev br1",
    "link set br1 up",
  ]);
  for (let number = 2; number <= lab.topology.hosts.length; number++) {
    const { host } = lab.network(number);
    all(lab, first, [
      `link add far${number} type veth peer name eth1 netns ${pathOf(host)}`,
      `link set far${number} master br1 up`,
    ]);
    all(lab, host, [`addr add 192.0.2.${number}/24 dev eth1`, "link set eth1 up"]);
  }
}

async function startOverlay(lab: Lab, type: string): Promise<void> {
  await lab.startRegistry({ Network: "10.210.0.0/16", Backend: { Type: type } });
  await lab.startJoined(2);
  await lab.startJoined(3);
  await lab.untilPeers(2, 1, 2, 3);
  for (const host of [1, 2, 3]) await lab.attach(host);
}

for (const type of ["udp", "vxlan"]) {
  describe(`hosts of ${type} whose public address is not the default route's`, () => {
    test("use the interface that has it, and it may be the second address there", () =>
      withLab(3, async (lab) => {
        addSecondNetwork(lab);
        const { host: third } = lab.network(3);
        all(lab, third, ["addr add 192.0.2.33/24 dev eth1"]);
        const publicAddresses = { 1: "192.0.2.1", 2: "192.0.2.2", 3: "192.0.2.33" };
        for (const [host, address] of Object.entries(publicAddresses)) {
          lab.linkFlags[Number(host)] = [`--public-ip=${address}`];
        }
        await startOverlay(lab, type);
        const names = { 1: "br1", 2: "eth1", 3: "eth1" };
        for (const host of [1, 2, 3] as const) {
          const { interface: link } = await lab.ready(host);
          assert.deepEqual([link!.name, link!.addresses[0]], [names[host], publicAddresses[host]]);
        }
        lab.assertPings([1, 2], [2, 1], [2, 3], [3, 1]);
        const { stdout } = lab.exec(third, EXECUTABLE.command, "check", "--public-ip=192.0.2.33");
        assert.match(stdout, /outer interface.*eth1, 192\.0\.2\.33/);

        // The address goes and comes back on an interface that no flag names.
        all(lab, third, ["addr del 192.0.2.33/24 dev eth1"]);
        await lab.until(
          3,
          "does not miss its public address",
          ({ problems }) =>
            problems.some((one) => one.includes("no longer has its public address")),
        );
        all(lab, third, ["addr add 192.0.2.33/32 dev eth0"]);
        await lab.until(3, "does not find it", (status) => {
          return status.ready && status.interface!.name === "eth0";
        });
      }));
  });
}

/** What appears beside an outer interface that works, and takes nothing from it. */
const ADDITIONS: Readonly<Record<string, readonly string[]>> = {
  "a default route with a better metric": [
    `route add default via ${GATEWAY} dev eth0 metric 300`,
    `route del default via ${GATEWAY} dev eth0 metric 0`,
    "route add default via 192.0.2.254 dev eth1 metric 50",
  ],
  "a penalty for its own default route": [
    `route add default via ${GATEWAY} dev eth0 metric 20300`,
    `route del default via ${GATEWAY} dev eth0 metric 300`,
  ],
  "a second address": [`addr add ${VIP}/24 dev eth0`],
  "an address of another prefix": [`addr add ${OTHER}/32 dev eth0`],
};

function isThere(lab: Lab, address: string) {
  return lab.until(
    2,
    `not at ${address}`,
    (status) => status.ready && status.interface!.addresses[0] === address,
  );
}

/** Applies all that must not move host 2, while it pings host 3. */
async function addAll(lab: Lab): Promise<void> {
  const { host } = lab.network(2);
  const ping = lab.startPing(2, 3);
  await ping.flowing();
  for (const [what, commands] of Object.entries(ADDITIONS)) {
    all(lab, host, commands);
    await ping.flowing(20);
    const { interface: link } = await isThere(lab, OWN);
    assert.deepEqual([link!.name, link!.publicAddresses[0]], ["eth0", OWN], what);
  }
  assert.deepEqual(await ping.endAndListLost(), []);
}

const STAYING: readonly [type: string, linkFlags: readonly string[], isStoreAway: boolean][] = [
  ["udp", [], false],
  ["vxlan", [], true],
  ["udp", ["--iface-regex=^eth1$", "--iface-regex=^eth"], true],
];

for (const [type, linkFlags, isStoreAway] of STAYING) {
  const how = `${type}, ${linkFlags.join(" ") || "no flags"}`;
  const store = isStoreAway ? " while the registry is away" : "";
  test(`a host keeps its interface and address as long as it can (${how})${store}`, () =>
    withLab(3, async (lab) => {
      const { host } = lab.network(2);
      lab.linkFlags[2] = linkFlags;
      const isRegex = linkFlags.length > 0;
      if (!isRegex) addSecondNetwork(lab);
      await startOverlay(lab, type);
      const { subnets } = (await isThere(lab, OWN)).lease!;
      if (isRegex) addSecondNetwork(lab);
      if (isStoreAway) await lab.kill(1);
      await addAll(lab);

      // Its own address goes and comes back, behind the others.
      withNetns(host, () => {
        writeFileSync("/proc/sys/net/ipv4/conf/eth0/promote_secondaries", "1");
      });
      all(lab, host, [`addr del ${OWN}/24 dev eth0`]);
      await setTimeout(200);
      all(lab, host, [`addr add ${OWN}/24 dev eth0`]);
      await setTimeout(1_500);
      await isThere(lab, OWN);
      await lab.untilPing(2, 3, performance.now() + BACK_MS);
      assert.doesNotMatch(lab.log(2), /outer interface eth\d has changed/);

      // It is gone for good.
      all(lab, host, [`addr del ${OTHER}/32 dev eth0`, `addr del ${OWN}/24 dev eth0`]);
      if (isStoreAway) {
        // The other hosts cannot know the new address yet, so their packets do not arrive.
        const { ready, problems } = await lab.until(2, `not at ${VIP}`, (status) => {
          return status.phase === "ready" && status.interface!.addresses[0] === VIP;
        });
        assert.ok(!ready);
        const told = new RegExp(`packets to ${OWN}, but its address is ${VIP} now`);
        assert.match(problems.join("\n"), told);
      } else {
        await isThere(lab, VIP);
      }
      assert.match(lab.log(2), new RegExp(`has changed: address ${VIP} instead of ${OWN}`));
      if (isStoreAway) return;
      await lab.until(3, "does not see the new address", ({ peers }) => {
        return peers.some(({ publicAddresses }) => publicAddresses[0] === VIP);
      });
      await lab.untilPing(2, 3, performance.now() + BACK_MS);

      // A restart keeps it, though another would be chosen today.
      all(lab, host, [`addr add ${OWN}/32 dev eth0`]);
      await lab.stop(2);
      const { interface: link, lease } = await lab.startJoined(2);
      assert.deepEqual([link!.name, link!.addresses[0]], ["eth0", VIP]);
      assert.deepEqual(lease!.subnets, subnets);
      await lab.untilPing(2, 3, performance.now() + BACK_MS);
    }));
}

test("a new IPv6 address moves no host, and one that is given names the interface", () =>
  withLab(2, async (lab) => {
    const { host } = lab.network(2);
    const own = `${outerV6(2)}`;
    const other = "2001:db8::77";
    lab.linkFlags[2] = [];
    for (const number of [1, 2]) giveOuterV6(lab, number);
    await lab.startRegistry({
      Network: "10.210.0.0/16",
      EnableIPv6: true,
      IPv6Network: "fc00::/48",
      Backend: { Type: "vxlan" },
    });
    await lab.startJoined(2);
    await lab.untilPeers(1, 1, 2);
    const inner = new Map<number, IpAddress>();
    for (const number of [1, 2]) {
      await lab.attach(number);
      const { lease } = await lab.ready(number);
      inner.set(number, attachV6(lab, number, IpPrefix.parse(lease!.subnets[1]!)));
    }
    const until = (address: string) =>
      lab.until(2, `not at ${address}`, (status) => {
        return status.ready && status.interface!.addresses[1] === address;
      });
    lab.assertAnswered(2, inner.get(1)!);

    // The kernel lists the newest first.
    all(lab, host, [`-6 addr add ${other}/64 dev eth0 nodad`]);
    await setTimeout(1_500);
    await until(own);
    lab.assertAnswered(2, inner.get(1)!);
    all(lab, host, [`-6 addr del ${own}/64 dev eth0`]);
    await setTimeout(200);
    all(lab, host, [`-6 addr add ${own}/64 dev eth0 nodad`]);
    await setTimeout(1_500);
    await until(own);
    assert.doesNotMatch(lab.log(2), /outer interface eth\d has changed/);
    all(lab, host, [`-6 addr del ${own}/64 dev eth0`]);
    await until(other);
    await lab.untilAnswered(2, inner.get(1)!, performance.now() + BACK_MS);

    await lab.stop(2);
    addSecondNetwork(lab);
    all(lab, host, ["-6 addr add 2001:db8:1::2/64 dev eth1 nodad"]);
    lab.linkFlags[2] = ["--public-ipv6=2001:db8:1::2"];
    const { interface: link } = await lab.startJoined(2);
    assert.deepEqual([link!.name, link!.addresses], ["eth1", ["192.0.2.2", "2001:db8:1::2"]]);
  }));
