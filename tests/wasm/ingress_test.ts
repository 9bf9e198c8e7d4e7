import { describe, test } from "node:test";
import assert from "node:assert/strict";
import {
  BATCH_SIZE_MAX,
  LANE_INGRESS_EPOCH_OFFSET,
  LANES_OFFSET,
  REFUSED_CELL_COUNT,
  STOP_FLAG_OFFSET,
} from "../../wasm/layout.ts";
import { DROP_REASONS, readCounters } from "../../src/dataplane/counters.ts";
import { readRefusedSources } from "../../src/dataplane/refused_sources.ts";
import {
  type Bench,
  bench,
  type Datagram,
  entry,
  NOW_MS,
  PEERS,
  POLLERR,
  POLLIN,
  UDP_FD,
  WAKE_FD,
} from "./scripted_io.ts";
import { forwarded, fromHex, hex, naiveChecksum, packet, patched } from "./packets.ts";

const EINTR = -4, EIO = -5, EAGAIN = -11, EINVAL = -22, EBADFD = -77, ENOTSOCK = -88;
const ECONNREFUSED = -111;
const MSG_TRUNC = 0x20;
const PEER = "192.0.2.2";
const PEER_KEY = "10.0.2.0/24";

/** An inner packet from the peer's container to ours. */
function inner(parts: Parameters<typeof packet>[0] = {}): Uint8Array<ArrayBuffer> {
  return packet({ from: "10.0.2.3", to: "10.0.1.2", ...parts });
}

function fromPeer(payload: Uint8Array, flags = 0): Datagram {
  return { from: PEER, payload, flags };
}

function assertAddsUp({ shared }: Bench): void {
  const { datagrams, receivedPackets, drops } = readCounters(shared);
  const dropped = DROP_REASONS.filter(({ role }) => role === "ingress")
    .reduce((sum, { name }) => sum + drops[name]!, 0);
  assert.equal(datagrams, receivedPackets + dropped);
}

function assertDrops(on: Bench, datagrams: Datagram[], expected: Record<string, number>): void {
  on.io.receives = [datagrams];
  assert.equal(on.ingress(), 0);
  const { drops } = readCounters(on.shared);
  assert.deepEqual(Object.fromEntries(Object.entries(drops).filter(([, n]) => n > 0)), expected);
  assertAddsUp(on);
}

describe("forwarding", () => {
  test("golden bytes: one packet to the TUN, TTL and checksum adjusted", async () => {
    const on = await bench();
    const bytes = "4500 001c abcd 4000 4011 7aff 0a00 0203 0a00 0102 0001 0002 0008 0000";
    on.io.receives = [[fromPeer(fromHex(bytes))]];
    assert.equal(on.ingress(), 0);
    const expected = "4500001cabcd40003f117bff0a0002030a0001020001000200080000";
    assert.deepEqual(on.io.written.map(hex), [expected]);
  });

  test("packets of several peers keep their order and are counted by peer", async () => {
    const on = await bench();
    const inside = ["10.0.2.3", "10.9.1.1", "10.0.3.17", "10.0.2.9"];
    const packets = inside.map((from, n) => inner({ from, payload: new Uint8Array(n * 11) }));
    const from = [PEER, "192.0.2.9", "192.0.2.3", PEER];
    on.io.receives = [packets.map((payload, i) => ({ from: from[i]!, payload }))];
    on.ingress();
    assert.deepEqual(on.io.written.map(hex), packets.map(forwarded).map(hex));
    assert.deepEqual(on.table.counters(PEER_KEY), {
      sentPackets: 0,
      sentBytes: 0,
      receivedPackets: 2,
      receivedBytes: packets[0]!.length + packets[3]!.length,
      lastHeard_ms: NOW_MS,
      pathMtu_bytes: null,
    });
    assert.equal(on.table.counters("10.9.0.0/16")!.receivedPackets, 1);
    assert.equal(on.table.counters("10.0.3.16/28")!.receivedPackets, 1);
    const { receivedPackets, receivedBytes, datagrams } = readCounters(on.shared);
    const bytes = packets.reduce((sum, { length }) => sum + length, 0);
    assert.deepEqual([receivedPackets, receivedBytes, datagrams], [4, bytes, 4]);
  });

  test("a full batch is followed by the next without waiting", async () => {
    const on = await bench();
    const full = new Array<Datagram>(BATCH_SIZE_MAX).fill(fromPeer(inner()));
    on.io.receives = [full, full, [fromPeer(inner())]];
    on.ingress();
    assert.equal(on.io.written.length, 2 * BATCH_SIZE_MAX + 1);
    assert.equal(on.io.pollCalls.length, 1);
    assertAddsUp(on);
  });

  test("the largest packet goes whole", async () => {
    const on = await bench();
    const largest = inner({ payload: new Uint8Array(65535 - 20).fill(0x5a) });
    on.io.receives = [[fromPeer(largest), fromPeer(inner())]];
    on.ingress();
    assert.ok(Buffer.from(on.io.written[0]!).equals(forwarded(largest)));
    assert.equal(hex(on.io.written[1]!), hex(forwarded(inner())));
  });
});

