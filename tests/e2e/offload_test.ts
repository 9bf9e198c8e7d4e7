/** The kernel's offloads, end to end: the same bytes arrive with and without, at either end. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { describe, test } from "node:test";
import { closeFd } from "../../ffi/fd.ts";
import { check, libc } from "../../ffi/libc.ts";
import { withNetns } from "../../ffi/netns.ts";
import { int32Option, sockaddrIn } from "../../ffi/socket_address.ts";
import { openUdpSocket } from "../../ffi/udp_socket.ts";
import { OFFLOADS } from "../../src/dataplane/offloads.ts";
import { spawnInNetns } from "../../src/demo/child.ts";
import { Container } from "../../src/demo/container.ts";
import type { HostNetwork } from "../../src/demo/topology.ts";
import { IpAddress } from "../../src/net/ip.ts";
import {
  ACK,
  bytesOf,
  FIN,
  flow,
  naiveSegments,
  parsePacket,
  SYN,
  TCP,
  UDP,
  wirePacket,
} from "../wasm/flows.ts";
import { hex } from "../wasm/packets.ts";
import { startWithBarePeer } from "./bare_peer.ts";
import { EXECUTABLE, type Lab, withLab } from "./lab.ts";

const PORT = 8285;
const MTU_BYTES = 1472;
const TRANSFER_BYTES = 32 * 2 ** 20;
const LOSSY_TRANSFER_BYTES = 2 * 2 ** 20;
const PEER_CONTAINER = IpAddress.parse("10.210.77.2");
const IPPROTO_UDP = 17;
const UDP_SEGMENT = 103;

/** Starts two hosts with these flags; the first keeps the registry. */
async function startTwo(lab: Lab, first: string, second: string): Promise<void> {
  lab.env["SELVAGE_OFFLOAD"] = first;
  await lab.startRegistry();
  lab.env["SELVAGE_OFFLOAD"] = second;
  await lab.startJoined(2);
  await lab.untilPeers(1, 1, 2);
  for (const host of [1, 2]) await lab.attach(host);
}

async function offloadsOf(lab: Lab, host: number): Promise<readonly string[]> {
  return (await lab.host(host).status())!.dataPlane!.offloads;
}

describe("TCP transfers, hashed at both ends, both ways", () => {
  const pairs: [first: string, second: string][] = [
    ["auto", "auto"],
    ["auto", "off"],
    ["off", "off"],
    ["csum", "tso"],
    ["udp-segment", "uso,udp-gro"],
  ];
  for (const [first, second] of pairs) {
    test(`--offload=${first} and --offload=${second}`, () =>
      withLab(2, async (lab) => {
        await startTwo(lab, first, second);
        const containers = await Promise.all([1, 2].map((host) => {
          return new Container(EXECUTABLE, lab.network(host), lab.containers[host - 1]!).ready();
        }));
        const [one, two] = containers as [Container, Container];
        try {
          for (const [from, to] of [[one, two], [two, one]] as const) {
            const { sentSha256, receivedSha256 } = await from.transfer(to, TRANSFER_BYTES);
            assert.equal(receivedSha256, sentSha256);
          }
        } finally {
          await Promise.all(containers.map((container) => container.stop()));
        }
        for (const host of [1, 2]) {
          const plane = (await lab.host(host).status())!.dataPlane!;
          const { egress_ipv6: _noise, ...drops } = plane.drops;
          // A full queue of the kernel's may drop on the way; nothing is dropped as wrong.
          assert.deepEqual(Object.entries(drops).filter(([, count]) => count > 0), []);
          assert.ok(plane.receivedBytes > TRANSFER_BYTES);
        }
      }));
  }
});

test("a path whose MTU is smaller than assumed: no message fits it, each packet does", () =>
  withLab(2, async (lab) => {
    await startTwo(lab, "auto", "auto");
    const { host } = lab.network(1);
    // The way to host 2 leaves by another interface than the outer one, which carries less.
    const commands = [
      "link add link eth0 name narrow mtu 1300 type macvlan mode bridge",
      "link set narrow up",
      `route add ${lab.network(2).outerAddress}/32 dev narrow src ${lab.network(1).outerAddress}`,
    ];
    for (const command of commands) {
      const { status, stderr } = lab.exec(host, "ip", ...command.split(" "));
      assert.equal(status, 0, `${command}: ${stderr}`);
    }
    const containers = await Promise.all([1, 2].map((host) => {
      return new Container(EXECUTABLE, lab.network(host), lab.containers[host - 1]!).ready();
    }));
    try {
      const { sentSha256, receivedSha256 } = await containers[0]!.transfer(containers[1]!, 2 ** 20);
      assert.equal(receivedSha256, sentSha256);
    } finally {
      await Promise.all(containers.map((container) => container.stop()));
    }
    assert.equal((await lab.host(1).status())!.dataPlane!.drops["egress_send_failed"], 0);
  }));

