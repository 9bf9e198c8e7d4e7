/** A path that carries less than the TUN's MTU says: what is cut, what is dropped and answered. */
import { test } from "node:test";
import assert from "node:assert/strict";
import { readCounters } from "../../src/dataplane/counters.ts";
import type { Offload } from "../../src/dataplane/offloads.ts";
import { assertAddsUp } from "./egress_assertions.ts";
import { bytesOf, csumPacket, egressFlow, gsoPacket, naiveSegments } from "./flows.ts";
import { forwarded, hex, naiveChecksum, packet } from "./packets.ts";
import { type Bench, bench, type Outgoing } from "./scripted_io.ts";

const EMSGSIZE = -90, EINVAL = -22;
const PEER_KEY = "10.0.2.0/24";
/** The outer path, and what it leaves for an inner packet. */
const OUTER = 1300;
const INNER = OUTER - 28;
const ALL: readonly Offload[] = ["csum", "tso", "uso", "udp-segment", "udp-gro"];
const DONT_FRAGMENT = 0x4000;

/** Refuses every datagram that is longer than the path carries, as the kernel does. */
function narrow(on: Bench): void {
  on.io.pathMtu_bytes = OUTER;
  on.io.refuses = ({ payload, segment }) => {
    if (segment > INNER) return EINVAL;
    return segment === 0 && payload.length > INNER ? EMSGSIZE : 0;
  };
}

/** The bytes behind the IP headers of fragments, put together. */
function reassembled(sent: readonly Outgoing[]): Uint8Array {
  let end = 0;
  const parts = sent.map(({ payload }) => {
    const view = new DataView(payload.buffer, payload.byteOffset);
    assert.equal(naiveChecksum(payload.subarray(0, 20)), 0);
    assert.ok(payload.length <= INNER);
    assert.equal((view.getUint16(6) & 0x1fff) * 8, end);
    end += payload.length - 20;
    return payload.subarray(20);
  });
  return Buffer.concat(parts);
}

test("a packet that may be cut is sent in fragments", async () => {
  const on = await bench();
  narrow(on);
  const whole = packet({ payload: bytesOf(1452) });
  const small = packet({ payload: bytesOf(30) });
  on.io.reads = [small, whole, small];
  on.egress();
  const sent = on.io.sent.map(({ payload }) => payload);
  assert.equal(sent.length, 4);
  assert.deepEqual(
    [sent[0], sent[3]].map((one) => hex(one!)),
    [small, small].map((one) => hex(forwarded(one))),
  );
  assert.deepEqual(reassembled(on.io.sent.slice(1, 3)), Buffer.from(whole.subarray(20)));
  assert.deepEqual(on.io.pathMtuCalls, ["2:192.0.2.2:8285"]);
  assert.equal(on.table.counters(PEER_KEY)!.pathMtu_bytes, INNER);
  assert.equal(on.table.counters(PEER_KEY)!.sentPackets, 4);
  assert.equal(readCounters(on.shared).tunPackets, 4);
  assertAddsUp(on);
});

test("one that must not be cut is dropped, and its sender told what the path carries", async () => {
  const on = await bench();
  narrow(on);
  const whole = packet({ payload: bytesOf(1452), fragment: DONT_FRAGMENT });
  on.io.reads = [whole];
  on.egress();
  assert.equal(on.io.sent.length, 0);
  assert.equal(on.io.icmpErrors.length, 1);
  const { to, payload: error } = on.io.icmpErrors[0]!;
  assert.equal(to, "2:10.0.1.2:0");
  const view = new DataView(error.buffer, error.byteOffset);
  assert.deepEqual([error[20], error[21], view.getUint16(26)], [3, 4, INNER]);
  assert.equal(naiveChecksum(error.subarray(20)), 0);
  assert.equal(hex(error.subarray(28, 56)), hex(forwarded(whole).subarray(0, 28)));
  assert.equal(readCounters(on.shared).drops["egress_too_big"], 1);
  assertAddsUp(on);
});

test("of a packet of many segments each is dropped, and one error tells of all", async () => {
  const on = await bench(ALL);
  narrow(on);
  const many = egressFlow({ payload: bytesOf(10_000) });
  on.io.reads = [gsoPacket(many, 1400)];
  on.egress();
  assert.equal(on.io.icmpErrors.length, 1);
  const { payload: error } = on.io.icmpErrors[0]!;
  const first = forwarded(naiveSegments(many, 1400)[0]!);
  assert.equal(hex(error.subarray(28, 56)), hex(first.subarray(0, 28)));
  // The last segment is short enough.
  assert.equal(readCounters(on.shared).drops["egress_too_big"], 7);
  assert.equal(on.io.sent.length, 1);
  assert.equal(on.io.pathMtuCalls.length, 1, "asked once a message");
  assertAddsUp(on);
});

test("segments that may be cut are sent in fragments, headers and payload apart", async () => {
  const on = await bench(ALL);
  narrow(on);
  const many = egressFlow({ payload: bytesOf(2_800), fragment: 0 });
  on.io.reads = [gsoPacket(many, 1400)];
  on.egress();
  const whole = naiveSegments(many, 1400).map(forwarded);
  assert.equal(on.io.sent.length, 4);
  for (const [i, one] of whole.entries()) {
    const data = reassembled(on.io.sent.slice(2 * i, 2 * i + 2));
    assert.equal(hex(data), hex(one.subarray(20)));
  }
  assert.equal(on.io.icmpErrors.length, 0);
  assertAddsUp(on);
});