describe("what is dropped, and counted by reason", () => {
  const good = inner();
  const cases: [what: string, datagram: Datagram, reason: string][] = [
    ["a stranger", { from: "192.0.2.77", payload: good }, "ingress_source_not_peer"],
    ["the address 0", { from: "0.0.0.0", payload: good }, "ingress_source_not_peer"],
    ["a datagram cut off", fromPeer(good, MSG_TRUNC), "ingress_datagram_truncated"],
    ["an empty datagram", fromPeer(new Uint8Array()), "ingress_truncated"],
    ["19 bytes", fromPeer(good.slice(0, 19)), "ingress_truncated"],
    ["IPv6", fromPeer(patched(good, { 0: 0x60 })), "ingress_bad_version"],
    ["version 0", fromPeer(patched(good, { 0: 0x05 })), "ingress_bad_version"],
    ["a header of 16 bytes", fromPeer(patched(good, { 0: 0x44 })), "ingress_bad_header_length"],
    ["a header too long", fromPeer(patched(good, { 0: 0x4f })), "ingress_bad_header_length"],
    ["one byte missing", fromPeer(good.slice(0, -1)), "ingress_bad_total_length"],
    ["one byte more", fromPeer(Uint8Array.of(...good, 0)), "ingress_bad_total_length"],
    ["TTL 1", fromPeer(inner({ ttl: 1 })), "ingress_ttl_expired"],
    ["TTL 0", fromPeer(inner({ ttl: 0 })), "ingress_ttl_expired"],
  ];
  for (const [what, datagram, reason] of cases) {
    test(`${what}: ${reason}`, async () => {
      const on = await bench();
      assertDrops(on, [fromPeer(good), datagram, fromPeer(good)], { [reason]: 1 });
      assert.deepEqual(on.io.written.map(hex), [good, good].map(forwarded).map(hex));
    });
  }

  test("what an earlier packet left in the buffer is never taken for a new one", async () => {
    const on = await bench();
    on.io.receives = [[fromPeer(good)], [fromPeer(good.slice(0, 10))]];
    on.io.polls = [[POLLIN, 0]];
    on.ingress();
    assert.equal(on.io.written.length, 1);
    assert.equal(readCounters(on.shared).drops.ingress_truncated, 1);
  });

  test("a write that fails is counted, and the next packet is written", async () => {
    const on = await bench();
    on.io.writeResults = [EIO, EAGAIN, EINVAL];
    const four = new Array<Datagram>(4).fill(fromPeer(good));
    assertDrops(on, four, { ingress_tun_write_failed: 3 });
    assert.equal(on.io.written.length, 1);
  });

  test("the sender is told that the TTL is used up, but never about an ICMP error", async () => {
    const on = await bench();
    const late = inner({ ttl: 1 });
    const unreachable = inner({ ttl: 1, protocol: 1, payload: Uint8Array.of(3, 0, 0, 0) });
    assertDrops(on, [fromPeer(late), fromPeer(unreachable)], { ingress_ttl_expired: 2 });
    assert.equal(on.io.icmpErrors.length, 1);
    const [{ payload: error }] = on.io.icmpErrors as [(typeof on.io.icmpErrors)[number]];
    assert.deepEqual([...error.subarray(20, 22)], [11, 0]);
    assert.equal(hex(error.subarray(28)), hex(late.subarray(0, 28)));
    assert.equal(naiveChecksum(error.subarray(20)), 0);
    assert.equal(readCounters(on.shared).icmpErrorsSent, 1);
  });

  test("every ingress reason is reached by some test of this file", () => {
    const others = ["ingress_tun_write_failed", "ingress_source_spoofed"];
    others.push("ingress_source_outside", "ingress_destination_not_ours");
    // What only VXLAN brings: see vxlan_test.ts.
    others.push("ingress_bad_vxlan", "ingress_not_our_mac", "ingress_not_ip");
    others.push("ingress_bad_offload", "ingress_special_address");
    const reached = new Set([...cases.map(([, , reason]) => reason), ...others]);
    const all = DROP_REASONS.filter(({ role }) => role === "ingress").map(({ name }) => name);
    assert.deepEqual([...reached].sort(), all.sort());
  });
});

