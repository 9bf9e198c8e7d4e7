/** The ingress loop over a socket with UDP_GRO and a TUN with virtio headers. */
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { DROP_REASONS, readCounters } from "../../src/dataplane/counters.ts";
import { OFFLOADS } from "../../src/dataplane/offloads.ts";
import { type Bench, bench, type Datagram, POLLIN } from "./scripted_io.ts";
import {
  ACK,
  bytesOf,
  CWR,
  ECE,
  FIN,
  type Flow,
  flow,
  gsoPacket,
  naiveSegments,
  packetsOfWrite,
  PSH,
  RST,
  SYN,
  TCP,
  UDP,
  URG,
  wirePacket,
  withVirtio,
} from "./flows.ts";
import { forwarded, hex, packet, patched, withChecksum } from "./packets.ts";

const EINVAL = -22, EBADFD = -77;
const PEER = "192.0.2.2";
const MSG_TRUNC = 0x20;
const SEED = 768;

function assertAddsUp({ shared }: Bench): void {
  const { datagrams, receivedPackets, drops } = readCounters(shared);
  const dropped = DROP_REASONS.filter(({ role }) => role === "ingress")
    .reduce((sum, { name }) => sum + drops[name]!, 0);
  assert.equal(datagrams, receivedPackets + dropped);
}

/** One message with all of these in it, as UDP_GRO hands them over. */
function together(packets: readonly Uint8Array[], from = PEER): Datagram {
  const payload = Buffer.concat(packets);
  return packets.length === 1 ? { from, payload } : { from, payload, segment: packets[0]!.length };
}

const alone = (packets: readonly Uint8Array[]): Datagram[] =>
  packets.map((payload) => ({ from: PEER, payload }));

/** What the container gets: the packets of all writes. */
const delivered = ({ io }: Bench): string[] => io.written.flatMap(packetsOfWrite).map(hex);

const hops = (flow: Flow): Flow => ({ ...flow, ttl: flow.ttl - 1 });

describe("datagrams of one message", () => {
  test("are taken apart, and gathered into one write", async () => {
    const on = await bench(OFFLOADS);
    for (const protocol of [TCP, UDP]) {
      const one = flow({ protocol, payload: bytesOf(3500), flags: ACK | PSH });
      on.io.written.length = 0;
      on.io.receives = [[together(naiveSegments(one, 1000))]];
      assert.equal(on.ingress(), 0);
      assert.deepEqual(on.io.written.map(hex), [hex(gsoPacket(hops(one), 1000))]);
    }
    const bytes = 2 * 3500 + 4 * 40 + 4 * 28;
    const { datagrams, receivedPackets, receivedBytes } = readCounters(on.shared);
    assert.deepEqual([datagrams, receivedPackets, receivedBytes], [8, 8, bytes]);
    const peer = on.table.counters("10.0.2.0/24")!;
    assert.deepEqual([peer.receivedPackets, peer.receivedBytes], [8, bytes]);
  });

  test("are judged one by one", async () => {
    const on = await bench(OFFLOADS);
    const good = naiveSegments(flow({ protocol: UDP, payload: bytesOf(800) }), 100);
    const bad = [
      patched(good[1]!, { 0: 0x65 }),
      patched(good[2]!, { 0: 0x44 }),
      patched(good[3]!, { 3: 1 }),
      withChecksum(patched(good[4]!, { 8: 1 })),
    ];
    on.io.receives = [[
      together([good[0]!, ...bad, ...good.slice(5, 7), good[7]!.slice(0, 19)]),
    ]];
    on.ingress();
    const { drops } = readCounters(on.shared);
    assert.deepEqual(Object.fromEntries(Object.entries(drops).filter(([, n]) => n > 0)), {
      ingress_bad_version: 1,
      ingress_bad_header_length: 1,
      ingress_bad_total_length: 1,
      ingress_ttl_expired: 1,
      ingress_truncated: 1,
    });
    assert.deepEqual(delivered(on), [0, 5, 6].map((i) => hex(forwarded(good[i]!))));
    assert.equal(on.table.counters("10.0.2.0/24")!.receivedPackets, 3);
    assertAddsUp(on);
  });

  test("of a stranger, or cut off, are all dropped and counted", async () => {
    const on = await bench(OFFLOADS);
    const packets = naiveSegments(flow(), 100);
    on.io.receives = [[
      together(packets, "192.0.2.77"),
      { ...together(packets), flags: MSG_TRUNC },
      together(packets),
    ]];
    on.ingress();
    const { drops } = readCounters(on.shared);
    assert.deepEqual([drops["ingress_source_not_peer"], drops["ingress_datagram_truncated"]], [
      10,
      10,
    ]);
    assert.equal(on.io.written.length, 1);
    assertAddsUp(on);
  });

  test("a size that makes no sense is taken for one datagram", async () => {
    const on = await bench(OFFLOADS);
    const payload = wirePacket(flow());
    on.io.receives = [[0, -1, payload.length, 1 << 30].map((segment) => {
      return { from: PEER, payload, segment };
    })];
    on.ingress();
    assert.equal(readCounters(on.shared).receivedPackets, 4);
    assertAddsUp(on);
  });
});

