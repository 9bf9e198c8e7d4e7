import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { assertAddsUp, assertDrops } from "./egress_assertions.ts";
import {
  BATCH_SIZE_MAX,
  LANE_EGRESS_EPOCH_OFFSET,
  LANES_OFFSET,
  STOP_FLAG_OFFSET,
} from "../../wasm/layout.ts";
import { DROP_REASONS, readCounters } from "../../src/dataplane/counters.ts";
import {
  bench,
  entry,
  PEERS,
  POLLERR,
  POLLIN,
  POLLNVAL,
  POLLOUT,
  TUN_FD,
  UDP_FD,
  WAKE_FD,
} from "./scripted_io.ts";
import { forwarded, fromHex, hex, naiveChecksum, packet, patched } from "./packets.ts";

const EINTR = -4,
  EIO = -5,
  EBADF = -9,
  EAGAIN = -11,
  ENOMEM = -12,
  EBADFD = -77,
  EPERM = -1,
  ENETUNREACH = -101;
const ENOBUFS = -105;

describe("forwarding", () => {
  test("golden bytes: one packet to its peer, TTL and checksum adjusted", async () => {
    const on = await bench();
    on.io.reads = [
      fromHex("4500 001c abcd 4000 4011 7aff 0a00 0102 0a00 0203 0001 0002 0008 0000"),
    ];
    assert.equal(on.egress(), 0);
    assert.deepEqual(on.io.sent.map(({ to, payload }) => [to, hex(payload)]), [
      ["2:192.0.2.2:8285", "4500001cabcd40003f117bff0a0001020a0002030001000200080000"],
    ]);
  });

  test("packets to several peers go in order, in one sendmmsg, counted by peer", async () => {
    const on = await bench();
    const to = ["10.0.2.3", "10.9.200.1", "10.0.3.16", "10.0.2.255", "10.0.3.31"];
    const packets = to.map((address, i) => packet({ to: address, payload: new Uint8Array(i * 7) }));
    on.io.reads = [...packets];
    assert.equal(on.egress(), 0);
    assert.equal(on.io.sendCalls.length, 1);
    const endpoints = ["2.2:8285", "2.9:65535", "2.3:8300", "2.2:8285", "2.3:8300"];
    assert.deepEqual(on.io.sent.map(({ to }) => to), endpoints.map((end) => `2:192.0.${end}`));
    assert.deepEqual(
      on.io.sent.map(({ payload }) => hex(payload)),
      packets.map(forwarded).map(hex),
    );
    assert.deepEqual(PEERS.map(({ key }) => on.table.counters(key)!.sentPackets), [2, 2, 1]);
    const bytes = packets.map(({ length }) => length);
    assert.equal(on.table.counters("10.0.2.0/24")!.sentBytes, bytes[0]! + bytes[3]!);
    assert.equal(readCounters(on.shared).sentBytes, bytes.reduce((a, b) => a + b));
    assertAddsUp(on);
  });

  test("header options are carried along", async () => {
    const on = await bench();
    const withOptions = packet({ options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 0) });
    on.io.reads = [withOptions];
    on.egress();
    assert.equal(hex(on.io.sent[0]!.payload), hex(forwarded(withOptions)));
  });

  test("every TTL from 2 to 255 keeps the checksum right", async () => {
    const on = await bench();
    const packets = Array.from({ length: 254 }, (_, i) => packet({ ttl: i + 2 }));
    on.io.reads = [...packets];
    on.egress();
    assert.equal(on.io.sent.length, 254);
    on.io.sent.forEach(({ payload }, i) => {
      assert.equal(payload[8], i + 1);
      assert.equal(naiveChecksum(payload.subarray(0, 20)), 0);
    });
  });

  test("a batch ends at its bound, and the next goes on without waiting", async () => {
    const on = await bench();
    on.io.reads = Array.from({ length: BATCH_SIZE_MAX + 1 }, () => packet());
    on.egress();
    assert.deepEqual(on.io.sendCalls.map(({ length }) => length), [BATCH_SIZE_MAX, 1]);
    assert.equal(on.io.pollCalls.length, 1);
  });

  test("a dropped packet does not end the batch, nor leaves a gap in it", async () => {
    const on = await bench();
    on.io.reads = [packet(), packet({ to: "172.16.0.1" }), packet({ to: "10.9.0.1" })];
    on.egress();
    assert.deepEqual(on.io.sendCalls.map(({ length }) => length), [2]);
    assertAddsUp(on);
  });

  test("the largest packet goes whole", async () => {
    const on = await bench();
    const largest = packet({ payload: new Uint8Array(65535 - 20).fill(0x5a) });
    on.io.reads = [largest, packet()];
    on.egress();
    assert.ok(Buffer.from(on.io.sent[0]!.payload).equals(forwarded(largest)));
    assert.equal(hex(on.io.sent[1]!.payload), hex(forwarded(packet())));
  });
});

