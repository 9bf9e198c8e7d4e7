/**
 * What comes out of a userspace tunnel, and what goes into it: packets that must not arrive are
 * dropped and counted, whoever sent them. Host 3 is an attacker who writes host 2's outer address
 * into its datagrams; no credentials are needed for that.
 */
import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import { describe, test } from "node:test";
import { closeFd } from "../../ffi/fd.ts";
import { check, libc } from "../../ffi/libc.ts";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import { openRawSocket } from "../../ffi/raw_socket.ts";
import { sockaddrOf } from "../../ffi/socket_address.ts";
import { openUdpSocket } from "../../ffi/udp_socket.ts";
import type { Status } from "../../src/agent/status.ts";
import { type Family, IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { flow, UDP, wirePacket } from "../wasm/flows.ts";
import { packet } from "../wasm/packets.ts";
import { attachV6, giveOuterV6, outerV6 } from "./dual_stack.ts";
import { type Lab, withLab } from "./lab.ts";

const LISTEN_PORT = 7777;
const TIMEOUT_MS = 20_000;

const USERSPACE_VXLAN = { Type: "vxlan", Datapath: "userspace" };
const BACKENDS: readonly (readonly [name: string, options: Record<string, unknown>, Family])[] = [
  ["udp", { Type: "udp" }, 4],
  ["vxlan in user space", USERSPACE_VXLAN, 4],
  ["vxlan in user space", USERSPACE_VXLAN, 6],
];

/** A UDP packet to `LISTEN_PORT` that says what it is. */
function datagram(from: string, to: string, text: string): Uint8Array {
  const data = new TextEncoder().encode(text);
  if (from.includes(":")) {
    const ports = 9999 * 65_536 + LISTEN_PORT;
    return wirePacket(flow({ family: 6, protocol: UDP, from, to, ports, payload: data }));
  }
  const payload = new Uint8Array(8 + data.length);
  const view = new DataView(payload.buffer);
  view.setUint16(0, 9999);
  view.setUint16(2, LISTEN_PORT);
  view.setUint16(4, payload.length);
  payload.set(data, 8);
  return packet({ from, to, payload });
}

function run(lab: Lab, netns: Netns, script: string): void {
  const { status, stderr } = lab.exec(netns, "sh", "-ec", script);
  assert.equal(status, 0, stderr);
}

/** Sends by a socket, or a raw one; `to` is 4 or 16 bytes. */
function sendTo(fd: number, bytes: Uint8Array, to: Uint8Array, port: number): void {
  const { name } = sockaddrOf(to, port);
  check(libc.sendto(fd, bytes, bytes.length, 0, name, name.length), "send");
}

/** The outer address of a host. */
function outerOf(lab: Lab, host: number, family: Family): IpAddress {
  return family === 4 ? lab.network(host).outerAddress : outerV6(host);
}

/** Sends datagrams to host 1's tunnel of a family as if they came from host 2. */
class Attacker {
  readonly #fd: number;
  constructor(
    private readonly lab: Lab,
    private readonly status: Status,
    private readonly family: Family,
  ) {
    const { host } = lab.network(3);
    const forged = outerOf(lab, 2, family);
    // Host 1 is not to learn from ARP that host 2 has moved: the attacker is not seen by it.
    run(
      lab,
      host,
      "echo 8 > /proc/sys/net/ipv4/conf/all/arp_ignore; " +
        "echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce; " +
        `ip addr add ${forged}/${family === 4 ? "32 dev lo" : "128 dev lo nodad"}`,
    );
    this.#fd = withNetns(host, () => openUdpSocket(forged.toBytes(), 40_000));
  }

  send(inner: Uint8Array): void {
    const tunnel = this.status.backend!.tunnels.find(({ family }) => family === this.family)!;
    const { port, vni, vtepMac } = tunnel;
    const to = outerOf(this.lab, 1, this.family).toBytes();
    if (vni === null) return sendTo(this.#fd, inner, to, port);
    const frame = new Uint8Array(22 + inner.length);
    frame[0] = 8;
    new DataView(frame.buffer).setUint32(4, vni * 256);
    frame.set(MacAddress.parse(vtepMac!).toBytes(), 8);
    frame.set([2, 0, 0, 0, 0, 1, ...(this.family === 4 ? [0x08, 0x00] : [0x86, 0xdd])], 14);
    frame.set(inner, 22);
    sendTo(this.#fd, frame, to, port);
  }

  close(): void {
    closeFd(this.#fd);
  }
}

/** What arrives at `LISTEN_PORT` of some namespaces, wherever it was sent to. */
class Listeners {
  readonly texts: string[] = [];
  readonly #fds: readonly number[];
  readonly #buffer = new Uint8Array(2048);
  constructor(namespaces: readonly Netns[], family: Family) {
    const any = IpAddress.parse(family === 4 ? "0.0.0.0" : "::").toBytes();
    this.#fds = namespaces.map((netns) => withNetns(netns, () => openUdpSocket(any, LISTEN_PORT)));
  }

  /** Reads until all of these have come, however long that takes, and nothing more comes. */
  async until(...wanted: string[]): Promise<void> {
    const end_ms = performance.now() + TIMEOUT_MS;
    while (!wanted.every((text) => this.texts.includes(text))) {
      assert.ok(performance.now() < end_ms, `only ${this.texts.join()} of ${wanted.join()} came`);
      this.#read();
      await setTimeout(10);
    }
    this.#read();
  }

  #read(): void {
    for (const fd of this.#fds) {
      const receive = () => libc.recv(fd, this.#buffer, this.#buffer.length, 0);
      for (let size = receive(); size >= 0; size = receive()) {
        this.texts.push(new TextDecoder().decode(this.#buffer.subarray(0, size)));
      }
    }
  }

  close(): void {
    for (const fd of this.#fds) closeFd(fd);
  }
}

async function drops(lab: Lab, host: number): Promise<Readonly<Record<string, number>>> {
  return (await lab.host(host).status())!.dataPlane!.drops;
}

interface Attack {
  readonly from: string;
  readonly to: string;
  readonly reason: string;
}

/** Subnets of hosts 1 and 2, as an address begins in them: `10.210.7.`, `fc00:0:0:7::`. */
interface Subnets {
  readonly ours: string;
  readonly theirs: string;
}

/** Addresses by what they are, of one family. */
const ADDRESSES = {
  4: {
    outside: "203.0.113.9",
    nobodys: "10.210.250.9",
    specialTo: ["127.0.0.1", "127.9.9.9", "224.0.0.1", "255.255.255.255", "0.0.0.0", "240.0.0.1"],
    specialFrom: ["127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", "169.254.1.1"],
  },
  6: {
    outside: "2001:db8:9::9",
    nobodys: "fc00:0:0:ffff::9",
    specialTo: ["::1", "ff02::1", "ff0e::1", "fe80::1", "::", "::ffff:127.0.0.1"],
    specialFrom: ["::1", "ff02::1", "::", "fe80::1", "::ffff:127.0.0.1"],
  },
} as const;

function attacksOnHost1(lab: Lab, family: Family, { ours, theirs }: Subnets): readonly Attack[] {
  const { outside, nobodys, specialTo, specialFrom } = ADDRESSES[family];
  const good = { from: `${theirs}2`, to: `${ours}2` };
  const outer = (host: number) => String(outerOf(lab, host, family));
  const broadcast = family === 4 ? [`${ours}255`] : [];
  const toAll = (all: readonly string[], reason: string) =>
    all.map((to) => ({ ...good, to, reason }));
  const fromAll = (all: readonly string[], reason: string) =>
    all.map((from) => ({ ...good, from, reason }));
  return [
    ...toAll([...specialTo, ...broadcast], "ingress_special_address"),
    ...fromAll(specialFrom, "ingress_special_address"),
    ...toAll([outer(1), outer(2), outside, `${theirs}2`], "ingress_destination_not_ours"),
    ...fromAll([`${ours}3`, nobodys], "ingress_source_spoofed"),
    ...fromAll([outside, outer(1)], "ingress_source_outside"),
  ];
}

async function assertAttacksFail(lab: Lab, family: Family, subnets: Subnets): Promise<void> {
  const { ours, theirs } = subnets;
  const status = (await lab.host(1).status())!;
  const attacker = new Attacker(lab, status, family);
  const networks = [1, 2].map((host) => lab.network(host));
  const listeners = new Listeners(
    networks.flatMap(({ host, container }) => [host, container]),
    family,
  );
  const device = family === 4 ? `${ours}0` : ours;
  const theirDevice = family === 4 ? `${theirs}0` : theirs;
  try {
    const before = await drops(lab, 1);
    const attacks = attacksOnHost1(lab, family, subnets);
    for (const { from, to } of attacks) attacker.send(datagram(from, to, `${from} to ${to}`));
    // What a peer may send arrives, from the same socket and behind all of the rest.
    attacker.send(datagram(`${theirs}2`, device, "to the host"));
    attacker.send(datagram(theirDevice, `${ours}2`, "to the container"));
    attacker.send(datagram(String(outerOf(lab, 2, family)), `${ours}2`, "from the host"));
    const right = ["to the host", "to the container", "from the host"];
    await listeners.until(...right);
    assert.deepEqual(listeners.texts.toSorted(), right.toSorted(), "nothing else arrives");
    const after = await drops(lab, 1);
    for (const reason of new Set(attacks.map((attack) => attack.reason))) {
      const expected = attacks.filter((attack) => attack.reason === reason).length;
      assert.equal(after[reason]! - before[reason]!, expected, reason);
    }
  } finally {
    attacker.close();
    listeners.close();
  }
}

/** Sends packets with forged sources from host 2's container. */
async function assertForgeriesStay(lab: Lab, family: Family, subnets: Subnets): Promise<void> {
  const { ours, theirs } = subnets;
  const { outside, nobodys } = ADDRESSES[family];
  const { container } = lab.network(2);
  const listeners = new Listeners([lab.network(1).host, lab.network(1).container], family);
  const fd = withNetns(container, () => openRawSocket(family));
  const send = (from: string, text: string) => {
    const to = `${ours}2`;
    sendTo(fd, datagram(from, to, text), IpAddress.parse(to).toBytes(), 0);
  };
  try {
    const before = await drops(lab, 2);
    for (const from of [`${ours}7`, nobodys, outside]) send(from, from);
    send(`${theirs}2`, "right");
    await listeners.until("right");
    assert.deepEqual(listeners.texts, ["right"]);
    const after = await drops(lab, 2);
    for (const [reason, count] of [["egress_source_spoofed", 2], ["egress_source_outside", 1]]) {
      assert.equal(after[reason!]! - before[reason!]!, count, `${reason}`);
    }
  } finally {
    closeFd(fd);
    listeners.close();
  }
}

async function start(lab: Lab, backend: Record<string, unknown>, isDual = false): Promise<void> {
  const ipv6 = isDual ? { EnableIPv6: true, IPv6Network: "fc00::/48" } : {};
  if (isDual) [1, 2, 3].forEach((host) => giveOuterV6(lab, host));
  await lab.startRegistry({ Network: "10.210.0.0/16", ...ipv6, Backend: backend });
  await lab.startJoined(2);
  await lab.untilPeers(1, 1, 2);
  for (const host of [1, 2]) await lab.attach(host);
  lab.assertPings([1, 2], [2, 1]);
}

/** Gives containers IPv6 addresses too, where the hosts have such subnets. */
async function subnetsOf(lab: Lab, family: Family): Promise<Subnets> {
  const [ours, theirs] = await Promise.all([1, 2].map(async (host) => {
    const { lease } = (await lab.host(host).status())!;
    const subnet = IpPrefix.parse(lease!.subnets[family === 4 ? 0 : 1]!);
    if (family === 4) return String(subnet.address).replace(/0$/, "");
    attachV6(lab, host, subnet);
    return String(subnet.address);
  }));
  return { ours: ours!, theirs: theirs! };
}

describe("what a tunnel must not carry", () => {
  for (const [name, backend, family] of BACKENDS) {
    test(`${name}, IPv${family}: forged packets arrive nowhere, and regular ones do`, () =>
      withLab(3, async (lab) => {
        // The guard is off and the kernel is made to let everything pass: what holds the packets
        // back is the tunnel.
        lab.env["SELVAGE_GUARD"] = "false";
        await start(lab, backend, family === 6);
        const subnets = await subnetsOf(lab, family);
        for (const host of [1, 2]) {
          const set = (value: number, name: string) =>
            `for f in /proc/sys/net/ipv4/conf/*/${name}; do echo ${value} > $f; done; `;
          run(lab, lab.network(host).host, set(1, "route_localnet") + set(0, "rp_filter"));
        }
        await assertAttacksFail(lab, family, subnets);
        await assertForgeriesStay(lab, family, subnets);
        lab.assertPings([1, 2], [2, 1]);
      }));
  }
});

for (const Datapath of ["userspace", "kernel"]) {
  test(`vxlan, ${Datapath}: no container passes for its host, which IPv6 would forward`, () =>
    withLab(3, async (lab) => {
      await start(lab, { Type: "vxlan", Datapath }, true);
      const { ours, theirs } = await subnetsOf(lab, 6);
      const { host, container } = lab.network(1);
      const listeners = new Listeners([host, container], 6);
      const fd = withNetns(lab.network(2).container, () => openRawSocket(6));
      const to = IpAddress.parse(`${ours}2`);
      try {
        for (const from of [`${outerV6(2)}`, `${theirs}2`]) {
          sendTo(fd, datagram(from, `${to}`, from), to.toBytes(), 0);
        }
        await listeners.until(`${theirs}2`);
        assert.deepEqual(listeners.texts, [`${theirs}2`]);
        assert.match(lab.run(2, ["status"]).stdout, /^guard_source_not_own +1$/m);
        // The host itself may.
        const own = withNetns(lab.network(2).host, () => openUdpSocket(outerV6(2).toBytes(), 0));
        sendTo(own, new TextEncoder().encode("host"), to.toBytes(), LISTEN_PORT);
        closeFd(own);
        await listeners.until("host");
      } finally {
        closeFd(fd);
        listeners.close();
      }
    }));
}

test("a router translates a peer's address: both sides say so, and a switch accepts it", () =>
  withLab(2, async (lab) => {
    await start(lab, { Type: "udp" });
    const translated = "198.18.0.99";
    run(
      lab,
      lab.network(1).host,
      `ip addr add ${translated}/32 dev eth0; nft add table ip router; ` +
        "nft add chain ip router out '{ type nat hook postrouting priority 300; }'; " +
        `nft add rule ip router out udp dport 8285 snat to ${translated}:8285`,
    );
    // The kernel translates new flows only: the tunnel's begins anew with the daemon.
    await lab.stop(2);
    await lab.startJoined(2);
    await lab.stop(1);
    await lab.startRegistry();
    await lab.untilPeers(1, 1, 2);
    for (let i = 0; i < 5; i++) assert.equal(lab.ping(1, lab.containers[1]!, 0.2), false);
    const isNamed = ({ notices }: Status) => notices.some((text) => text.includes(translated));
    const { notices, dataPlane } = await lab.until(2, "does not name the router", isNamed);
    assert.ok(dataPlane!.drops["ingress_source_not_peer"]! >= 5);
    assert.match(notices.join(), /peer 10\.210\..* come from 198\.18\.0\.99 .* 198\.18\.0\.1\. /);
    assert.match(notices.join(), /--public-ip=198\.18\.0\.99.*--trust-underlay/);
    await lab.stop(2);
    await lab.startJoined(2, ["--trust-underlay"]);
    await lab.untilPeers(1, 1, 2);
    await lab.untilPing(1, 2);
    assert.match(lab.run(2, ["status"]).stdout, /^Accepts .*--trust-underlay/m);
    assert.ok((await lab.host(2).status())!.peers[0]!.receivedPackets > 0, "credited to its peer");
  }));
