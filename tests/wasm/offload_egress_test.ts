/** The egress loop over a TUN with virtio headers and a socket with UDP_SEGMENT. */
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { assertAddsUp, assertDrops } from "./egress_assertions.ts";
import fc from "fast-check";
import { readCounters } from "../../src/dataplane/counters.ts";
import { type Offload, OFFLOADS } from "../../src/dataplane/offloads.ts";
import { bench } from "./scripted_io.ts";
import {
  bytesOf,
  csumPacket,
  CWR,
  egressFlow,
  FIN,
  type Flow,
  gsoPacket,
  naiveSegments,
  PSH,
  TCP,
  UDP,
  URG,
  wirePacket,
  withVirtio,
} from "./flows.ts";
import { forwarded, hex, naiveChecksum, packet, patched } from "./packets.ts";

const EINVAL = -22, EIO = -5, EMSGSIZE = -90, ENOBUFS = -105, EBADF = -9, EAGAIN = -11;
const PEER = "2:192.0.2.2:8285";
const SEED = 4821;

/** Datagrams that a flow becomes, each with one less TTL. */
function expected(flow: Flow, step: number): string[] {
  return naiveSegments({ ...flow, ttl: flow.ttl - 1 }, step).map(hex);
}

const plain = (size_bytes: number, to = "10.0.2.3"): Uint8Array<ArrayBuffer> =>
  packet({ to, payload: bytesOf(size_bytes) });

describe("packets of many segments", () => {
  test("are cut into one message, whole and with right checksums", async () => {
    const on = await bench(OFFLOADS);
    const flow = egressFlow({ payload: bytesOf(3500), flags: 16 | PSH | FIN | CWR });
    on.io.reads = [gsoPacket(flow, 1000)];
    assert.equal(on.egress(), 0);
    assert.deepEqual(on.io.sendCalls.map((call) => call.map(({ segment }) => segment)), [[1040]]);
    assert.deepEqual(on.io.sent.map(({ payload }) => hex(payload)), expected(flow, 1000));
    assert.ok(on.io.sent.every(({ to }) => to === PEER));
    const { tunPackets, sentPackets, sentBytes } = readCounters(on.shared);
    assert.deepEqual([tunPackets, sentPackets, sentBytes], [4, 4, 3500 + 4 * 40]);
    assert.equal(on.table.counters("10.0.2.0/24")!.sentPackets, 4);
    assert.equal(on.table.counters("10.0.2.0/24")!.sentBytes, 3500 + 4 * 40);
  });

  test("more than a message takes go in several, in one call", async () => {
    const on = await bench(OFFLOADS);
    const flow = egressFlow({ payload: bytesOf(65535 - 40) });
    on.io.reads = [gsoPacket(flow, 500)];
    on.egress();
    assert.deepEqual(on.io.sendCalls.map((call) => call.map(({ payload }) => payload.length)), [
      [64 * 540, 64 * 540, 495 + 2 * 540 + 40],
    ]);
    assert.deepEqual(on.io.sent.map(({ payload }) => hex(payload)), expected(flow, 500));
  });

  test("no message is longer than a datagram may be", async () => {
    const on = await bench(OFFLOADS);
    const flow = egressFlow({ payload: bytesOf(65535 - 40) });
    on.io.reads = [gsoPacket(flow, 1400)];
    on.egress();
    const sizes = on.io.sendCalls[0]!.map(({ payload }) => payload.length);
    assert.deepEqual(sizes, [45 * 1440, 1440 + 1095 + 40]);
    assert.deepEqual(on.io.sent.map(({ payload }) => hex(payload)), expected(flow, 1400));
  });

  test("thousands of tiny segments all go, in order, whatever the bounds", async () => {
    const on = await bench(OFFLOADS);
    const flow = egressFlow({ protocol: UDP, payload: bytesOf(20_001) });
    on.io.reads = [gsoPacket(flow, 8), withVirtio(plain(1))];
    on.egress();
    const after = hex(forwarded(plain(1)));
    assert.deepEqual(on.io.sent.map(({ payload }) => hex(payload)), [...expected(flow, 8), after]);
    assert.ok(on.io.sendCalls.length > 1);
    assertAddsUp(on);
  });

  for (const without of ["udp-segment", "udp-gro"] as const) {
    test(`without ${without} the same datagrams go`, async () => {
      const on = await bench(OFFLOADS.filter((offload) => offload !== without));
      const flow = egressFlow({ payload: bytesOf(60_000) });
      on.io.reads = [gsoPacket(flow, 700), withVirtio(plain(5))];
      on.egress();
      assert.deepEqual(on.io.sent.slice(0, -1).map(({ payload }) => hex(payload)), [
        ...expected(flow, 700),
      ]);
      const isTogether = on.io.sendCalls.flat().some(({ segment }) => segment > 0);
      assert.equal(isTogether, without === "udp-gro");
    });
  }

  test("nobody's destination: each is counted, one ICMP error quotes the first", async () => {
    const on = await bench(OFFLOADS);
    for (const protocol of [TCP, UDP]) {
      const flow = egressFlow({ protocol, to: "10.0.9.9", payload: bytesOf(2500) });
      on.io.icmpErrors.length = 0;
      on.io.reads = [gsoPacket(flow, 1000)];
      on.egress();
      assert.equal(on.io.icmpErrors.length, 1);
      const error = on.io.icmpErrors[0]!.payload;
      assert.equal(hex(error.subarray(28)), hex(naiveSegments(flow, 1000)[0]!.subarray(0, 28)));
      assert.equal(naiveChecksum(error.subarray(20)), 0);
    }
    assert.equal(readCounters(on.shared).drops["egress_no_peer"], 6);
    assertAddsUp(on);
  });

  test("a TTL that ends here ends for each of them", async () => {
    const on = await bench(OFFLOADS);
    const flow = egressFlow({ ttl: 1, payload: bytesOf(2500) });
    assertDrops(on, [gsoPacket(flow, 1000)], { egress_ttl_expired: 3 });
    assert.deepEqual([...on.io.icmpErrors[0]!.payload.subarray(20, 22)], [11, 0]);
  });

  test("one that is longer than the arena has left waits for the next batch", async () => {
    const on = await bench(OFFLOADS);
    const flow = egressFlow({ payload: bytesOf(65_000) });
    on.io.reads = Array.from({ length: 20 }, () => gsoPacket(flow, 1400));
    on.egress();
    const once = expected(flow, 1400);
    assert.deepEqual(
      on.io.sent.map(({ payload }) => hex(payload)),
      Array.from({ length: 20 }, () => once).flat(),
    );
    assert.equal(on.io.pollCalls.length, 1);
    assertAddsUp(on);
  });
});