describe("what is dropped, and counted by reason", () => {
  const good = packet();
  const cases: [what: string, bytes: Uint8Array, reason: string][] = [
    ["nothing", new Uint8Array(), "egress_truncated"],
    ["19 bytes", good.slice(0, 19), "egress_truncated"],
    ["IPv6", Uint8Array.of(0x60, ...new Uint8Array(47)), "egress_ipv6"],
    ["one byte of IPv6", Uint8Array.of(0x60), "egress_ipv6"],
    ["version 5", patched(good, { 0: 0x55 }), "egress_bad_version"],
    ["a header of 16 bytes", patched(good, { 0: 0x44 }), "egress_bad_header_length"],
    ["a header longer than the packet", patched(good, { 0: 0x4f }), "egress_bad_header_length"],
    ["total length too large", patched(good, { 3: 37 }), "egress_bad_total_length"],
    ["total length too small", patched(good, { 3: 35 }), "egress_bad_total_length"],
    ["total length 0", patched(good, { 2: 0, 3: 0 }), "egress_bad_total_length"],
    ["nobody's destination", packet({ to: "10.0.4.1" }), "egress_no_peer"],
    ["just before a subnet", packet({ to: "10.0.3.15" }), "egress_no_peer"],
    ["just behind a subnet", packet({ to: "10.0.3.32" }), "egress_no_peer"],
    ["multicast", packet({ to: "224.0.0.251" }), "egress_special_address"],
    ["broadcast", packet({ to: "255.255.255.255" }), "egress_special_address"],
    ["to class E", packet({ to: "240.0.0.1" }), "egress_special_address"],
    ["to loopback", packet({ to: "127.0.0.1" }), "egress_special_address"],
    ["from loopback", packet({ from: "127.0.0.1" }), "egress_special_address"],
    ["from nobody", packet({ from: "0.0.0.0" }), "egress_special_address"],
    ["from all of our subnet", packet({ from: "10.0.1.255" }), "egress_special_address"],
    ["from another host's subnet", packet({ from: "10.0.2.9" }), "egress_source_spoofed"],
    ["from a subnet nobody has", packet({ from: "10.0.77.9" }), "egress_source_spoofed"],
    ["from outside of the network", packet({ from: "198.51.100.7" }), "egress_source_outside"],
    ["TTL 1", packet({ ttl: 1 }), "egress_ttl_expired"],
    ["TTL 0", packet({ ttl: 0 }), "egress_ttl_expired"],
  ];
  for (const [what, bytes, reason] of cases) {
    test(`${what}: ${reason}`, async () => {
      const on = await bench();
      assertDrops(on, [bytes, packet()], { [reason]: 1 });
      assert.equal(on.io.sent.length, 1);
      const isAnswered = reason === "egress_no_peer" || reason === "egress_ttl_expired";
      const errors = isAnswered && bytes[8] !== undefined ? 1 : 0;
      assert.equal(on.io.icmpErrors.length, errors, "no error is sent about a bad address");
    });
  }

  test("what this host itself sends from its outer address passes", async () => {
    const on = await bench();
    assertDrops(on, [packet({ from: "192.0.2.1" })], {});
    assert.equal(on.io.sent.length, 1);
  });

  test("outside sources pass where they are allowed, and spoofed ones do not", async () => {
    const on = await bench([], { allowsOutsideSources: true });
    const packets = ["198.51.100.7", "10.0.2.9", "127.0.0.1"].map((from) => packet({ from }));
    assertDrops(on, packets, { egress_source_spoofed: 1, egress_special_address: 1 });
    assert.equal(on.io.sent.length, 1);
  });

  test("every egress reason is reached by some test of this file", () => {
    const reached = new Set([...cases.map(([, , reason]) => reason), "egress_send_failed"]);
    // What only a TUN with offloads can bring, and only a path that carries less: see
    // offload_egress_test.ts, too_big_test.ts.
    reached.add("egress_bad_offload").add("egress_too_big");
    const all = DROP_REASONS.filter(({ role }) => role === "egress").map(({ name }) => name);
    assert.deepEqual([...reached].sort(), all.sort());
  });
});

