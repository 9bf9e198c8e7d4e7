/**
 * Both loops over broken packets and failing calls: nothing traps, nothing is written outside the
 * loop's own places, nothing goes uncounted.
 */
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import {
  EGRESS_WORK_OFFSET,
  EGRESS_WORK_SIZE,
  INGRESS_WORK_OFFSET,
  STATIC_DATA_END,
  WORK_COMMON_SIZE,
} from "../../wasm/layout.ts";
import { DROP_REASONS, readCounters, type Role } from "../../src/dataplane/counters.ts";
import { type Offload, OFFLOADS } from "../../src/dataplane/offloads.ts";
import { Random } from "../dataplane/random.ts";
import { type Bench, bench, type Datagram, POLLIN, POLLOUT } from "./scripted_io.ts";
import {
  bytesOf,
  csumPacket,
  type Flow,
  flow,
  gsoPacket,
  naiveSegments,
  packetsOfWrite,
  VIRTIO_BYTES,
  withVirtio,
} from "./flows.ts";
import { naiveChecksum, packet } from "./packets.ts";

const SEED = 791;
const ROUND_COUNT = 400;
const EINTR = -4, EIO = -5, EAGAIN = -11, ENOMEM = -12, EINVAL = -22, ENOBUFS = -105;
const DESTINATIONS = ["10.0.2.1", "10.0.3.20", "10.9.1.1", "10.0.9.9", "224.0.0.1"];
const SOURCES = ["192.0.2.2", "192.0.2.3", "192.0.2.9", "192.0.2.99"];
const SETS: readonly (readonly Offload[])[] = [
  [],
  OFFLOADS,
  ["csum"],
  ["udp-segment", "udp-gro"],
  ["csum", "tso", "uso"],
];

/** Some bytes changed, or cut off, or lengthened; or nothing. */
function damaged(random: Random, bytes: Uint8Array, headersSize: number): Uint8Array {
  for (let i = random.pick([0, 0, 0, 1, 3]); i > 0; i--) {
    bytes[random.below(Math.min(bytes.length, headersSize))] = random.below(256);
  }
  if (random.below(8) > 0) return bytes;
  const other = new Uint8Array(random.below(2 * bytes.length));
  other.set(bytes.subarray(0, other.length));
  return other;
}

/** A packet that is right, or damaged. */
function brokenPacket(random: Random): Uint8Array {
  const options = new Uint8Array(4 * random.below(11)).fill(1);
  const bytes = packet({
    to: random.pick(DESTINATIONS),
    ttl: random.pick([0, 1, 2, 64, 255]),
    protocol: random.pick([1, 6, 17]),
    options,
    payload: new Uint8Array(random.below(100)),
  });
  return damaged(random, bytes, bytes.length);
}

/** A flow of several packets, to be damaged. */
function anyFlow(random: Random): Flow {
  return flow({
    family: random.pick([4, 4, 4, 6]) as 4 | 6,
    protocol: random.pick([6, 17]),
    from: "10.0.1.2",
    to: random.pick(DESTINATIONS),
    ttl: random.pick([1, 2, 64]),
    flags: random.below(256),
    tcpOptions: new Uint8Array(4 * random.below(11)).fill(1),
    payload: bytesOf(random.pick([0, 1, 100, 1400, 20_000]) + random.below(100)),
  });
}

const v4 = (one: Flow): Flow => ({ ...one, family: 4 });

/** What a TUN with virtio headers might bring: mostly what fits, sometimes anything. */
function brokenRead(random: Random): Uint8Array {
  const step = random.pick([1, 100, 536, 1400, 9000]);
  const kind = random.below(3);
  if (kind === 0) return damaged(random, withVirtio(brokenPacket(random)), 60);
  const one = v4(anyFlow(random));
  const bytes = kind === 1 ? gsoPacket(one, step) : csumPacket(one);
  return damaged(random, bytes, VIRTIO_BYTES + 60);
}

/** One message of a socket with UDP_GRO. */
function brokenMessage(random: Random): Datagram {
  const from = random.pick(SOURCES);
  const step = random.pick([64, 536, 1400]);
  const one = v4(anyFlow(random));
  const packets = naiveSegments({ ...one, from: "10.0.2.3", to: "10.0.1.2" }, step)
    .slice(0, 40).map((bytes) => random.below(20) === 0 ? damaged(random, bytes, 60) : bytes);
  const payload = Buffer.concat(packets).subarray(0, 65_507);
  const sizes = [packets[0]?.length ?? 0, packets[0]?.length ?? 0, random.below(200) - 5];
  return { from, payload, segment: random.pick(sizes), flags: random.below(30) === 0 ? 0x20 : 0 };
}

function droppedBy({ shared }: Bench, role: Role): number {
  const { drops } = readCounters(shared);
  return DROP_REASONS.filter((reason) => reason.role === role)
    .reduce((sum, { name }) => sum + drops[name]!, 0);
}