test("the status names what is active, and --offload switches it off", () =>
  withLab(2, async (lab) => {
    await startTwo(lab, "auto", "csum,udp-gro");
    // What this kernel has: at least what Linux 5.0 had.
    const all = await offloadsOf(lab, 1);
    assert.deepEqual(all, OFFLOADS.filter((one) => one !== "uso" || all.includes("uso")));
    assert.deepEqual(await offloadsOf(lab, 2), ["csum", "udp-gro"]);
    assert.match(lab.run(2, ["status"]).stdout, /^Offloads\s+csum, udp-gro$/m);
    await lab.stop(2);
    lab.env["SELVAGE_OFFLOAD"] = "off";
    await lab.startJoined(2);
    assert.deepEqual(await offloadsOf(lab, 2), []);
    assert.match(lab.run(2, ["status"]).stdout, /^Offloads\s+none$/m);
  }));

/** Two hosts, each of which has the other's public address from a relay on the third. */
async function startThroughRelay(lab: Lab, seed: number): Promise<ChildProcess> {
  const [near, far, relay] = [1, 2, 3].map((host) => lab.network(host)) as [
    HostNetwork,
    HostNetwork,
    HostNetwork,
  ];
  const second = IpAddress.parse("198.18.0.250");
  lab.exec(relay.host, "ip", "address", "add", `${second}/24`, "dev", "eth0");
  const script = resolve("tests/e2e/lossy_link_child.ts");
  // What the near host sends to is the far host's public address, and the other way round.
  const places = [relay.outerAddress, near.outerAddress, second, far.outerAddress].map(String);
  const args = ["run", "-A", "--no-check", script, String(seed), String(PORT), ...places];
  const child = spawnInNetns(relay.host, process.execPath, args, ["ignore", "pipe", "inherit"]);
  await once(child.stdout!, "data");
  const config = join(lab.directory, "net-conf.json");
  writeFileSync(config, JSON.stringify({ Network: "10.210.0.0/16" }));
  const registry = `--registry-listen=${near.outerAddress}:8286`;
  lab.launch(1, [`--net-config=${config}`, registry, `--public-ip=${second}`]);
  await lab.ready(1);
  await lab.startJoined(2, [`--public-ip=${relay.outerAddress}`]);
  await lab.untilPeers(1, 1, 2);
  for (const host of [1, 2]) await lab.attach(host);
  return child;
}

for (const [first, second] of [["auto", "auto"], ["auto", "off"], ["off", "auto"]] as const) {
  test(`a link that drops, doubles, reorders, truncates and damages: ${first} to ${second}`, () =>
    withLab(3, async (lab) => {
      const seed = 2018;
      lab.env["SELVAGE_OFFLOAD"] = first;
      const relay = await startThroughRelay(lab, seed);
      const containers: Container[] = [];
      try {
        if (first !== second) {
          lab.env["SELVAGE_OFFLOAD"] = second;
          await lab.stop(2);
          await lab.startJoined(2, [`--public-ip=${lab.network(3).outerAddress}`]);
          await lab.untilPeers(1, 1, 2);
        }
        for (const host of [1, 2]) {
          const address = lab.containers[host - 1]!;
          containers.push(await new Container(EXECUTABLE, lab.network(host), address).ready());
        }
        const [one, two] = containers as [Container, Container];
        for (const [from, to] of [[one, two], [two, one]] as const) {
          const { sentSha256, receivedSha256 } = await from.transfer(to, LOSSY_TRANSFER_BYTES);
          assert.equal(receivedSha256, sentSha256, `seed ${seed}`);
        }
        const { drops } = (await lab.host(2).status())!.dataPlane!;
        assert.ok(drops["ingress_bad_total_length"]! > 0, "the link did no harm");
      } finally {
        await Promise.all(containers.map((container) => container.stop()));
        relay.kill("SIGKILL");
      }
    }));
}