describe("ICMP errors", () => {
  test("golden bytes: net unreachable, header and 8 bytes quoted as they came", async () => {
    const on = await bench();
    const quoted = "4500 0024 1234 0000 4011 4a8b 0a00 0102 0a00 0909 0102 0304 0506 0708";
    on.io.reads = [fromHex(`${quoted} 1112 1314 1516 1718`)];
    on.egress();
    assert.equal(on.io.sent.length, 0);
    const header = "45c0 0038 0000 4000 4001 2404 0a00 0100 0a00 0102";
    assert.deepEqual(on.io.icmpErrors.map(({ to }) => to), ["2:10.0.1.2:0"]);
    assert.deepEqual(on.io.icmpErrors.map(({ payload }) => hex(payload)), [
      hex(fromHex(`${header} 0300 eceb 0000 0000 ${quoted}`)),
    ]);
    assert.equal(readCounters(on.shared).icmpErrorsSent, 1);
  });

  test("time exceeded when the TTL is used up", async () => {
    const on = await bench();
    const late = packet({ ttl: 1 });
    on.io.reads = [late];
    on.egress();
    const error = on.io.icmpErrors[0]?.payload;
    assert.deepEqual([...error!.subarray(20, 22)], [11, 0]);
    assert.equal(hex(error!.subarray(28)), hex(late.subarray(0, 28)));
    assert.equal(naiveChecksum(error!.subarray(0, 20)), 0);
    assert.equal(naiveChecksum(error!.subarray(20)), 0);
    assert.equal(error!.length, 20 + 8 + 28);
  });

  test("a quote has the whole header with options, and no more payload than there is", async () => {
    const on = await bench();
    const options = new Uint8Array(40).fill(1);
    const long = packet({ to: "10.0.9.9", options });
    const short = packet({ to: "10.0.9.9", payload: Uint8Array.of(1, 2, 3) });
    on.io.reads = [long, short];
    on.egress();
    const quotes = on.io.icmpErrors.map(({ payload }) => hex(payload.subarray(28)));
    assert.deepEqual(quotes, [hex(long.subarray(0, 68)), hex(short)]);
    for (const { payload: error } of on.io.icmpErrors) {
      assert.equal(new DataView(error.buffer).getUint16(2), error.length);
      assert.equal(naiveChecksum(error.subarray(20)), 0);
    }
  });

  const ERROR = Uint8Array.of(11, 0, 0, 0);
  const silent: [what: string, bytes: Uint8Array][] = [
    ["an ICMP error", packet({ to: "10.0.9.9", protocol: 1, payload: ERROR })],
    ["an ICMP redirect", packet({ to: "10.0.9.9", protocol: 1, payload: Uint8Array.of(5, 0) })],
    ["ICMP without a type", packet({ to: "10.0.9.9", protocol: 1, payload: new Uint8Array() })],
    ["a later fragment", packet({ to: "10.0.9.9", fragment: 0x2001 })],
    ["multicast", packet({ to: "224.0.0.251" })],
    ["the last multicast address", packet({ to: "239.255.255.255" })],
    ["broadcast", packet({ to: "255.255.255.255" })],
    ["a source of 0.0.0.0", packet({ to: "10.0.9.9", from: "0.0.0.0" })],
    ["a loopback source", packet({ to: "10.0.9.9", from: "127.0.0.1" })],
    ["a multicast source", packet({ to: "10.0.9.9", from: "224.0.0.1" })],
    ["a broadcast source", packet({ to: "10.0.9.9", from: "255.255.255.255" })],
    ["an ICMP error with its TTL used up", packet({ protocol: 1, ttl: 1, payload: ERROR })],
    ["a broken packet", patched(packet({ to: "10.0.9.9" }), { 3: 1 })],
  ];
  for (const [what, bytes] of silent) {
    test(`none about ${what}`, async () => {
      const on = await bench();
      on.io.reads = [bytes];
      on.egress();
      assert.deepEqual(on.io.icmpErrors, []);
      assertAddsUp(on);
    });
  }

  test("a ping is answered", async () => {
    const on = await bench();
    on.io.reads = [packet({ to: "10.0.9.9", protocol: 1, payload: Uint8Array.of(8, 0, 0, 0) })];
    on.egress();
    assert.equal(on.io.icmpErrors.length, 1);
  });

  test("the first fragment is answered", async () => {
    const on = await bench();
    on.io.reads = [packet({ to: "10.0.9.9", fragment: 0x2000 })];
    on.egress();
    assert.equal(on.io.icmpErrors.length, 1);
  });

  test("a flood to nowhere is answered no faster than the limit, and counted", async () => {
    const on = await bench();
    on.io.reads = Array.from({ length: 60 }, () => packet({ to: "10.0.9.9" }));
    on.egress();
    // The clock of the test stands still: what there is at once is all there is.
    assert.equal(on.io.icmpErrors.length, 50);
    const { icmpErrorsSent, icmpErrorsLimited, drops } = readCounters(on.shared);
    assert.deepEqual([icmpErrorsSent, icmpErrorsLimited], [50, 10]);
    assert.equal(drops["egress_no_peer"], 60);
  });

  test("one the kernel does not take is counted", async () => {
    const on = await bench();
    on.io.icmpResults = [EIO];
    assertDrops(on, [packet({ to: "10.0.9.9" })], { egress_no_peer: 1 });
    assert.equal(readCounters(on.shared).icmpErrorsFailed, 1);
  });
});

