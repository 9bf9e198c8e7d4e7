/**
 * What is not ours: on the host it stays as it is, whatever we do there; and what others have done
 * wrong, on the host or in their leases, is named in the status and harms nobody else.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { closeFd } from "../../ffi/fd.ts";
import { withNetns } from "../../ffi/netns.ts";
import { openUdpSocket } from "../../ffi/udp_socket.ts";
import type { Status } from "../../src/agent/status.ts";
import { ip } from "./dual_stack.ts";
import { difference, takePicture } from "./kernel_picture.ts";
import { type Lab, withLab } from "./lab.ts";
import { NamespaceShell } from "./namespace_shell.ts";
import { takeLeases, vxlanLeaseValue } from "./simulated_peers.ts";

const NETWORK = "10.210.0.0/16";
const VXLAN = { Network: NETWORK, SubnetMax: "10.210.99.0", Backend: { Type: "vxlan" } };
const HOST_GW = { ...VXLAN, Backend: { Type: "host-gw" } };
const VXLAN_PORT = 8472;
const MAC = "02:00:00:00:00:77";

/** What a host has that serves for more than containers. */
const FURNITURE = [
  "ip link add br7 address 02:00:5e:10:00:07 type bridge",
  "ip link set br7 up",
  "ip addr add 192.0.2.1/24 dev br7",
  "ip -6 addr add 2001:db8:7::1/64 dev br7 nodad",
  `ip link add flannel.1 address ${MAC} mtu 1400 type vxlan id 9 local 198.18.0.1 dev eth0 ` +
  `dstport ${VXLAN_PORT} nolearning`,
  "ip addr add 10.244.3.0/32 dev flannel.1",
  "ip link set flannel.1 up",
  "ip route add 10.244.4.0/24 via 10.244.4.0 dev flannel.1 onlink",
  `ip neigh add 10.244.4.0 lladdr ${MAC} dev flannel.1 nud permanent`,
  `bridge fdb append ${MAC} dev flannel.1 dst 198.18.0.9 self permanent`,
  "bridge fdb append 00:00:00:00:00:00 dev flannel.1 dst 198.18.0.9 self permanent",
  "ip nexthop add id 5 via 198.18.0.77 dev eth0",
  "ip route add 10.67.0.0/16 nhid 5",
  "ip route add 10.66.0.0/16 via 192.0.2.9 proto static",
  "ip route add blackhole 10.210.200.0/24",
  "ip route add 10.210.201.0/24 via 192.0.2.9 metric 50",
  "ip route add 10.210.0.0/16 dev br7 table 77 proto 83",
  "ip -6 route add fc66::/16 via 2001:db8:7::9",
  "ip rule add from 10.66.0.0/16 table 77",
  "ip -6 rule add from fc66::/16 table 77",
  `ip neigh add 192.0.2.9 lladdr ${MAC} dev br7 nud permanent`,
  "nft add table ip nat",
  "nft 'add chain ip nat postrouting { type nat hook postrouting priority 100; }'",
  "nft add rule ip nat postrouting ip saddr 10.66.0.0/16 masquerade",
  "nft add table inet selvage",
  "nft 'add chain inet selvage forward { type filter hook forward priority 10; }'",
  "nft add rule inet selvage forward counter accept",
];

test("a full life leaves everything on the host as it was", () =>
  withLab(2, async (lab) => {
    const shell = new NamespaceShell(lab.network(1).host);
    assert.equal(await shell.run(FURNITURE.join("\n")), "");
    const before = await takePicture(shell);
    const assertAllThere = async (when: string) => {
      const now = new Set(await takePicture(shell));
      assert.deepEqual(before.filter((line) => !now.has(line)), [], when);
    };
    await lab.startRegistry(VXLAN, ["--ip-masq"]);
    await lab.startJoined(2, ["--release-on-exit"]);
    await lab.untilPeers(1, 1, 2);
    await assertAllThere("vxlan");
    await lab.stop(1);
    await assertAllThere("vxlan, stopped");
    await lab.startRegistry(HOST_GW);
    await assertAllThere("host-gw");
    await lab.stop(2);
    await lab.startJoined(2);
    await lab.untilPeers(1, 1, 2);
    await assertAllThere("host-gw with a peer");
    await lab.kill(1);
    await lab.startRegistry(HOST_GW, ["--ip-masq", "--release-on-exit"]);
    await lab.untilPeers(1, 1);
    await lab.stop(1);
    const after = await takePicture(shell);
    assert.deepEqual(after, before, difference(before, after));
    await shell.end();
  }));