describe("packets of one flow", () => {
  const base = flow({ payload: bytesOf(2000) });
  const [first, second] = naiveSegments(base, 1000) as [Uint8Array, Uint8Array];
  const after = (parts: Partial<Flow>): Uint8Array =>
    wirePacket({
      ...base,
      id: 0x1235,
      sequence: 0x01020304 + 1000,
      payload: bytesOf(1000),
      ...parts,
    });
  const before = (parts: Partial<Flow>): Uint8Array =>
    wirePacket({ ...base, payload: bytesOf(1000), ...parts });
  const options = Uint8Array.of(1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2);

  const joined: [what: string, packets: Uint8Array[]][] = [
    ["in order", [first, second]],
    ["the second shorter", [first, after({ payload: bytesOf(1) })]],
    ["the second with PSH", [first, after({ flags: ACK | PSH })]],
    ["the second with FIN", [first, after({ flags: ACK | FIN })]],
    ["both with ECE", [before({ flags: ACK | ECE }), after({ flags: ACK | ECE })]],
    ["the same options", [before({ tcpOptions: options }), after({ tcpOptions: options })]],
    ["a sequence that wraps around", [
      before({ sequence: 0xffffff00 }),
      after({ sequence: 0xffffff00 + 1000 - 2 ** 32 }),
    ]],
    ["a number that wraps around", [before({ id: 0xffff }), after({ id: 0 })]],
    ["no DF", [before({ fragment: 0 }), after({ fragment: 0 })]],
  ];
  for (const [what, packets] of joined) {
    test(`are gathered: ${what}`, async () => {
      const on = await bench(OFFLOADS);
      on.io.receives = [alone(packets)];
      on.ingress();
      assert.equal(on.io.written.length, 1);
      assert.deepEqual(delivered(on), packets.map((one) => hex(forwarded(Uint8Array.from(one)))));
    });
  }

  test("are gathered: one number for all, which DF makes meaningless", async () => {
    const on = await bench(OFFLOADS);
    const third = after({ id: 0, sequence: 0x01020304 + 2000 });
    on.io.receives = [alone([before({ id: 0 }), after({ id: 0 }), third])];
    on.ingress();
    assert.equal(on.io.written.length, 1);
  });

  const apart: [what: string, packets: Uint8Array[]][] = [
    ["another port", [first, after({ ports: 1 })]],
    ["another source", [first, after({ from: "10.0.2.4" })]],
    ["another destination", [first, after({ to: "10.0.1.3" })]],
    ["another protocol", [first, after({ protocol: UDP })]],
    ["another acknowledgment", [first, after({ acknowledgment: 1 })]],
    ["another window", [first, after({ window: 500 })]],
    ["an urgent pointer without URG", [first, after({ urgent: 0xffff })]],
    ["another TTL", [first, after({ ttl: 63 })]],
    ["another TOS", [first, after({ tos: 1 })]],
    ["ECE", [first, after({ flags: ACK | ECE })]],
    ["CWR in the first", [before({ flags: ACK | CWR }), second]],
    ["CWR in the second", [first, after({ flags: ACK | CWR })]],
    ["CWR in both", [before({ flags: ACK | CWR }), after({ flags: ACK | CWR })]],
    ["no ACK", [first, after({ flags: 0 })]],
    ["SYN", [first, after({ flags: ACK | SYN })]],
    ["RST", [first, after({ flags: ACK | RST })]],
    ["URG", [first, after({ flags: ACK | URG, urgent: 1 })]],
    ["both URG", [before({ flags: ACK | URG }), after({ flags: ACK | URG })]],
    ["PSH in the first", [before({ flags: ACK | PSH }), second]],
    ["FIN in the first", [before({ flags: ACK | FIN }), second]],
    ["both SYN", [before({ flags: SYN }), after({ flags: SYN })]],
    ["a gap", [first, after({ sequence: 0x01020304 + 1001 })]],
    ["the same again", [first, first]],
    ["the wrong way round", [second, first]],
    ["the second longer", [first, after({ payload: bytesOf(1001) })]],
    ["nothing in the second", [first, after({ payload: new Uint8Array() })]],
    ["nothing in the first", [before({ payload: new Uint8Array() }), before({})]],
    ["other options", [before({ tcpOptions: options }), after({ tcpOptions: new Uint8Array(12) })]],
    ["options in the second", [first, after({ tcpOptions: options })]],
    ["IP options", [
      before({ ipOptions: new Uint8Array(4).fill(1) }),
      after({ ipOptions: new Uint8Array(4).fill(1) }),
    ]],
    ["a gap in the numbers", [first, after({ id: 0x1236 })]],
    ["one number without DF", [
      before({ fragment: 0 }),
      after({ fragment: 0, id: 0x1234 }),
    ]],
    ["DF in the first alone", [first, after({ fragment: 0 })]],
    ["fragments", [before({ fragment: 0x2000 }), after({ fragment: 0x2000 })]],
    ["a later fragment", [first, after({ fragment: 5 })]],
    ["the reserved bit", [before({ fragment: 0x8000 }), after({ fragment: 0x8000 })]],
    ["ICMP", [before({ protocol: 1 }), after({ protocol: 1 })]],
    ["a wrong checksum in the first", [patched(first, { 50: first[50]! ^ 1 }), second]],
    ["a wrong checksum in the second", [first, patched(second, { 50: second[50]! ^ 1 })]],
    ["a wrong IP checksum in the first", [patched(first, { 10: first[10]! ^ 1 }), second]],
    ["a wrong IP checksum in the second", [first, patched(second, { 10: second[10]! ^ 1 })]],
  ];
  for (const [what, packets] of apart) {
    test(`pass one by one, as they are: ${what}`, async () => {
      const on = await bench(OFFLOADS);
      on.io.receives = [alone(packets)];
      on.ingress();
      assert.equal(on.io.written.length, 2);
      const expected = await bench([]);
      expected.io.receives = [alone(packets)];
      expected.ingress();
      assert.deepEqual(delivered(on), expected.io.written.map(hex));
    });
  }

  const udp = flow({ protocol: UDP, payload: bytesOf(300) });
  test("UDP without a checksum passes alone", async () => {
    const on = await bench(OFFLOADS);
    const packets = naiveSegments(udp, 100).map((one) => patched(one, { 26: 0, 27: 0 }));
    on.io.receives = [[together(packets)]];
    on.ingress();
    assert.deepEqual(
      on.io.written.map(hex),
      packets.map(forwarded).map((one) => hex(withVirtio(one))),
    );
  });

  test("without uso UDP passes alone, and TCP is gathered", async () => {
    const on = await bench(["csum", "tso", "udp-gro"]);
    on.io.receives = [[together(naiveSegments(udp, 100)), together([first, second])]];
    on.ingress();
    assert.equal(on.io.written.length, 3 + 1);
  });

  test("without a virtio header each is written as it is", async () => {
    const on = await bench(["udp-gro"]);
    on.io.receives = [[together([first, second])]];
    on.ingress();
    const expected = [first, second].map((one) => hex(forwarded(Uint8Array.from(one))));
    assert.deepEqual(on.io.written.map(hex), expected);
  });

  test("a third that belongs to nobody closes the group and opens its own", async () => {
    const on = await bench(OFFLOADS);
    const other = naiveSegments(udp, 100);
    on.io.receives = [alone([first, second, ...other, first, second])];
    on.ingress();
    assert.deepEqual(on.io.written.map((bytes) => packetsOfWrite(bytes).length), [2, 3, 2]);
  });
});