describe("waiting and ending", () => {
  test("with nothing to do it waits for ever on the socket and the wake fd", async () => {
    const on = await bench();
    let epoch = -1;
    on.io.onPoll = () =>
      epoch = Atomics.load(on.shared.u32, (LANES_OFFSET + LANE_INGRESS_EPOCH_OFFSET) / 4);
    assert.equal(on.ingress(), 0);
    assert.deepEqual(on.io.pollCalls, [{
      fds: [{ fd: UDP_FD, events: POLLIN }, { fd: WAKE_FD, events: POLLIN }],
      timeout_ms: -1,
    }]);
    assert.equal(epoch % 2, 0);
  });

  test("the stop flag ends it", async () => {
    const on = await bench();
    Atomics.store(on.shared.u32, STOP_FLAG_OFFSET / 4, 1);
    on.io.receives = [[fromPeer(inner())]];
    assert.equal(on.ingress(), 0);
    assert.equal(on.io.receiveCallCount, 0);
  });

  test("a TUN that is gone ends it; the rest of the batch is counted", async () => {
    const on = await bench();
    on.io.receives = [new Array<Datagram>(3).fill(fromPeer(inner()))];
    on.io.writeResults = [28 + 8, EBADFD, EBADFD];
    assert.equal(on.ingress(), EBADFD);
    assert.equal(readCounters(on.shared).drops.ingress_tun_write_failed, 2);
    assertAddsUp(on);
  });

  test("a socket that is none ends it", async () => {
    const on = await bench();
    on.io.receives = [ENOTSOCK];
    assert.equal(on.ingress(), ENOTSOCK);
  });

  test("an error pending on the socket is counted and survived", async () => {
    const on = await bench();
    on.io.receives = [EAGAIN, ECONNREFUSED, [fromPeer(inner())]];
    on.io.polls = [[POLLERR, 0], 0];
    assert.equal(on.ingress(), 0);
    assert.equal(on.io.written.length, 1);
    assert.equal(readCounters(on.shared).readErrors, 1);
  });

  test("an error without end is not survived", async () => {
    const on = await bench();
    on.io.receives = new Array(200).fill(ECONNREFUSED);
    on.io.polls = new Array(200).fill(0);
    assert.equal(on.ingress(), ECONNREFUSED);
    assert.equal(on.io.receives.length, 100);
  });

  test("EINTR is no error", async () => {
    const on = await bench();
    on.io.receives = [EINTR];
    on.io.polls = [[POLLIN, 0]];
    assert.equal(on.ingress(), 0);
    assert.equal(readCounters(on.shared).readErrors, 0);
  });
});

