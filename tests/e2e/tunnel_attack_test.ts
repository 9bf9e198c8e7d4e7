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
import { sockaddrIn } from "../../ffi/socket_address.ts";
import type { Status } from "../../src/agent/status.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { packet } from "../wasm/packets.ts";
import { BarePeer } from "./bare_peer.ts";
import { type Lab, withLab } from "./lab.ts";

const LISTEN_PORT = 7777;
const OUTSIDE = "203.0.113.9";
const TIMEOUT_MS = 20_000;

const BACKENDS: readonly (readonly [name: string, options: Record<string, unknown>])[] = [
  ["udp", { Type: "udp" }],
  ["vxlan in user space", { Type: "vxlan", Datapath: "userspace" }],
];

/** A UDP packet to `LISTEN_PORT` that says what it is. */
function datagram(from: string, to: string, text: string): Uint8Array {
  const data = new TextEncoder().encode(text);
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

/** Sends datagrams to host 1's tunnel as if they came from host 2. */
class Attacker {
  readonly #socket: BarePeer;
  constructor(private readonly lab: Lab, private readonly status: Status) {
    const { host } = lab.network(3);
    const forged = lab.network(2).outerAddress;
    // Host 1 is not to learn from ARP that host 2 has moved: the attacker is not seen by it.
    run(
      lab,
      host,
      "echo 8 > /proc/sys/net/ipv4/conf/all/arp_ignore; " +
        "echo 2 > /proc/sys/net/ipv4/conf/all/arp_announce; " +
        `ip addr add ${forged}/32 dev lo`,
    );
    this.#socket = new BarePeer(host, forged, 40_000);
  }

  send(inner: Uint8Array): void {
    const { port, vni, vtepMac } = this.status.backend!.tunnels[0]!;
    const to = this.lab.network(1).outerAddress;
    if (vni === null) return this.#socket.send(to, port, inner);
    const frame = new Uint8Array(22 + inner.length);
    frame[0] = 8;
    new DataView(frame.buffer).setUint32(4, vni * 256);
    frame.set(MacAddress.parse(vtepMac!).toBytes(), 8);
    frame.set([2, 0, 0, 0, 0, 1, 8, 0], 14);
    frame.set(inner, 22);
    this.#socket.send(to, port, frame);
  }

  close(): void {
    this.#socket.close();
  }
}

/** What arrives at `LISTEN_PORT` of some namespaces, wherever it was sent to. */
class Listeners {
  readonly texts: string[] = [];
  readonly #sockets: BarePeer[];
  constructor(namespaces: readonly Netns[]) {
    const any = IpAddress.parse("0.0.0.0");
    this.#sockets = namespaces.map((netns) => new BarePeer(netns, any, LISTEN_PORT));
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
    for (const socket of this.#sockets) {
      for (let next = socket.receive(0); next !== null; next = socket.receive(0)) {
        this.texts.push(new TextDecoder().decode(next));
      }
    }
  }

  close(): void {
    for (const socket of this.#sockets) socket.close();
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

/** `theirs` and `ours` begin the subnets of hosts 2 and 1, such as 10.210.7. */
function attacksOnHost1(lab: Lab, theirs: string, ours: string): readonly Attack[] {
  const good = { from: `${theirs}.2`, to: `${ours}.2` };
  const special = "ingress_special_address";
  const destinations = ["127.0.0.1", "127.9.9.9", "224.0.0.1", "255.255.255.255", "0.0.0.0"];
  const sources = ["127.0.0.1", "224.0.0.1", "255.255.255.255", "0.0.0.0", "169.254.1.1"];
  const outer = (host: number) => String(lab.network(host).outerAddress);
  return [
    ...[...destinations, `${ours}.255`, "240.0.0.1"].map((to) => ({
      ...good,
      to,
      reason: special,
    })),
    ...sources.map((from) => ({ ...good, from, reason: special })),
    ...[outer(1), outer(2), OUTSIDE, `${theirs}.2`].map((to) => ({
      ...good,
      to,
      reason: "ingress_destination_not_ours",
    })),
    ...[`${ours}.3`, "10.210.250.9"].map((from) => ({
      ...good,
      from,
      reason: "ingress_source_spoofed",
    })),
    ...[OUTSIDE, outer(1)].map((from) => ({ ...good, from, reason: "ingress_source_outside" })),
  ];
}

async function assertAttacksFail(lab: Lab, theirs: string, ours: string): Promise<void> {
  const status = (await lab.host(1).status())!;
  const attacker = new Attacker(lab, status);
  const networks = [1, 2].map((host) => lab.network(host));
  const listeners = new Listeners(networks.flatMap(({ host, container }) => [host, container]));
  try {
    const before = await drops(lab, 1);
    const attacks = attacksOnHost1(lab, theirs, ours);
    for (const { from, to } of attacks) attacker.send(datagram(from, to, `${from} to ${to}`));
    // What a peer may send arrives, from the same socket and behind all of the rest.
    attacker.send(datagram(`${theirs}.2`, `${ours}.0`, "to the host"));
    attacker.send(datagram(`${theirs}.0`, `${ours}.2`, "to the container"));
    attacker.send(datagram(String(lab.network(2).outerAddress), `${ours}.2`, "from the host"));
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
async function assertForgeriesStay(lab: Lab, theirs: string, ours: string): Promise<void> {
  const { container } = lab.network(2);
  const listeners = new Listeners([lab.network(1).host, lab.network(1).container]);
  const fd = withNetns(container, () => openRawSocket(4));
  const send = (from: string, text: string) => {
    const bytes = datagram(from, `${ours}.2`, text);
    const name = sockaddrIn(bytes.subarray(16, 20), 0);
    check(libc.sendto(fd, bytes, bytes.length, 0, name, name.length), "send");
  };
  try {
    const before = await drops(lab, 2);
    const counted: [string, number][] = [
      ["egress_source_spoofed", 2],
      ["egress_source_outside", 1],
    ];
    for (const from of [`${ours}.7`, "10.210.250.9", OUTSIDE]) send(from, from);
    send(`${theirs}.2`, "right");
    await listeners.until("right");
    assert.deepEqual(listeners.texts, ["right"]);
    const after = await drops(lab, 2);
    for (const [reason, count] of counted) {
      assert.equal(after[reason]! - before[reason]!, count, reason);
    }
  } finally {
    closeFd(fd);
    listeners.close();
  }
}

async function start(lab: Lab, backend: Record<string, unknown>) {
  await lab.startRegistry({ Network: "10.210.0.0/16", Backend: backend });
  await lab.startJoined(2);
  await lab.untilPeers(1, 1, 2);
  for (const host of [1, 2]) await lab.attach(host);
  lab.assertPings([1, 2], [2, 1]);
  const subnets = [1, 2].map((host) => String(lab.containers[host - 1]).replace(/\.\d+$/, ""));
  return subnets as [ours: string, theirs: string];
}

describe("what a tunnel must not carry", () => {
  for (const [name, backend] of BACKENDS) {
    test(`${name}: forged packets arrive nowhere, and regular ones do`, () =>
      withLab(3, async (lab) => {
        // The guard is off and the kernel is made to let everything pass: what holds the packets
        // back is the tunnel.
        lab.env["SELVAGE_GUARD"] = "false";
        const [ours, theirs] = await start(lab, backend);
        for (const host of [1, 2]) {
          const set = (value: number, name: string) =>
            `for f in /proc/sys/net/ipv4/conf/*/${name}; do echo ${value} > $f; done; `;
          run(lab, lab.network(host).host, set(1, "route_localnet") + set(0, "rp_filter"));
        }
        await assertAttacksFail(lab, theirs, ours);
        await assertForgeriesStay(lab, theirs, ours);
        lab.assertPings([1, 2], [2, 1]);
      }));
  }
});

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
