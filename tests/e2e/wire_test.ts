/** What is on the wire, seen from a peer that is nothing but a UDP socket. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { IcmpSocket } from "../../ffi/icmp_socket.ts";
import { withNetns } from "../../ffi/netns.ts";
import type { Status } from "../../src/agent/status.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { BarePeer, startWithBarePeer } from "./bare_peer.ts";
import { naiveChecksum } from "../wasm/packets.ts";
import { type Lab, withLab } from "./lab.ts";

const PORT = 8285;
const PEER_CONTAINER = IpAddress.parse("10.210.77.2");

/** A complete ICMP echo request in IPv4. */
function echoRequest(from: IpAddress, to: IpAddress, ttl = 64): Uint8Array {
  const packet = new Uint8Array(20 + 8 + 4);
  const view = new DataView(packet.buffer);
  packet.set([0x45, 0, 0, packet.length, 0x12, 0x34, 0, 0, ttl, 1]);
  packet.set(from.toBytes(), 12);
  packet.set(to.toBytes(), 16);
  view.setUint16(10, naiveChecksum(packet.subarray(0, 20)));
  packet.set([8, 0, 0, 0, 0xab, 0xcd, 0, 1, 1, 2, 3, 4], 20);
  view.setUint16(22, naiveChecksum(packet.subarray(20)));
  return packet;
}

async function drops(lab: Lab, host = 1): Promise<Readonly<Record<string, number>>> {
  return (await lab.host(host).status())!.dataPlane!.drops;
}

test("the payload of each datagram is one raw IP packet, its TTL less one each way", () =>
  withLab(2, async (lab) => {
    const { peer, container } = await startWithBarePeer(lab);
    const request = echoRequest(PEER_CONTAINER, container);
    peer.send(lab.network(1).outerAddress, PORT, request);
    const reply = peer.receive(5_000);
    peer.close();
    assert.ok(reply, "no reply");
    // The container sent it with 64; its host routed it (63) and the data plane took one more.
    assert.equal(reply[8], 62);
    assert.equal(naiveChecksum(reply.subarray(0, 20)), 0);
    assert.deepEqual([...reply.subarray(12, 16)], [...container.toBytes()]);
    assert.deepEqual([...reply.subarray(16, 20)], [...PEER_CONTAINER.toBytes()]);
    assert.equal(reply[20], 0, "echo reply");
    assert.deepEqual([...reply.subarray(24)], [...request.subarray(24)]);
    // A packet is counted when it has been sent, or delivered.
    const isCounted = ({ peers: [peer] }: Status) =>
      peer!.sentPackets === 1 && peer!.receivedPackets === 1;
    const status = (await lab.until(1, "does not count it", isCounted)).peers[0]!;
    assert.ok(Math.abs(status.lastHeard_ms! - Date.now()) < 10_000);
  }));

test("what is no IP packet from a peer is dropped and counted by reason", () =>
  withLab(3, async (lab) => {
    const { peer, container } = await startWithBarePeer(lab);
    const to = lab.network(1).outerAddress;
    const before = await drops(lab);
    const good = echoRequest(PEER_CONTAINER, container);
    const changed = (offset: number, value: number) => {
      const packet = good.slice();
      packet[offset] = value;
      return packet;
    };
    const cases: [string, Uint8Array][] = [
      ["ingress_truncated", good.subarray(0, 19)],
      ["ingress_truncated", new Uint8Array(0)],
      ["ingress_truncated", good.subarray(0, 1)],
      ["ingress_bad_version", changed(0, 0x65)],
      ["ingress_bad_version", changed(0, 0x05)],
      ["ingress_bad_header_length", changed(0, 0x44)],
      ["ingress_bad_header_length", changed(0, 0x4f)],
      ["ingress_bad_total_length", changed(3, good.length + 1)],
      ["ingress_bad_total_length", changed(3, good.length - 1)],
      ["ingress_bad_total_length", new Uint8Array([...good, 0])],
      ["ingress_source_spoofed", echoRequest(IpAddress.parse("10.210.200.9"), container)],
      ["ingress_source_spoofed", echoRequest(container, container)],
      ["ingress_ttl_expired", echoRequest(PEER_CONTAINER, container, 1)],
      ["ingress_ttl_expired", echoRequest(PEER_CONTAINER, container, 0)],
    ];
    const expected: Record<string, number> = { ...before };
    for (const [reason, packet] of cases) {
      peer.send(to, PORT, packet);
      expected[reason] = expected[reason]! + 1;
    }
    const stranger = new BarePeer(lab.network(3).host, lab.network(3).outerAddress, PORT);
    stranger.send(to, PORT, good);
    expected["ingress_source_not_peer"] = expected["ingress_source_not_peer"]! + 1;
    stranger.close();
    // A good one comes last: when it is answered, all before it have been judged.
    peer.send(to, PORT, good);
    assert.ok(peer.receive(5_000), "the good packet was not answered");
    // A packet is counted when it has been delivered.
    const after = await lab.until(
      1,
      "drops differ",
      ({ dataPlane, peers: [peer] }) =>
        dataPlane!.drops["ingress_source_not_peer"] === expected["ingress_source_not_peer"] &&
        peer!.receivedPackets > 0,
    );
    peer.close();
    const { egress_ipv6: _noise, ...counted } = after.dataPlane!.drops;
    const { egress_ipv6: _noiseBefore, ...wanted } = expected;
    assert.deepEqual(counted, wanted);
    assert.equal(after.peers[0]!.receivedPackets, 1, "what is dropped is not its peer's");
  }));

