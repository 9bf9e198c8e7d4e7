/** Cutting and gathering, as pure functions, against their naive twins. */
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  ARENA_OFFSET,
  EGRESS_WORK_OFFSET,
  INGRESS_WORK_OFFSET,
  RECEIVE_BUFFERS_OFFSET,
  SEGMENT_COUNT_MAX,
  SEGMENT_HEADER_SIZE,
  SEND_HEADERS_OFFSET,
  WRITE_IOVECS_OFFSET,
} from "../../wasm/layout.ts";
import { type Bench, bench } from "./scripted_io.ts";
import {
  ACK,
  bytesOf,
  CWR,
  ECE,
  FIN,
  type Flow,
  flow,
  gsoPacket,
  gsoType,
  headersSize,
  naiveSegments,
  packetsOfWrite,
  PSH,
  TCP,
  UDP,
  URG,
  VIRTIO_BYTES,
} from "./flows.ts";
import { hex } from "./packets.ts";

const ARENA = EGRESS_WORK_OFFSET + ARENA_OFFSET;
const HEADERS = EGRESS_WORK_OFFSET + SEND_HEADERS_OFFSET;
const SEED = 6864;
const RUNS = 300;

/** Cuts the packet behind a virtio header, with the code under test. */
function cut({ shared, loops }: Bench, bytes: Uint8Array): Uint8Array[] {
  const packet = bytes.subarray(VIRTIO_BYTES);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  shared.bytes.set(packet, ARENA);
  const step = view.getUint16(4, true);
  const count = loops.segmentOpen(ARENA, packet.length, bytes[1]!, step);
  const headers = loops.segmentHeadersSize();
  return Array.from({ length: count }, (_, i) => {
    const at = HEADERS + i % 8 * SEGMENT_HEADER_SIZE;
    const size = loops.segmentWrite(at, i);
    const payload = ARENA + headers + i * step;
    return Buffer.concat([
      shared.bytes.slice(at, at + headers),
      shared.bytes.slice(payload, payload + size),
    ]);
  });
}

/** Gathers packets into as few writes as they fit in; returns what each write is. */
function gather({ shared, loops }: Bench, packets: readonly Uint8Array[]): Uint8Array[] {
  const writes: Uint8Array[] = [];
  let group: Uint8Array[] = [];
  const end = () => {
    if (group.length === 1) writes.push(Buffer.concat([new Uint8Array(VIRTIO_BYTES), group[0]!]));
    if (group.length > 1) writes.push(written(loops.coalesceFinish()));
  };
  const written = (count: number): Uint8Array => {
    const view = new DataView(shared.bytes.buffer);
    return Buffer.concat(
      Array.from({ length: count }, (_, i) => {
        const at = Number(
          view.getBigUint64(INGRESS_WORK_OFFSET + WRITE_IOVECS_OFFSET + i * 16, true),
        );
        const size = Number(
          view.getBigUint64(INGRESS_WORK_OFFSET + WRITE_IOVECS_OFFSET + i * 16 + 8, true),
        );
        return shared.bytes.slice(at, at + size);
      }),
    );
  };
  let at = INGRESS_WORK_OFFSET + RECEIVE_BUFFERS_OFFSET;
  for (const packet of packets) {
    shared.bytes.set(packet, at);
    if (group.length > 0 && loops.coalesceAppend(at, packet.length) !== 0) {
      group.push(packet);
    } else {
      end();
      loops.coalesceBegin(at, packet.length);
      group = [packet];
    }
    at += packet.length;
  }
  end();
  return writes;
}

const words = (max: number) =>
  fc.integer({ min: 0, max }).chain((count) =>
    fc.uint8Array({ minLength: count * 4, maxLength: count * 4 })
  );

/** Flows of every kind that can be cut, with the size they are cut to. */
const cuttable = fc.record({
  family: fc.constantFrom<4 | 6>(4, 6),
  protocol: fc.constantFrom(TCP, UDP),
  tos: fc.nat(255),
  ttl: fc.integer({ min: 1, max: 255 }),
  fragment: fc.constantFrom(0, 0x4000),
  id: fc.nat(65535),
  ipOptions: fc.oneof(fc.constant(new Uint8Array()), words(10)),
  ports: fc.nat(0xffffffff),
  sequence: fc.oneof(fc.nat(0xffffffff), fc.constant(0xfffffff0)),
  acknowledgment: fc.nat(0xffffffff),
  flags: fc.nat(255).map((flags) => flags & ~URG),
  window: fc.nat(65535),
  tcpOptions: words(10),
  size: fc.oneof(fc.integer({ min: 1, max: 300 }), fc.integer({ min: 1, max: 65_000 })),
  step: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 500, max: 9000 })),
  seed: fc.nat(),
}).map(({ size, step, seed, ...parts }) => {
  const big = flow({ ...parts, ...(parts.family === 6 ? { from: "fd00::3", to: "fd00::4" } : {}) });
  const room = 65535 - headersSize(big);
  // Tiny segments of a huge packet take the naive twin for ever.
  const most = step < 40 ? 400 : room;
  return { flow: { ...big, payload: bytesOf(Math.min(size, most), seed) }, step };
});

