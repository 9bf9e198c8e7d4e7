/** Both loops over broken packets and failing calls: nothing traps, nothing goes uncounted. */
import { test } from "node:test";
import assert from "node:assert/strict";
import { DROP_REASONS, readCounters, type Role } from "../../src/dataplane/counters.ts";
import { Random } from "../dataplane/random.ts";
import { type Bench, bench, type Datagram, POLLIN, POLLOUT } from "./scripted_io.ts";
import { naiveChecksum, packet } from "./packets.ts";

const SEED = 791;
const ROUND_COUNT = 400;
const EINTR = -4, EIO = -5, EAGAIN = -11, ENOMEM = -12, ENOBUFS = -105;
const DESTINATIONS = ["10.0.2.1", "10.0.3.20", "10.9.1.1", "10.0.9.9", "224.0.0.1"];
const SOURCES = ["192.0.2.2", "192.0.2.3", "192.0.2.9", "192.0.2.99"];

/** A packet that is right, or has some bytes changed, or is cut off or lengthened. */
function brokenPacket(random: Random): Uint8Array {
  const options = new Uint8Array(4 * random.below(11)).fill(1);
  const bytes = packet({
    to: random.pick(DESTINATIONS),
    ttl: random.pick([0, 1, 2, 64, 255]),
    protocol: random.pick([1, 6, 17]),
    options,
    payload: new Uint8Array(random.below(100)),
  });
  for (let i = random.pick([0, 0, 0, 1, 3]); i > 0; i--) {
    bytes[random.below(bytes.length)] = random.below(256);
  }
  if (random.below(8) > 0) return bytes;
  const other = new Uint8Array(random.below(2 * bytes.length));
  other.set(bytes.subarray(0, other.length));
  return other;
}

function droppedBy({ shared }: Bench, role: Role): number {
  const { drops } = readCounters(shared);
  return DROP_REASONS.filter((reason) => reason.role === role)
    .reduce((sum, { name }) => sum + drops[name]!, 0);
}

/** What leaves a loop is one whole IPv4 packet. Its checksum is right if it came in right. */
function assertWhole(bytes: Uint8Array, where: string): void {
  assert.equal(bytes[0]! >> 4, 4, where);
  assert.equal(new DataView(bytes.buffer).getUint16(2), bytes.length, where);
  assert.ok((bytes[0]! & 0xf) >= 5 && (bytes[0]! & 0xf) * 4 <= bytes.length, where);
}

test("egress: whatever comes, every packet is sent or counted as dropped", async () => {
  const random = new Random(SEED);
  const on = await bench();
  for (let round = 0; round < ROUND_COUNT; round++) {
    const where = `seed ${SEED}, round ${round}`;
    on.io.reads = Array.from({ length: random.below(150) }, () => {
      return random.below(30) === 0 ? random.pick([EINTR, ENOMEM]) : brokenPacket(random);
    });
    on.io.sendResults = Array.from({ length: random.below(4) }, () => {
      return random.pick([1, EAGAIN, ENOBUFS, EINTR]);
    });
    on.io.polls = Array.from({ length: random.below(9) }, () => {
      return random.pick([0, EINTR, [POLLIN, 0], [POLLOUT, 0]]);
    });
    on.io.sent.length = on.io.icmpErrors.length = 0;
    assert.equal(on.egress(), 0, where);
    for (const { payload } of on.io.sent) assertWhole(payload, where);
    for (const { payload: error } of on.io.icmpErrors) {
      assertWhole(error, where);
      assert.equal(naiveChecksum(error.subarray(0, 20)), 0, where);
      assert.equal(naiveChecksum(error.subarray(20)), 0, where);
    }
    const { tunPackets, sentPackets } = readCounters(on.shared);
    assert.equal(tunPackets, sentPackets + droppedBy(on, "egress"), where);
  }
  assert.ok(readCounters(on.shared).sentPackets > 1000);
});

test("ingress: whatever comes, every datagram is written or counted as dropped", async () => {
  const random = new Random(SEED);
  const on = await bench();
  for (let round = 0; round < ROUND_COUNT; round++) {
    const where = `seed ${SEED}, round ${round}`;
    on.io.receives = Array.from({ length: 1 + random.below(4) }, () => {
      if (random.below(10) === 0) return random.pick([EINTR, EAGAIN, ENOMEM]);
      const datagram = (): Datagram => ({
        from: random.pick(SOURCES),
        payload: brokenPacket(random),
        flags: random.below(20) === 0 ? 0x20 : 0,
      });
      return Array.from({ length: 1 + random.below(64) }, datagram);
    });
    on.io.writeResults = random.below(5) === 0 ? [EIO, EAGAIN] : [];
    on.io.polls = Array.from({ length: random.below(9) }, () => [POLLIN, 0] as const);
    on.io.written.length = 0;
    assert.equal(on.ingress(), 0, where);
    for (const bytes of on.io.written) assertWhole(bytes, where);
    const { datagrams, receivedPackets } = readCounters(on.shared);
    assert.equal(datagrams, receivedPackets + droppedBy(on, "ingress"), where);
  }
  assert.ok(readCounters(on.shared).receivedPackets > 1000);
});