describe("checksums left to us", () => {
  test("are completed, of TCP and UDP, with options and odd sizes", async () => {
    const on = await bench(OFFLOADS);
    const flows = [TCP, UDP].flatMap((protocol) =>
      [0, 1, 2, 999, 1432].map((size) =>
        egressFlow({ protocol, payload: bytesOf(size), ipOptions: new Uint8Array(8).fill(1) })
      )
    );
    on.io.reads = flows.map(csumPacket);
    on.egress();
    assert.deepEqual(
      on.io.sent.map(({ payload }) => hex(payload)),
      flows.map((flow) => hex(wirePacket({ ...flow, ttl: 63 }))),
    );
  });

  test("a UDP sum of zero is sent as ones", async () => {
    const on = await bench(OFFLOADS);
    const zero = Array.from({ length: 65536 }, (_, i) => Uint8Array.of(i >> 8, i))
      .map((payload) => egressFlow({ protocol: UDP, payload }))
      .find((flow) => new DataView(wirePacket(flow).buffer).getUint16(26) === 0xffff)!;
    on.io.reads = [csumPacket(zero)];
    on.egress();
    assert.equal(hex(on.io.sent[0]!.payload), hex(wirePacket({ ...zero, ttl: 63 })));
  });

  test("an ICMP error quotes the completed one", async () => {
    const on = await bench(OFFLOADS);
    const flow = egressFlow({ protocol: UDP, to: "10.0.9.9", payload: bytesOf(20) });
    on.io.reads = [csumPacket(flow)];
    on.egress();
    const quoted = on.io.icmpErrors[0]!.payload.subarray(28);
    assert.equal(hex(quoted), hex(wirePacket(flow).subarray(0, 28)));
  });
});