/** Sends one UDP packet from a container and returns the ICMP error that comes of it. */
function icmpErrorAbout(lab: Lab, host: number, to: IpAddress, ttl: number): Uint8Array | null {
  const { container } = lab.network(host);
  const errors = withNetns(container, () => new IcmpSocket());
  const sender = new BarePeer(container, lab.containers[host - 1]!, 0);
  try {
    sender.setTtl(ttl);
    sender.send(to, 9, new Uint8Array(32));
    return errors.receive(2_000)?.slice() ?? null;
  } finally {
    sender.close();
    errors.close();
  }
}

/** Type and code of a host's ICMP error that quotes a packet to `to`; the rest is checked here. */
async function assertError(
  lab: Lab,
  error: Uint8Array | null,
  to: IpAddress,
  host = 1,
): Promise<number[]> {
  assert.ok(error, "no ICMP error came");
  const tunAddress = (await lab.host(host).status())!.lease!.subnets[0]!.replace("/24", "");
  assert.equal(String(IpAddress.fromBytes(error.subarray(12, 16))), tunAddress);
  assert.deepEqual([...error.subarray(16, 20)], [...lab.containers[0]!.toBytes()]);
  assert.equal(naiveChecksum(error.subarray(20)), 0);
  assert.equal(error.length, 20 + 8 + 20 + 8, "header and 8 bytes are quoted");
  assert.deepEqual([...error.subarray(28 + 16, 28 + 20)], [...to.toBytes()]);
  return [error[20]!, error[21]!];
}

test("an address that nobody holds is answered with ICMP net unreachable", () =>
  withLab(2, async (lab) => {
    await lab.startAll();
    // The first subnet is never given out.
    const nobody = IpAddress.parse("10.210.0.9");
    const error = icmpErrorAbout(lab, 1, nobody, 64);
    assert.deepEqual(await assertError(lab, error, nobody), [3, 0]);
    assert.equal((await drops(lab))["egress_no_peer"], 1);
  }));

test("a packet whose TTL ends here is answered with ICMP time exceeded", () =>
  withLab(2, async (lab) => {
    await lab.startAll();
    // One hop is the container's host, the second its data plane.
    const error = icmpErrorAbout(lab, 1, lab.containers[1]!, 2);
    assert.deepEqual(await assertError(lab, error, lab.containers[1]!), [11, 0]);
    assert.equal((await drops(lab))["egress_ttl_expired"], 1);
  }));

test("a packet whose TTL ends at the other host is answered from there", () =>
  withLab(2, async (lab) => {
    await lab.startAll();
    const [, to] = lab.containers;
    const error = icmpErrorAbout(lab, 1, to!, 3);
    assert.deepEqual(await assertError(lab, error, to!, 2), [11, 0]);
    assert.equal((await drops(lab, 2))["ingress_ttl_expired"], 1);
  }));