/** What leaves a loop is one whole IPv4 packet. Its checksum is right if it came in right. */
function assertWhole(bytes: Uint8Array, where: string): void {
  assert.equal(bytes[0]! >> 4, 4, where);
  assert.equal(new DataView(bytes.buffer, bytes.byteOffset).getUint16(2), bytes.length, where);
  assert.ok((bytes[0]! & 0xf) >= 5 && (bytes[0]! & 0xf) * 4 <= bytes.length, where);
}

/** Fills places that the loop has no business in; what it returns checks that they are the same. */
function guard({ shared }: Bench, role: Role): () => void {
  const other = role === "egress"
    ? [INGRESS_WORK_OFFSET, INGRESS_WORK_OFFSET + WORK_COMMON_SIZE]
    : [EGRESS_WORK_OFFSET, EGRESS_WORK_OFFSET + EGRESS_WORK_SIZE];
  const before = [EGRESS_WORK_OFFSET - 4096, EGRESS_WORK_OFFSET];
  const places = [[0, STATIC_DATA_END], before, other] as [number, number][];
  places.push([shared.bytes.length - 64, shared.bytes.length]);
  for (const [first, end] of places) shared.bytes.fill(0xa5, first, end);
  return () => {
    for (const [first, end] of places) {
      const index = shared.bytes.subarray(first, end).findIndex((byte) => byte !== 0xa5);
      assert.equal(index, -1, `${role} wrote to ${first + index}`);
    }
  };
}

async function fuzzEgress(offloads: readonly Offload[]): Promise<void> {
  const random = new Random(SEED);
  const on = await bench(offloads);
  const assertUntouched = guard(on, "egress");
  const isVirtio = offloads.includes("csum");
  for (let round = 0; round < ROUND_COUNT; round++) {
    const where = `seed ${SEED}, round ${round}`;
    on.io.reads = Array.from({ length: random.below(isVirtio ? 20 : 150) }, () => {
      if (random.below(30) === 0) return random.pick([EINTR, ENOMEM]);
      return isVirtio ? brokenRead(random) : brokenPacket(random);
    });
    on.io.sendResults = Array.from({ length: random.below(4) }, () => {
      return random.pick([1, EAGAIN, ENOBUFS, EINTR, EINVAL]);
    });
    on.io.polls = Array.from({ length: random.below(9) }, () => {
      return random.pick([0, EINTR, [POLLIN, 0], [POLLOUT, 0]]);
    });
    on.io.sent.length = on.io.icmpErrors.length = on.io.sendCalls.length = 0;
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
  assertUntouched();
  assert.ok(readCounters(on.shared).sentPackets > 1000);
}

async function fuzzIngress(offloads: readonly Offload[]): Promise<void> {
  const random = new Random(SEED);
  const on = await bench(offloads);
  const assertUntouched = guard(on, "ingress");
  const isVirtio = offloads.includes("csum");
  const isGro = offloads.includes("udp-gro");
  for (let round = 0; round < ROUND_COUNT; round++) {
    const where = `seed ${SEED}, round ${round}`;
    on.io.receives = Array.from({ length: 1 + random.below(4) }, () => {
      if (random.below(10) === 0) return random.pick([EINTR, EAGAIN, ENOMEM]);
      const datagram = (): Datagram => {
        if (isGro && random.below(4) === 0) return brokenMessage(random);
        const flags = random.below(20) === 0 ? 0x20 : 0;
        return { from: random.pick(SOURCES), payload: brokenPacket(random), flags };
      };
      return Array.from({ length: 1 + random.below(isGro ? 16 : 64) }, datagram);
    });
    on.io.writeResults = random.below(5) === 0 ? [EIO, EAGAIN, EINVAL] : [];
    on.io.polls = Array.from({ length: random.below(9) }, () => [POLLIN, 0] as const);
    on.io.written.length = 0;
    assert.equal(on.ingress(), 0, where);
    const packets = isVirtio ? on.io.written.flatMap(packetsOfWrite) : on.io.written;
    for (const bytes of packets) assertWhole(bytes, where);
    const { datagrams, receivedPackets } = readCounters(on.shared);
    assert.equal(datagrams, receivedPackets + droppedBy(on, "ingress"), where);
  }
  assertUntouched();
  assert.ok(readCounters(on.shared).receivedPackets > 1000);
}

for (const offloads of SETS) {
  describe(`offloads: ${offloads.join(", ") || "none"}`, () => {
    test("egress: whatever comes, every packet is sent or counted as dropped", () => {
      return fuzzEgress(offloads);
    });

    test("ingress: whatever comes, every datagram is written or counted as dropped", () => {
      return fuzzIngress(offloads);
    });
  });
}