describe("batches", () => {
  test("nothing is held back when a batch ends", async () => {
    const on = await bench(OFFLOADS);
    const [one, two, three] = naiveSegments(flow({ payload: bytesOf(300) }), 100);
    const writes: number[] = [];
    on.io.onPoll = () => writes.push(on.io.written.length);
    on.io.receives = [alone([one!]), alone([two!, three!])];
    on.io.polls = [[POLLIN, 0]];
    on.ingress();
    assert.deepEqual(writes, [1, 2]);
    const expected = [one, two, three].map((each) => hex(forwarded(each!)));
    assert.deepEqual(delivered(on), expected);
  });

  test("a group that the kernel does not take goes packet by packet", async () => {
    const on = await bench(OFFLOADS);
    const packets = naiveSegments(flow({ payload: bytesOf(2500) }), 1000);
    on.io.writeResults = [EINVAL, 1050, EINVAL];
    on.io.receives = [alone(packets)];
    on.ingress();
    const expected = [0, 2].map((i) => hex(forwarded(packets[i]!)));
    assert.deepEqual(delivered(on), expected);
    assert.equal(readCounters(on.shared).drops["ingress_tun_write_failed"], 1);
    assert.equal(readCounters(on.shared).receivedBytes, 1040 + 540);
    assertAddsUp(on);
  });

  test("a TUN that is gone ends it, every packet of the group counted", async () => {
    const on = await bench(OFFLOADS);
    on.io.receives = [alone(naiveSegments(flow({ payload: bytesOf(2500) }), 1000))];
    on.io.writeResults = new Array(9).fill(EBADFD);
    assert.equal(on.ingress(), EBADFD);
    assert.equal(readCounters(on.shared).drops["ingress_tun_write_failed"], 3);
    assertAddsUp(on);
  });

  test("full batches of full messages", async () => {
    const on = await bench(OFFLOADS);
    const packets = naiveSegments(flow({ payload: bytesOf(44 * 1400) }), 1400);
    on.io.receives = [new Array<Datagram>(64).fill(together(packets))];
    on.ingress();
    assert.equal(on.io.written.length, 64);
    assert.equal(readCounters(on.shared).receivedPackets, 64 * 44);
    assertAddsUp(on);
  });
});