describe("a socket that does not take everything", () => {
  test("the rest follows a partial sendmmsg, each packet once", async () => {
    const on = await bench();
    on.io.reads = Array.from({ length: 7 }, (_, i) => packet({ to: `10.0.2.${i}` }));
    on.io.sendResults = [3, 1];
    on.egress();
    assert.deepEqual(on.io.sent.map(({ payload }) => payload[19]), [0, 1, 2, 3, 4, 5, 6]);
    assert.deepEqual(on.io.sendCalls.map(({ length }) => length), [7, 4, 3]);
    assert.equal(on.table.counters("10.0.2.0/24")!.sentPackets, 7);
  });

  test("no way to the peer: its packet is dropped, and who sent it is told", async () => {
    const on = await bench();
    on.io.sendResults = [ENETUNREACH];
    assertDrops(on, [packet({ to: "10.0.2.9" })], { egress_send_failed: 1 });
    // Type 3, code 0, behind the IPv4 header.
    assert.deepEqual(on.io.icmpErrors.map(({ payload }) => [...payload.subarray(20, 22)]), [[
      3,
      0,
    ]]);
  });

  test("a failing message is counted and skipped", async () => {
    const on = await bench();
    const reads = Array.from({ length: 4 }, (_, i) => packet({ to: `10.0.2.${i}` }));
    on.io.sendResults = [1, EPERM, ENOBUFS];
    assertDrops(on, reads, { egress_send_failed: 2 });
    assert.deepEqual(on.io.sent.map(({ payload }) => payload[19]), [0, 3]);
    assert.equal(on.table.counters("10.0.2.0/24")!.sentPackets, 2);
  });

  test("EINTR is tried again", async () => {
    const on = await bench();
    on.io.sendResults = [EINTR];
    assertDrops(on, [packet()], {});
    assert.equal(on.io.sent.length, 1);
  });

  test("EAGAIN waits for room, still inside the batch, then goes on", async () => {
    const on = await bench();
    const epochs: number[] = [];
    on.io.onPoll = () =>
      epochs.push(Atomics.load(on.shared.u32, (LANES_OFFSET + LANE_EGRESS_EPOCH_OFFSET) / 4) % 2);
    on.io.sendResults = [1, EAGAIN];
    on.io.polls = [[POLLOUT, 0]];
    assertDrops(on, [packet(), packet()], {});
    assert.deepEqual(on.io.pollCalls[0], {
      fds: [{ fd: UDP_FD, events: POLLOUT }, { fd: WAKE_FD, events: POLLIN }],
      timeout_ms: 1000,
    });
    assert.deepEqual(epochs, [1, 0]);
    assert.equal(on.io.sent.length, 2);
  });

  test("no room for long: the rest of the batch is dropped, the loop goes on", async () => {
    const on = await bench();
    on.io.sendResults = [1, EAGAIN];
    on.io.polls = [0];
    assertDrops(on, [packet(), packet(), packet()], { egress_send_failed: 2 });
    assert.equal(on.io.pollCalls.length, 2);
  });

  test("woken while it waits for room: it ends and counts the rest", async () => {
    const on = await bench();
    on.io.sendResults = [EAGAIN];
    on.io.polls = [[0, POLLIN]];
    assertDrops(on, [packet(), packet()], { egress_send_failed: 2 });
    assert.equal(on.io.pollCalls.length, 1);
  });

  test("a dead socket ends the loop", async () => {
    const on = await bench();
    on.io.reads = [packet(), packet()];
    on.io.sendResults = [EBADF];
    assert.equal(on.egress(), EBADF);
    assert.equal(readCounters(on.shared).drops.egress_send_failed, 2);
    assertAddsUp(on);
  });
});