/** Those that GRO takes: no IP options, and no flags that end or forbid a group. */
const gatherable = cuttable.map(({ flow, step }) => ({
  flow: {
    ...flow,
    ipOptions: new Uint8Array(),
    flags: flow.flags & (ACK | PSH | FIN | CWR | ECE),
  },
  step,
}));

describe("cutting", () => {
  test("equals the naive twin, whatever is cut", async () => {
    const on = await bench();
    fc.assert(
      fc.property(cuttable, ({ flow, step }) => {
        const segments = cut(on, gsoPacket(flow, step));
        assert.deepEqual(segments.map(hex), naiveSegments(flow, step).map(hex));
      }),
      { numRuns: RUNS, seed: SEED },
    );
  });

  test("every payload size from 1 to three segments", async () => {
    const on = await bench();
    for (const protocol of [TCP, UDP]) {
      for (let size = 1; size <= 301; size++) {
        const small = flow({ protocol, payload: bytesOf(size, size), flags: ACK | PSH | FIN });
        const segments = cut(on, gsoPacket(small, 100));
        assert.deepEqual(segments.map(hex), naiveSegments(small, 100).map(hex), `${size}`);
      }
    }
  });

  test("it leaves the packet as it is, and writes nothing but the headers", async () => {
    const on = await bench();
    const bytes = gsoPacket(flow({ tcpOptions: new Uint8Array(40), payload: bytesOf(5000) }), 1000);
    const [first, end] = [HEADERS, HEADERS + 9 * SEGMENT_HEADER_SIZE];
    on.shared.bytes.fill(0xa5, first - 1024, end);
    cut(on, bytes);
    const packet = bytes.subarray(VIRTIO_BYTES);
    assert.deepEqual(on.shared.bytes.slice(ARENA, ARENA + packet.length), packet);
    const isUntouched = (from: number, to: number) =>
      on.shared.bytes.slice(from, to).every((byte) => byte === 0xa5);
    assert.ok(isUntouched(first - 1024, first));
    assert.ok(isUntouched(first + 5 * SEGMENT_HEADER_SIZE, end));
  });
});

describe("gathering", () => {
  test("what was cut and is gathered is the same again, of either family", async () => {
    const on = await bench();
    let groupCount = 0;
    fc.assert(
      fc.property(gatherable, ({ flow, step }) => {
        const segments = naiveSegments(flow, step);
        const writes = gather(on, segments);
        assert.deepEqual(writes.flatMap(packetsOfWrite).map(hex), segments.map(hex));
        assert.deepEqual(
          writes.flatMap((bytes) => bytes[1] === 0 ? [bytes.slice(10)] : cut(on, bytes)).map(hex),
          segments.map(hex),
        );
        const hasCwr = flow.protocol === TCP && (flow.flags & CWR) !== 0;
        if (segments.length > 1 && segments.length <= SEGMENT_COUNT_MAX && !hasCwr) {
          assert.equal(writes.length, 1);
          assert.equal(hex(writes[0]!), hex(gsoPacket(flow, step)));
          assert.equal(writes[0]![1], gsoType(flow));
          groupCount++;
        }
      }),
      { numRuns: RUNS, seed: SEED },
    );
    assert.ok(groupCount > RUNS / 6, `${groupCount}`);
  });

  test("packets changed at random: whatever is gathered is what came, in order", async () => {
    const on = await bench();
    const change = fc.record({ packet: fc.nat(), at: fc.nat(), value: fc.nat(255) });
    fc.assert(
      fc.property(gatherable, fc.array(change, { maxLength: 6 }), ({ flow, step }, changes) => {
        const packets = naiveSegments(flow, step);
        for (const { packet, at, value } of changes) {
          const bytes = packets[packet % packets.length]!;
          bytes[at % Math.min(bytes.length, 80)] = value;
        }
        const writes = gather(on, packets);
        assert.deepEqual(writes.flatMap(packetsOfWrite).map(hex), packets.map(hex));
      }),
      { numRuns: RUNS, seed: SEED },
    );
  });

  test("of three flows in turn each packet stays in its place", async () => {
    const on = await bench();
    const flows: Flow[] = [
      flow({ payload: bytesOf(3000) }),
      flow({ protocol: UDP, payload: bytesOf(900), ports: 5 }),
      flow({ family: 6, from: "fd00::3", to: "fd00::4", payload: bytesOf(3000, 9) }),
    ];
    const parts = flows.map((one) => naiveSegments(one, 300));
    const packets = parts[0]!.flatMap((_, i) => parts.flatMap((part) => part.slice(i, i + 1)));
    const writes = gather(on, packets);
    assert.deepEqual(writes.flatMap(packetsOfWrite).map(hex), packets.map(hex));
  });
});