test("packets gathered in one message go on singly, the small ones whole", async () => {
  const on = await bench(ALL);
  narrow(on);
  const sizes = [1352, 1352, 1352, 200];
  on.io.reads = sizes.map((size) => csumPacket(egressFlow({ payload: bytesOf(size) })));
  on.egress();
  assert.equal(on.io.sent.length, 1);
  assert.equal(readCounters(on.shared).drops["egress_too_big"], 3);
  assertAddsUp(on);
});

test("a refusal for another reason than the path is a failed send", async () => {
  const on = await bench();
  on.io.sendResults = [EMSGSIZE, EMSGSIZE];
  on.io.reads = [packet({ payload: bytesOf(100) })];
  on.egress();
  assert.deepEqual(on.io.pathMtuCalls.length, 1);
  assert.equal(readCounters(on.shared).drops["egress_send_failed"], 1);
  on.io.pathMtu_bytes = -101;
  on.io.sendResults = [EMSGSIZE, EMSGSIZE];
  on.io.reads = [packet({ payload: bytesOf(100) })];
  on.egress();
  assert.equal(readCounters(on.shared).drops["egress_send_failed"], 2);
  assert.equal(on.table.counters(PEER_KEY)!.pathMtu_bytes, null);
  assertAddsUp(on);
});

test("what a path carries is known for a while: no packet is offered in vain", async () => {
  const on = await bench(ALL);
  narrow(on);
  const fixed = (from: string) =>
    csumPacket(egressFlow({ from, payload: bytesOf(1400), fragment: DONT_FRAGMENT }));
  on.io.reads = [fixed("10.0.1.2")];
  on.egress();
  on.io.sendCalls.length = 0;
  const may = csumPacket(egressFlow({ payload: bytesOf(1400), fragment: 0 }));
  const many = gsoPacket(egressFlow({ payload: bytesOf(10_000) }), 1400);
  on.io.reads = [fixed("10.0.1.2"), may, fixed("10.0.1.3"), may, many];
  on.egress();
  assert.equal(on.io.pathMtuCalls.length, 1);
  assert.equal(on.io.sendCalls.length, 1, "all fragments in one call");
  assert.equal(on.io.sent.length, 4);
  for (const pair of [on.io.sent.slice(0, 2), on.io.sent.slice(2)]) reassembled(pair);
  assert.deepEqual(on.io.icmpErrors.map(({ to }) => to), [
    "2:10.0.1.2:0",
    "2:10.0.1.2:0",
    "2:10.0.1.3:0",
    "2:10.0.1.2:0",
  ]);
  assertAddsUp(on);
});

test("after ten seconds one packet tries whether the path is wider", async () => {
  const on = await bench();
  narrow(on);
  const whole = packet({ payload: bytesOf(1452), fragment: DONT_FRAGMENT });
  on.io.reads = [whole];
  on.egress();
  on.io.refuses = () => 0;
  on.io.reads = [whole];
  on.egress();
  assert.equal(on.io.sent.length, 0);
  on.io.now += 10_000;
  on.io.reads = [whole];
  on.egress();
  assert.equal(on.io.sent.length, 1);
  assertAddsUp(on);
});

test("what the kernel was told of a path is not believed below the floor", async () => {
  const on = await bench();
  narrow(on);
  on.io.pathMtu_bytes = 552;
  on.io.reads = [packet({ payload: bytesOf(1452), fragment: DONT_FRAGMENT })];
  on.egress();
  assert.equal(on.table.counters(PEER_KEY)!.pathMtu_bytes, 1280 - 28);
});

test("an interface narrower than the floor is believed at the second refusal", async () => {
  const on = await bench();
  on.io.pathMtu_bytes = 600;
  on.io.refuses = ({ payload }) => payload.length > 572 ? EMSGSIZE : 0;
  const may = () => packet({ payload: bytesOf(1000) });
  on.io.reads = [may()];
  on.egress();
  assert.equal(on.table.counters(PEER_KEY)!.pathMtu_bytes, 572);
  assert.equal(on.io.sent.length, 2);
  assertAddsUp(on);
});

test("senders of one message are each told", async () => {
  const on = await bench(ALL);
  narrow(on);
  on.io.reads = ["10.0.1.2", "10.0.1.3", "10.0.1.3", "10.0.1.4"].map((from) =>
    csumPacket(egressFlow({ from, payload: bytesOf(1352) }))
  );
  on.egress();
  const told = on.io.icmpErrors.map(({ to }) => to);
  assert.deepEqual(told, ["2:10.0.1.2:0", "2:10.0.1.3:0", "2:10.0.1.4:0"]);
  assertAddsUp(on);
});

test("packets to nowhere do not use up the answers that path MTU discovery needs", async () => {
  const on = await bench();
  narrow(on);
  const nowhere = packet({ to: "10.0.9.9" });
  const whole = packet({ payload: bytesOf(1452), fragment: DONT_FRAGMENT });
  on.io.reads = [...new Array(60).fill(nowhere), whole];
  on.egress();
  assert.equal(on.io.icmpErrors.length, 51);
  assert.equal(on.io.icmpErrors.at(-1)!.payload[21], 4);
});