/** Holds that it is a plain packet of the MTU at most, every byte of its headers right. */
function assertPlain(packet: Uint8Array): void {
  assert.ok(packet.length <= MTU_BYTES, `${packet.length} bytes`);
  assert.equal(hex(packet), hex(wirePacket(parsePacket(packet))));
}

test("a bare peer receives a TCP stream as plain packets, and its plain packets arrive", () =>
  withLab(2, async (lab) => {
    const { peer, container } = await startWithBarePeer(lab);
    const content = bytesOf(300_000);
    const file = join(lab.directory, "content");
    writeFileSync(file, content);
    const command = `exec 3<>/dev/tcp/${PEER_CONTAINER}/5001 && cat ${file} >&3 && sha256sum <&3`;
    const child = spawnInNetns(lab.network(1).container, "bash", ["-c", command], [
      "ignore",
      "pipe",
      "inherit",
    ]);
    let said = "";
    child.stdout!.setEncoding("utf8").on("data", (text: string) => said += text);
    const closed = new Promise((resolve) => child.once("close", resolve));
    const received = new Uint8Array(content.length);
    const answers = bytesOf(40_000, 7);
    let next: number | null = null;
    let largest_bytes = 0;
    let first = 0;
    const ours = 1_000_000;
    const reply = (packet: Uint8Array, parts: Parameters<typeof flow>[0]) => {
      const ports = parsePacket(packet).ports;
      const swapped = ((ports << 16) | (ports >>> 16)) >>> 0;
      return flow({
        from: `${PEER_CONTAINER}`,
        to: `${container}`,
        ports: swapped,
        window: 65535,
        acknowledgment: next!,
        ...parts,
      });
    };
    const send = (packet: Uint8Array) => peer.send(lab.network(1).outerAddress, PORT, packet);
    let last = new Uint8Array();
    while (next === null || next - first < content.length) {
      const packet = peer.receive(5_000);
      assert.ok(packet, "no packet came");
      assertPlain(packet);
      last = Uint8Array.from(packet);
      const { flags, sequence, payload } = parsePacket(packet);
      largest_bytes = Math.max(largest_bytes, packet.length);
      if ((flags & SYN) !== 0) {
        next = first = sequence + 1;
        // An MSS that fills the MTU: 1472 less 40.
        const tcpOptions = Uint8Array.of(2, 4, 1432 >> 8, 1432 & 0xff);
        const synAck = { flags: SYN | ACK, sequence: ours, tcpOptions, payload: new Uint8Array() };
        send(wirePacket(reply(packet, synAck)));
      } else if (payload.length > 0) {
        if (sequence === next) {
          received.set(payload, sequence - first);
          next += payload.length;
        }
        const ack = { flags: ACK, sequence: ours + 1, payload: new Uint8Array() };
        send(wirePacket(reply(packet, ack)));
      }
    }
    assert.deepEqual(received, content);
    assert.equal(largest_bytes, MTU_BYTES);
    const stream = reply(last, { flags: ACK | FIN, sequence: ours + 1, payload: answers });
    for (const packet of naiveSegments(stream, 1400)) send(packet);
    // The kernel wants its answers acknowledged before it is done; the hash needs them only.
    await closed;
    peer.close();
    assert.match(said, new RegExp(createHash("sha256").update(answers).digest("hex")));
  }));

test("a bare peer receives what UDP_SEGMENT sent in a container as plain packets", () =>
  withLab(2, async (lab) => {
    const { peer, container } = await startWithBarePeer(lab);
    const content = bytesOf(9_999);
    const fd = withNetns(lab.network(1).container, () => openUdpSocket(container.toBytes(), 4000));
    const step = int32Option(1000);
    check(libc.setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, step, step.length), "set UDP_SEGMENT");
    const name = sockaddrIn(PEER_CONTAINER.toBytes(), 5000);
    check(libc.sendto(fd, content, content.length, 0, name, name.length), "send");
    const parts: Uint8Array[] = [];
    while (parts.length < 10) {
      const packet = peer.receive(5_000);
      assert.ok(packet, "no packet came");
      assertPlain(packet);
      const { protocol, payload } = parsePacket(packet);
      if (protocol === UDP) parts.push(payload);
      assert.notEqual(protocol, TCP);
    }
    assert.deepEqual(new Uint8Array(Buffer.concat(parts)), content);
    closeFd(fd);
    peer.close();
  }));