describe("virtio headers that fit no packet", () => {
  const flow = egressFlow({ payload: bytesOf(3000) });
  const good = gsoPacket(flow, 1000);
  const udp = gsoPacket(egressFlow({ protocol: UDP, payload: bytesOf(3000) }), 1000);
  const csum = csumPacket(flow);
  const cases: [what: string, bytes: Uint8Array, reason: string][] = [
    ["shorter than the header", good.slice(0, 9), "egress_truncated"],
    ["the header alone", good.slice(0, 10), "egress_truncated"],
    ["a segment size of 0", patched(good, { 4: 0, 5: 0 }), "egress_bad_offload"],
    ["a type that was not offered", patched(good, { 1: 3 }), "egress_bad_offload"],
    ["TCP said to be of IPv6", patched(good, { 1: 4 }), "egress_bad_offload"],
    ["TCP said to be UDP", patched(good, { 1: 5 }), "egress_bad_offload"],
    ["UDP said to be TCP", patched(udp, { 1: 1 }), "egress_bad_offload"],
    ["a UDP length that is not so", patched(udp, { 35: 1 }), "egress_bad_offload"],
    ["a fragment", patched(good, { 16: 0x20 }), "egress_bad_offload"],
    ["a TCP header of 16 bytes", patched(good, { 42: 0x40 }), "egress_bad_offload"],
    ["URG", patched(good, { 43: URG }), "egress_bad_offload"],
    [
      "no payload",
      gsoPacket(egressFlow({ payload: new Uint8Array() }), 1000),
      "egress_bad_offload",
    ],
    [
      "a TCP header longer than the packet",
      patched(gsoPacket(egressFlow({ payload: bytesOf(8) }), 8), { 42: 0xf0 }),
      "egress_bad_offload",
    ],
    ["a checksum past the end", patched(csum, { 6: 0xff, 7: 0xff }), "egress_bad_offload"],
    ["a checksum within the IP header", patched(csum, { 6: 0 }), "egress_bad_offload"],
    ["IPv6 of many segments", patched(good, { 10: 0x60 }), "egress_ipv6"],
    ["a total length that is not so", patched(good, { 13: 1 }), "egress_bad_total_length"],
  ];
  for (const [what, bytes, reason] of cases) {
    test(`${what}: ${reason}`, async () => {
      const on = await bench(OFFLOADS);
      assertDrops(on, [bytes, withVirtio(plain(9))], { [reason]: 1 });
      assert.equal(hex(on.io.sent[0]!.payload), hex(forwarded(plain(9))));
    });
  }
});

describe("small packets", () => {
  const only: Offload[] = ["udp-segment"];

  test("of one size to one peer go in one message; a shorter one is its last", async () => {
    const on = await bench(only);
    const sizes = [64, 64, 64, 10, 10, 64, 65, 64];
    on.io.reads = sizes.map((size) => plain(size));
    on.egress();
    assert.deepEqual(
      on.io.sendCalls.map((call) => call.map(({ segment, payload }) => [segment, payload.length])),
      [[[84, 3 * 84 + 30], [0, 30], [0, 84], [85, 85 + 84]]],
    );
    assert.deepEqual(
      on.io.sent.map(({ payload }) => hex(payload)),
      sizes.map((size) => hex(forwarded(plain(size)))),
    );
  });

  test("to several peers in turn keep their order", async () => {
    const on = await bench(only);
    const to = ["10.0.2.3", "10.0.2.4", "10.9.0.1", "10.0.2.3", "10.9.0.1", "10.9.0.2"];
    on.io.reads = to.map((address) => plain(64, address));
    on.egress();
    assert.deepEqual(on.io.sendCalls[0]!.map(({ to }) => to.slice(8)), [
      "2.2:8285",
      "2.9:65535",
      "2.2:8285",
      "2.9:65535",
    ]);
    assert.deepEqual(on.io.sent.map(({ payload }) => payload.subarray(16, 20).join(".")), to);
    assert.equal(on.table.counters("10.9.0.0/16")!.sentPackets, 3);
  });

  test("a lone packet leaves at once, as a plain datagram", async () => {
    const on = await bench(only);
    const events: string[] = [];
    on.io.onPoll = () => events.push(`poll after ${on.io.sent.length}`);
    on.io.reads = [plain(64)];
    on.egress();
    assert.deepEqual(on.io.sendCalls.map((call) => call.map(({ segment }) => segment)), [[0]]);
    assert.deepEqual(events, ["poll after 1"]);
  });

  test("a dropped packet among them leaves no gap", async () => {
    const on = await bench(only);
    const reads = [plain(64), plain(64, "10.0.9.9"), plain(64)];
    assertDrops(on, reads, { egress_no_peer: 1 });
    assert.deepEqual(on.io.sendCalls.map((call) => call.map(({ segment }) => segment)), [[84]]);
  });
});