/**
 * Host 1 of vxlan with something in its way, which is then removed. It must say so, publish no
 * lease that names a device which cannot exist, and recover.
 */
async function assertNamed(lab: Lab, text: RegExp, remove: () => void): Promise<void> {
  lab.launchRegistry(VXLAN);
  const isNamed = ({ waitingFor }: Status) => text.test(waitingFor ?? "");
  const { ready, lease } = await lab.until(1, `does not name ${text}`, isNamed);
  assert.deepEqual([ready, lease], [false, null]);
  const leases = lab.run(1, ["leases", "list", "--json"]);
  assert.deepEqual(JSON.parse(leases.stdout), [], "a lease is published");
  const { stdout } = lab.run(1, ["status"]);
  assert.match(stdout, text);
  assert.match(lab.log(1), text);
  remove();
  await lab.ready(1);
  await lab.startJoined(2);
  await lab.untilPeers(1, 1, 2);
  await lab.attach(1);
  await lab.attach(2);
  lab.assertPings([1, 2]);
}

describe("what is in the way on the host", () => {
  test("a bridge of our device's name", () =>
    withLab(2, async (lab) => {
      const { host } = lab.network(1);
      ip(lab, host, "link add selvage.1 type bridge");
      await assertNamed(lab, /device selvage\.1 is not ours: it is bridge, not vxlan/, () => {
        const { stdout } = lab.exec(host, "ip", "-br", "-d", "link", "show", "type", "bridge");
        assert.match(stdout, /selvage\.1 +DOWN/);
        ip(lab, host, "link del selvage.1");
      });
    }));

  test("another device with our VNI and port", () =>
    withLab(2, async (lab) => {
      const { host } = lab.network(1);
      ip(lab, host, `link add flannel.1 type vxlan id 1 dstport ${VXLAN_PORT} dev eth0`);
      await assertNamed(
        lab,
        /VNI 1 on port 8472 is in use by device flannel\.1; .*clean --flannel/,
        () => {
          ip(lab, host, "link del flannel.1");
        },
      );
    }));

  test("a program that has our UDP port", () =>
    withLab(2, async (lab) => {
      const any = new Uint8Array(4);
      const fd = withNetns(lab.network(1).host, () => openUdpSocket(any, VXLAN_PORT));
      await assertNamed(lab, /UDP port 8472 is in use/, () => closeFd(fd));
    }));
});

/** Each lease that cannot be served, by its subnet, and what the status must say of it. */
async function assertSkipped(
  lab: Lab,
  rows: readonly (readonly [subnet: string, reason: RegExp])[],
): Promise<void> {
  const hasAll = ({ skippedPeers }: Status) => skippedPeers.length === rows.length;
  const { skippedPeers } = await lab.until(1, `does not skip ${rows.length} peers`, hasAll);
  const { stdout } = lab.run(1, ["status"]);
  for (const [subnet, reason] of rows) {
    const key = subnet.replace("/", "-");
    const skipped = skippedPeers.find((peer) => peer.key === key);
    assert.ok(skipped, `${subnet} is not among ${JSON.stringify(skippedPeers)}`);
    assert.match(skipped.reason, reason);
    assert.ok(stdout.includes(`Skipped ${key}: ${skipped.reason}`), stdout);
    assert.ok(lab.log(1).includes(`peer ${key} is left out: ${skipped.reason}`), lab.log(1));
  }
}