describe("who may send as whom, and where to", () => {
  const OURS = "10.0.1.2";
  const PEERS_OWN = "10.0.2.7";
  /** No reason: it passes. */
  const rows: [what: string, outer: string, from: string, to: string, reason?: string][] = [
    ["a peer as its own subnet", PEER, PEERS_OWN, OURS],
    ["a peer as its tunnel", PEER, "10.0.2.0", OURS],
    ["a peer to our tunnel's own address", PEER, PEERS_OWN, "10.0.1.0"],
    ["the last of its subnet", "192.0.2.3", "10.0.3.31", OURS],
    ["a peer as its outer address", PEER, PEER, OURS],
    ["a peer as another's", PEER, "10.9.1.1", OURS, "source_spoofed"],
    ["a peer as ours", PEER, "10.0.1.5", OURS, "source_spoofed"],
    ["a peer as our tunnel", PEER, "10.0.1.0", OURS, "source_spoofed"],
    ["a peer as nobody's", PEER, "10.200.0.1", OURS, "source_spoofed"],
    ["a peer as one beside its subnet", "192.0.2.3", "10.0.3.32", OURS, "source_spoofed"],
    ["a peer as one outside of the overlay", PEER, "198.51.100.7", OURS, "source_outside"],
    ["a peer as another's outer address", PEER, "192.0.2.3", OURS, "source_outside"],
    ["a peer as our outer address", PEER, "192.0.2.1", OURS, "source_outside"],
    ...["0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.169.254", "224.0.0.1", "240.0.0.1"].map(
      (from) => [`from ${from}`, PEER, from, OURS, "special_address"] as const,
    ).map((row): [string, string, string, string, string] => [...row]),
    ["from all hosts", PEER, "255.255.255.255", OURS, "special_address"],
    ...["0.0.0.0", "127.0.0.1", "127.8.9.1", "169.254.169.254", "224.0.0.1", "255.255.255.255"]
      .map((to): [string, string, string, string, string] => [
        `to ${to}`,
        PEER,
        PEERS_OWN,
        to,
        "special_address",
      ]),
    ["to class E", PEER, PEERS_OWN, "240.0.0.1", "special_address"],
    ["to all of our subnet", PEER, PEERS_OWN, "10.0.1.255", "special_address"],
    ["to another peer's subnet", PEER, PEERS_OWN, "10.9.1.1", "destination_not_ours"],
    ["to its own subnet", PEER, PEERS_OWN, "10.0.2.8", "destination_not_ours"],
    ["to our outer address", PEER, PEERS_OWN, "192.0.2.1", "destination_not_ours"],
    ["to somewhere else", PEER, PEERS_OWN, "198.51.100.7", "destination_not_ours"],
  ];
  for (const [what, outer, from, to, reason] of rows) {
    test(`${what}: ${reason ?? "passes"}`, async () => {
      const on = await bench();
      const expected = reason === undefined ? {} : { [`ingress_${reason}`]: 1 };
      // About a bad source or destination nobody is sent an error, also if the TTL is used up.
      const ttl = reason === undefined ? 64 : 1;
      assertDrops(on, [{ from: outer, payload: packet({ from, to, ttl }) }], expected);
      assert.equal(on.io.written.length, reason === undefined ? 1 : 0);
      assert.equal(on.io.icmpErrors.length, 0);
    });
  }

  test("outside sources pass where they are allowed, and spoofed ones do not", async () => {
    const on = await bench([], { allowsOutsideSources: true });
    const datagrams = ["198.51.100.7", "10.9.1.1", "127.0.0.1"].map((from) =>
      fromPeer(packet({ from, to: OURS }))
    );
    assertDrops(on, datagrams, { ingress_source_spoofed: 1, ingress_special_address: 1 });
    assert.equal(on.io.written.length, 1);
  });

  test("peers that share an outer address each as their own subnet", async () => {
    const on = await bench();
    on.table.apply([...PEERS, entry("10.77.0.0/16", PEER)]);
    on.io.receives = [["10.0.2.1", "10.77.1.1", "10.9.1.1"].map((from) => ({
      from: PEER,
      payload: packet({ from, to: OURS }),
    }))];
    assert.equal(on.ingress(), 0);
    assert.equal(on.io.written.length, 2);
  });
});

describe("a router in between sends from another address", () => {
  const ROUTER = "192.0.2.77";
  const sentBy = (from: string): Datagram => ({ from: ROUTER, payload: inner({ from }) });

  test("the refused address is noted, with the peer whose packets came from it", async () => {
    const on = await bench();
    const three = [sentBy("10.0.2.3"), sentBy("172.16.0.1"), sentBy("10.0.2.4")];
    assertDrops(on, three, { ingress_source_not_peer: 3 });
    assert.deepEqual(readRefusedSources(on.shared, 0, 4), [
      { address: ROUTER, datagrams: 3, last_ms: NOW_MS, peerSlot: 0 },
    ]);
    assertDrops(on, [{ from: ROUTER, payload: new Uint8Array(3) }], { ingress_source_not_peer: 4 });
    assert.deepEqual(readRefusedSources(on.shared, 0, 4), [
      { address: ROUTER, datagrams: 4, last_ms: NOW_MS, peerSlot: null },
    ]);
  });

  test("thousands of addresses are noted in bounded room", async () => {
    const on = await bench();
    const many = Array.from(
      { length: 64 },
      (_, i) => ({ ...sentBy("10.0.2.3"), from: `10.8.1.${i}` }),
    );
    on.io.receives = Array.from({ length: 20 }, () => many);
    assert.equal(on.ingress(), 0);
    const noted = readRefusedSources(on.shared, 0, 4);
    assert.ok(noted.length > 4 && noted.length <= REFUSED_CELL_COUNT, `${noted.length} addresses`);
    assertAddsUp(on);
  });

  test("it passes where the underlay is trusted: the inner source says whose it is", async () => {
    const on = await bench([], { trustsUnderlay: true });
    const datagrams = ["10.0.2.3", "10.9.1.1", "10.0.1.9", ROUTER].map(sentBy);
    const expected = { ingress_source_spoofed: 1, ingress_source_outside: 1 };
    assertDrops(on, datagrams, expected);
    assert.equal(on.io.written.length, 2);
    for (const key of [PEER_KEY, "10.9.0.0/16"]) {
      assert.equal(on.table.counters(key)!.receivedPackets, 1);
    }
    assert.deepEqual(readRefusedSources(on.shared, 0, 4), []);
  });
});