test("whatever mixture comes, the container gets what it would without offloads", async () => {
  const on = await bench(OFFLOADS);
  const off = await bench([]);
  const stretch = fc.record({
    protocol: fc.constantFrom(TCP, UDP),
    ports: fc.constantFrom(1, 2),
    tos: fc.constantFrom(0, 0, 2),
    size: fc.integer({ min: 1, max: 5000 }),
    step: fc.constantFrom(64, 536, 1400),
    from: fc.constantFrom(PEER, PEER, "192.0.2.9", "192.0.2.99"),
    changes: fc.array(fc.record({ packet: fc.nat(), at: fc.nat(90), value: fc.nat(255) }), {
      maxLength: 2,
    }),
    isTogether: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(stretch, { minLength: 1, maxLength: 8 }), (stretches) => {
      const messages: Datagram[] = [];
      const datagrams: Datagram[] = [];
      let sequence = 0;
      let number = 0;
      for (const { size, step, from, changes, isTogether, ...parts } of stretches) {
        const payload = bytesOf(size);
        const packets = naiveSegments(flow({ ...parts, id: number, sequence, payload }), step);
        number += packets.length;
        sequence += size;
        for (const { packet, at, value } of changes) {
          packets[packet % packets.length]!.fill(value, at, at + 1);
        }
        const each = packets.map((payload) => ({ from, payload }));
        datagrams.push(...each);
        // The kernel puts no more than 64 datagrams together.
        for (let i = 0; i < packets.length; i += isTogether ? 64 : 1) {
          messages.push(together(packets.slice(i, i + (isTogether ? 64 : 1)), from));
        }
      }
      const batches = (all: Datagram[]) =>
        Array.from(
          { length: Math.ceil(all.length / 64) },
          (_, i) => all.slice(i * 64, i * 64 + 64),
        );
      on.io.receives = batches(messages);
      off.io.receives = batches(datagrams);
      on.io.polls = on.io.receives.map(() => [POLLIN, 0]);
      off.io.polls = off.io.receives.map(() => [POLLIN, 0]);
      on.io.written.length = off.io.written.length = 0;
      assert.equal(on.ingress(), 0);
      assert.equal(off.ingress(), 0);
      assert.deepEqual(delivered(on), off.io.written.map(hex));
    }),
    { numRuns: 300, seed: SEED },
  );
  assert.deepEqual(readCounters(on.shared), readCounters(off.shared));
  assert.ok(readCounters(on.shared).receivedPackets > 1000);
  assertAddsUp(on);
});

test("a packet longer than a group may be passes alone", async () => {
  const on = await bench(OFFLOADS);
  const large = packet({ from: "10.0.2.3", to: "10.0.1.2", payload: bytesOf(65535 - 20) });
  on.io.receives = [alone([large, large])];
  on.ingress();
  assert.deepEqual(on.io.written.map((bytes) => bytes.length), [65545, 65545]);
});