describe("a kernel that does not take many at once", () => {
  const flow = egressFlow({ payload: bytesOf(3500) });

  for (const [name, error] of Object.entries({ EINVAL, EIO, EMSGSIZE })) {
    test(`${name}: they go one by one`, async () => {
      const on = await bench(OFFLOADS);
      on.io.sendResults = [error];
      assertDrops(on, [gsoPacket(flow, 1000), withVirtio(plain(9))], {});
      assert.deepEqual(on.io.sent.map(({ payload }) => hex(payload)), [
        ...expected(flow, 1000),
        hex(forwarded(plain(9))),
      ]);
      assert.ok(on.io.sendCalls.slice(1).flat().every(({ segment }) => segment === 0));
      assert.equal(on.table.counters("10.0.2.0/24")!.sentBytes, 3500 + 4 * 40 + 29);
    });
  }

  test("and one of them that fails is counted", async () => {
    const on = await bench(OFFLOADS);
    on.io.sendResults = [EMSGSIZE, 1, EMSGSIZE, 1];
    assertDrops(on, [gsoPacket(flow, 1000)], { egress_send_failed: 1 });
    assert.deepEqual(on.io.sent.map(({ payload }) => hex(payload)), [
      ...expected(flow, 1000).toSpliced(1, 1),
    ]);
  });

  test("another error drops them all, each counted", async () => {
    const on = await bench(OFFLOADS);
    on.io.sendResults = [ENOBUFS];
    assertDrops(on, [gsoPacket(flow, 1000)], { egress_send_failed: 4 });
  });

  test("a socket that dies amid them ends the loop, and the rest is counted", async () => {
    const on = await bench(OFFLOADS);
    on.io.sendResults = [EINVAL, 1, EBADF];
    on.io.reads = [gsoPacket(flow, 1000), withVirtio(plain(9))];
    assert.equal(on.egress(), EBADF);
    assert.equal(readCounters(on.shared).drops["egress_send_failed"], 4);
    assertAddsUp(on);
  });

  test("no room for long amid them: the rest of the batch is dropped", async () => {
    const on = await bench(OFFLOADS);
    on.io.sendResults = [EINVAL, 1, EAGAIN];
    on.io.polls = [0];
    assertDrops(on, [gsoPacket(flow, 1000)], { egress_send_failed: 3 });
  });
});

test("whatever mixture comes, the datagrams are the naive twin's, in order", async () => {
  const on = await bench(OFFLOADS);
  const destinations = ["10.0.2.3", "10.0.2.9", "10.9.1.1", "10.0.3.17"];
  const read = fc.record({
    kind: fc.constantFrom("gso", "csum", "whole"),
    protocol: fc.constantFrom(TCP, UDP),
    to: fc.constantFrom(...destinations),
    size: fc.oneof(fc.constantFrom(64, 1400), fc.integer({ min: 1, max: 20_000 })),
    step: fc.constantFrom(100, 536, 1400),
    ttl: fc.integer({ min: 2, max: 255 }),
    flags: fc.nat(255).map((flags) => flags & ~URG),
  });
  fc.assert(
    fc.property(fc.array(read, { maxLength: 90 }), (parts) => {
      const flows = parts.map(({ size, ...one }) => egressFlow({ ...one, payload: bytesOf(size) }));
      on.io.sent.length = 0;
      on.io.reads = flows.map((flow, i) => {
        const { kind, step } = parts[i]!;
        if (kind === "gso") return gsoPacket(flow, step);
        return kind === "csum" ? csumPacket(flow) : withVirtio(wirePacket(flow));
      });
      assert.equal(on.egress(), 0);
      const all = flows.flatMap((flow, i) => {
        const { kind, step, size } = parts[i]!;
        return expected(flow, kind === "gso" ? step : size);
      });
      assert.deepEqual(on.io.sent.map(({ payload }) => hex(payload)), all);
    }),
    { numRuns: 40, seed: SEED },
  );
  assertAddsUp(on);
});