describe("waiting and ending", () => {
  test("with nothing to do it waits, outside a batch, on the TUN and the wake fd", async () => {
    const on = await bench();
    let epoch = -1;
    on.io.onPoll = () =>
      epoch = Atomics.load(on.shared.u32, (LANES_OFFSET + LANE_EGRESS_EPOCH_OFFSET) / 4);
    assert.equal(on.egress(), 0);
    assert.deepEqual(on.io.pollCalls, [{
      fds: [{ fd: TUN_FD, events: POLLIN }, { fd: WAKE_FD, events: POLLIN }],
      timeout_ms: -1,
    }]);
    assert.equal(epoch % 2, 0);
    assert.equal(on.io.sendCalls.length, 0);
  });

  test("the stop flag ends it after the batch, without waiting", async () => {
    const on = await bench();
    on.io.reads = [packet()];
    Atomics.store(on.shared.u32, STOP_FLAG_OFFSET / 4, 1);
    assert.equal(on.egress(), 0);
    assert.equal(on.io.sent.length + on.io.pollCalls.length, 0);
  });

  test("a signal during poll is no reason to end", async () => {
    const on = await bench();
    on.io.polls = [EINTR, [POLLIN, 0]];
    assert.equal(on.egress(), 0);
    assert.equal(on.io.pollCalls.length, 3);
  });

  for (const [name, error] of Object.entries({ EBADFD, EBADF, ENODEV: -19 })) {
    test(`${name} from the TUN ends it, what was read before has been sent`, async () => {
      const on = await bench();
      on.io.reads = [packet(), error, error];
      on.io.polls = [[POLLERR, 0]];
      assert.equal(on.egress(), error);
      assert.equal(on.io.sent.length, 1);
      assert.equal(
        Atomics.load(on.shared.u32, (LANES_OFFSET + LANE_EGRESS_EPOCH_OFFSET) / 4) % 2,
        0,
      );
    });
  }

  test("a descriptor that poll does not know ends it", async () => {
    const on = await bench();
    on.io.polls = [[POLLNVAL, 0]];
    assert.equal(on.egress(), EBADF);
  });

  test("POLLERR with nothing to read: it pauses, and gives up after 100 times", async () => {
    const on = await bench();
    const paused: number[] = [];
    on.io.onPoll = () => {
      const { timeout_ms } = on.io.pollCalls.at(-1)!;
      if (timeout_ms > 0) paused.push(timeout_ms);
      on.io.polls = [timeout_ms > 0 ? 0 : [POLLERR, 0]];
    };
    assert.equal(on.egress(), EIO);
    assert.deepEqual(paused, new Array(99).fill(10));
    assert.equal(readCounters(on.shared).readErrors, 100);
  });

  test("an unknown error in between is survived; without end it is not", async () => {
    const on = await bench();
    on.io.reads = [ENOMEM, packet()];
    on.io.polls = [0];
    assert.equal(on.egress(), 0);
    assert.equal(on.io.sent.length, 1);
    assert.equal(readCounters(on.shared).readErrors, 1);

    const worse = await bench();
    worse.io.reads = new Array(200).fill(ENOMEM);
    worse.io.polls = new Array(200).fill(0);
    assert.equal(worse.egress(), ENOMEM);
    assert.equal(worse.io.reads.length, 100);
  });
});

test("a peer without an endpoint, about to be removed, gets nothing", async () => {
  const on = await bench();
  on.table.apply([entry("10.0.2.0/24", "192.0.2.2")]);
  assertDrops(on, [packet(), packet({ to: "10.9.0.1" })], { egress_no_peer: 1 });
  assert.equal(on.io.sent.length, 1);
});