/** A reservation for host 1 itself is no peer that is left out. */
async function assertOwnReservation(lab: Lab, subnet: string): Promise<void> {
  const own = `${subnet} is reserved for this host, which uses `;
  const hasNotice = ({ notices }: Status) => notices.some((notice) => notice.startsWith(own));
  const { peers, skippedPeers } = await lab.until(1, "does not say whose it is", hasNotice);
  const key = subnet.replace("/", "-");
  assert.ok(![...peers, ...skippedPeers].some((peer) => peer.key === key));
}

/** A subnet for an address that has another one already, or none. */
function reserve(lab: Lab, subnet: string, publicAddress: string): void {
  const reserved = lab.run(1, ["leases", "reserve", subnet, `--public-ip=${publicAddress}`]);
  assert.equal(reserved.status, 0, reserved.stderr);
}

describe("leases that cannot be served; the others are", () => {
  test("vxlan", () =>
    withLab(2, async (lab) => {
      await lab.startRegistry(VXLAN);
      await lab.startJoined(2);
      const texts = [
        vxlanLeaseValue("198.18.0.101", "02:00:00:00:01:01"),
        vxlanLeaseValue("198.18.0.102", "not a MAC"),
        vxlanLeaseValue("198.18.0.103", "01:00:5e:00:00:01"),
        vxlanLeaseValue("198.18.0.104", "02:00:00:00:01:04").replace('"VNI":1', '"VNI":7'),
        vxlanLeaseValue("198.18.0.105", "02:00:00:00:01:05").replace('"vxlan"', '"udp"'),
      ];
      const [good, ...bad] = (await takeLeases(lab, texts)).map(String);
      const [twinA, twinB] = (await takeLeases(lab, [
        vxlanLeaseValue("198.18.0.111", "02:00:00:00:02:01"),
        vxlanLeaseValue("198.18.0.112", "02:00:00:00:02:01"),
      ])).sort((a, b) => a.compare(b)).map(String);
      reserve(lab, "10.210.200.0/24", "198.18.0.1");
      await assertSkipped(lab, [
        [bad[0]!, /VtepMAC "not a MAC" in its BackendData is not a VTEP's/],
        [bad[1]!, /VtepMAC "01:00:5e:00:00:01" in its BackendData is not a VTEP's/],
        [bad[2]!, /its VNI is 7, ours is 1/],
        [bad[3]!, /its backend is udp, ours is vxlan/],
        [twinB!, new RegExp(`it has the VtepMAC 02:00:00:00:02:01 of ${twinA!.replace("/", "-")}`)],
      ]);
      await assertOwnReservation(lab, "10.210.200.0/24");
      const { host } = lab.network(1);
      const show = ["route", "show", "type", "unicast", "proto", "83"];
      const routes = lab.exec(host, "ip", ...show).stdout;
      const second = (await lab.ready(2)).lease!.subnets[0]!;
      assert.deepEqual(
        routes.trim().split("\n").map((line) => line.split(" ")[0]).sort(),
        [good, twinA, second].sort(),
      );
      await lab.attach(1);
      await lab.attach(2);
      lab.assertPings([1, 2]);
    }));

  test("host-gw", () =>
    withLab(2, async (lab) => {
      await lab.startRegistry(HOST_GW);
      await lab.startJoined(2);
      reserve(lab, "10.210.200.0/24", "203.0.113.9");
      reserve(lab, "10.210.201.0/24", "198.18.0.1");
      reserve(lab, "10.210.202.0/24", "198.18.0.99");
      // Nobody is there, but it is on the link: the kernel takes the route.
      await takeLeases(lab, [JSON.stringify({ PublicIP: "198.18.0.98", BackendType: "host-gw" })]);
      await assertSkipped(lab, [
        ["10.210.200.0/24", /its address 203\.0\.113\.9 is not on the link of eth0/],
        ["10.210.202.0/24", /it is reserved, and its host has not come yet/],
      ]);
      await assertOwnReservation(lab, "10.210.201.0/24");
      await lab.untilPeers(2, 1);
      await lab.attach(1);
      await lab.attach(2);
      lab.assertPings([1, 2]);
    }));
});
