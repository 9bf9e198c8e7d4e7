/** The loops where packets are encapsulated in VXLAN (RFC 7348). */
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { DROP_REASONS, readCounters } from "../../src/dataplane/counters.ts";
import type { Offload } from "../../src/dataplane/offloads.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { assertAddsUp } from "./egress_assertions.ts";
import {
  bytesOf,
  egressFlow,
  type Flow,
  flow,
  gsoPacket,
  naiveSegments,
  packetsOfWrite,
  parsePacket,
  TCP,
  UDP,
  wirePacket,
} from "./flows.ts";
import { forwarded, hex, packet, patched } from "./packets.ts";
import { type Bench, bench, entry, PEERS } from "./scripted_io.ts";

const PEER = "192.0.2.2";
const VNI = 0x010203;
const OUR_MAC = "02:a0:a1:a2:a3:a4";
const PEER_MAC = "06:b0:b1:b2:b3:b4";
const MTU = 1450;
const ALL: readonly Offload[] = ["csum", "tso", "uso", "udp-segment", "udp-gro"];
/** TCP's and UDP's checksum field in a packet without IP options. */
const TCP_CHECKSUM = 20 + 16, UDP_CHECKSUM = 20 + 6;

function vxlan(offloads: readonly Offload[] = [], mtu_bytes = MTU): Promise<Bench> {
  const peers = [
    { ...entry("10.0.2.0/24", PEER, 8472), vtepMac: MacAddress.parse(PEER_MAC) },
    ...PEERS.slice(1).map((peer) => ({ ...peer, vtepMac: MacAddress.parse("06:00:00:00:00:09") })),
  ];
  const vtepMac = MacAddress.parse(OUR_MAC);
  const encapsulation = { type: "vxlan", vni: VNI, vtepMac } as const;
  const network = IpPrefix.parse("10.0.0.0/8");
  return bench(offloads, { encapsulation, mtu_bytes, network }, peers);
}

interface Frame {
  readonly flags?: number;
  readonly vni?: number;
  readonly to?: string;
  readonly ethertype?: number;
}

/** A packet as the peer sends it to us. */
function frame(inner: Uint8Array, parts: Frame = {}): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(22 + inner.length);
  const view = new DataView(bytes.buffer);
  view.setUint8(0, parts.flags ?? 8);
  view.setUint32(4, (parts.vni ?? VNI) * 256);
  bytes.set(MacAddress.parse(parts.to ?? OUR_MAC).toBytes(), 8);
  bytes.set(MacAddress.parse(PEER_MAC).toBytes(), 14);
  view.setUint16(20, parts.ethertype ?? 0x0800);
  bytes.set(inner, 22);
  return bytes;
}

/** What the loop sends to the peer. */
function sentFrame(inner: Uint8Array): string {
  const bytes = frame(inner, { to: PEER_MAC });
  bytes.set(MacAddress.parse(OUR_MAC).toBytes(), 14);
  return hex(bytes);
}

function receive(on: Bench, payloads: Uint8Array[], segment?: number): void {
  on.io.receives = [payloads.map((payload) => ({ from: PEER, payload, segment }))];
  assert.equal(on.ingress(), 0);
  const { datagrams, receivedPackets, drops } = readCounters(on.shared);
  const dropped = DROP_REASONS.filter(({ role }) => role === "ingress")
    .reduce((sum, { name }) => sum + drops[name]!, 0);
  assert.equal(datagrams, receivedPackets + dropped);
}

/** The sum of the pseudo-header of an IPv4 packet whose transport starts there. */
function pseudoSumOf(bytes: Uint8Array, start: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  let sum = bytes[9]! + bytes.length - start;
  for (let at = 12; at < 20; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

/** The checksum field as a kernel leaves it that expects the hardware to go on. */
function unfinished(parts: Partial<Flow>): Uint8Array<ArrayBuffer> {
  const one = flow(parts);
  const bytes = wirePacket(one);
  const field = one.protocol === TCP ? TCP_CHECKSUM : UDP_CHECKSUM;
  new DataView(bytes.buffer).setUint16(field, pseudoSumOf(bytes, 20));
  return bytes;
}

describe("egress", () => {
  for (const offloads of [[], ALL]) {
    test(`a frame to the peer's VTEP; offloads: ${offloads.join() || "none"}`, async () => {
      const on = await vxlan(offloads);
      const inner = packet();
      const read = offloads.length === 0 ? inner : Buffer.concat([new Uint8Array(10), inner]);
      on.io.reads = [read, read];
      assert.equal(on.egress(), 0);
      assert.deepEqual(on.io.sent.map(({ to, payload }) => [to, hex(payload)]), [
        ["2:192.0.2.2:8472", sentFrame(forwarded(inner))],
        ["2:192.0.2.2:8472", sentFrame(forwarded(inner))],
      ]);
      const { sentPackets, sentBytes } = readCounters(on.shared);
      assert.deepEqual([sentPackets, sentBytes], [2, 2 * inner.length], "of inner packets");
      assertAddsUp(on);
    });
  }

  test("a packet of many segments is cut, each segment a frame", async () => {
    const on = await vxlan(ALL);
    const many = egressFlow({ payload: bytesOf(60_000) });
    on.io.reads = [gsoPacket(many, 1398)];
    assert.equal(on.egress(), 0);
    const expected = naiveSegments(many, 1398).map(forwarded).map(sentFrame);
    assert.deepEqual(on.io.sent.map(({ payload }) => hex(payload)), expected);
    assert.equal(on.io.sendCalls.flat().length, 1, "in one message");
    assertAddsUp(on);
  });

  test("a path that carries less: fragments are frames, and the encapsulation counts", async () => {
    const on = await vxlan();
    on.io.pathMtu_bytes = 1300;
    on.io.refuses = ({ payload }) => payload.length > 1272 ? -90 : 0;
    const inner = packet({ payload: bytesOf(1400) });
    on.io.reads = [inner];
    assert.equal(on.egress(), 0);
    assert.deepEqual(on.io.sent.map(({ payload }) => payload.length), [1266, 22 + 20 + 176]);
    for (const { payload } of on.io.sent) {
      assert.equal(hex(payload.subarray(0, 22)), sentFrame(new Uint8Array()));
    }
    assert.equal(on.table.counters("10.0.2.0/24")!.pathMtu_bytes, 1250);
    assertAddsUp(on);
  });
});

describe("ingress", () => {
  const inner = packet({ from: "10.0.2.3", to: "10.0.1.2" });

  for (const offloads of [[], ALL]) {
    test(`a frame's packet to the TUN; offloads: ${offloads.join() || "none"}`, async () => {
      const on = await vxlan(offloads);
      receive(on, [frame(inner), frame(inner, { flags: 0x88 })]);
      const written = offloads.length === 0 ? on.io.written : on.io.written.flatMap(packetsOfWrite);
      assert.deepEqual(written.map(hex), [hex(inner), hex(inner)]);
    });
  }

  test("a frame that was padded is its packet alone", async () => {
    const on = await vxlan();
    receive(on, [frame(Buffer.concat([inner, new Uint8Array(14)]))]);
    assert.deepEqual(on.io.written.map(hex), [hex(inner)]);
  });

  test("a frame crosses a link: no TTL is used up", async () => {
    const on = await vxlan();
    const last = packet({ from: "10.0.2.3", to: "10.0.1.2", ttl: 1 });
    receive(on, [frame(last)]);
    assert.deepEqual(on.io.written.map(hex), [hex(last)]);
  });

  test("many frames in a message are coalesced as packets are", async () => {
    const on = await vxlan(ALL);
    const many = flow({ payload: bytesOf(8_000) });
    const packets = naiveSegments(many, 1000);
    receive(on, [Buffer.concat(packets.map((one) => frame(one)))], 22 + packets[0]!.length);
    assert.equal(on.io.written.length, 1);
    const written = packetsOfWrite(on.io.written[0]!);
    assert.deepEqual(written.map(hex), packets.map(hex));
  });

  const cases: [what: string, bytes: Uint8Array, reason: string][] = [
    ["21 bytes", frame(inner).subarray(0, 21), "ingress_truncated"],
    ["nothing", new Uint8Array(), "ingress_truncated"],
    ["no packet in the frame", frame(new Uint8Array()), "ingress_truncated"],
    ["no flag", frame(inner, { flags: 0 }), "ingress_bad_vxlan"],
    ["all flags but the one", frame(inner, { flags: 0xf7 }), "ingress_bad_vxlan"],
    ["another network", frame(inner, { vni: VNI + 1 }), "ingress_bad_vxlan"],
    ["another VTEP", frame(inner, { to: "02:a0:a1:a2:a3:a5" }), "ingress_not_our_mac"],
    ["a broadcast", frame(inner, { to: "ff:ff:ff:ff:ff:ff" }), "ingress_not_our_mac"],
    ["ARP", frame(inner, { ethertype: 0x0806 }), "ingress_not_ip"],
    ["IPv6 in an IPv4 network", frame(inner, { ethertype: 0x86dd }), "ingress_not_ip"],
    ["a VLAN tag", frame(inner, { ethertype: 0x8100 }), "ingress_not_ip"],
    ["a broken packet", frame(patched(inner, { 0: 0x44 })), "ingress_bad_header_length"],
    ["less than the packet", frame(inner.subarray(0, -1)), "ingress_bad_total_length"],
    [
      "another's source",
      frame(packet({ from: "10.9.0.1", to: "10.0.1.2" })),
      "ingress_source_spoofed",
    ],
  ];
  for (const [what, bytes, reason] of cases) {
    test(`${what}: ${reason}`, async () => {
      const on = await vxlan();
      receive(on, [bytes, frame(inner)]);
      const { drops } = readCounters(on.shared);
      assert.deepEqual(Object.entries(drops).filter(([, n]) => n > 0), [[reason, 1]]);
      assert.deepEqual(on.io.written.map(hex), [hex(inner)]);
    });
  }
});

describe("packets that a kernel on this machine left unfinished", () => {
  for (const protocol of [TCP, UDP]) {
    const small = unfinished({ protocol, payload: bytesOf(100) });
    const whole = wirePacket(flow({ protocol, payload: bytesOf(100) }));

    test(`protocol ${protocol}: the checksum is left to our kernel`, async () => {
      const on = await vxlan(ALL);
      receive(on, [frame(small)]);
      const [written] = on.io.written;
      const offset = protocol === TCP ? 16 : 6;
      const header = [1, 0, protocol === TCP ? 40 : 28, 0, 0, 0, 20, 0, offset, 0];
      assert.deepEqual([...written!.subarray(0, 10)], header);
      assert.equal(hex(written!.subarray(10)), hex(small));
    });

    test(`protocol ${protocol}: or completed here`, async () => {
      const on = await vxlan();
      receive(on, [frame(small)]);
      assert.deepEqual(on.io.written.map(hex), [hex(whole)]);
    });
  }

  const many = flow({ payload: bytesOf(40_000), flags: 0x18 });
  const step = 1280 - 40;

  test("one of many segments is handed to our kernel whole", async () => {
    const on = await vxlan(ALL);
    receive(on, [frame(unfinished(many))]);
    assert.equal(on.io.written.length, 1);
    const written = packetsOfWrite(on.io.written[0]!);
    assert.deepEqual(written.map(hex), naiveSegments(many, step).map(hex));
    assert.equal(readCounters(on.shared).receivedPackets, written.length);
  });

  for (const offloads of [[], ["csum"]] as const) {
    test(`or cut here; offloads: ${offloads.join() || "none"}`, async () => {
      const on = await vxlan(offloads);
      receive(on, [frame(unfinished(many))]);
      const written = offloads.length === 0 ? on.io.written : on.io.written.flatMap(packetsOfWrite);
      assert.deepEqual(written.map(hex), naiveSegments(many, step).map(hex));
    });
  }

  test("UDP of many datagrams cannot be cut: nobody says where", async () => {
    const on = await vxlan(ALL);
    receive(on, [frame(unfinished({ protocol: UDP, payload: bytesOf(9_000) }))]);
    assert.equal(readCounters(on.shared).drops["ingress_bad_offload"], 1);
    assert.equal(on.io.written.length, 0);
  });

  test("a checksum that is merely wrong is left as it is", async () => {
    const on = await vxlan(ALL);
    const whole = wirePacket(flow({ payload: bytesOf(100) }));
    const wrong = patched(whole, { [TCP_CHECKSUM]: whole[TCP_CHECKSUM]! ^ 0x55 });
    receive(on, [frame(wrong)]);
    const [written] = on.io.written.flatMap(packetsOfWrite);
    assert.equal(hex(written!), hex(wrong));
    assert.equal(parsePacket(written!).payload.length, 100);
  });

  test("one whose IPv4 header is wrong stays so: it is not cut into right ones", async () => {
    for (const offloads of [[], ALL]) {
      const on = await vxlan(offloads);
      const bytes = unfinished(many);
      receive(on, [frame(patched(bytes, { 1: bytes[1]! ^ 4 }))]);
      const [written] = on.io.written;
      assert.equal(written!.length, (offloads.length === 0 ? 0 : 10) + bytes.length);
    }
  });

  test("where the headers leave no room in the MTU it is dropped", async () => {
    for (const offloads of [[], ALL]) {
      const on = await vxlan(offloads, 100);
      const options = { ipOptions: new Uint8Array(40).fill(1), tcpOptions: new Uint8Array(40) };
      const one = flow({ ...options, payload: bytesOf(400) });
      const bytes = wirePacket(one);
      new DataView(bytes.buffer).setUint16(60 + 16, pseudoSumOf(bytes, 60));
      receive(on, [frame(bytes)]);
      assert.equal(readCounters(on.shared).drops["ingress_bad_offload"], 1);
      assert.equal(on.io.written.length, 0);
    }
  });

  test("order is kept between finished and unfinished ones", async () => {
    const on = await vxlan(ALL);
    const parts = [100, 101, 102, 103].map((size, i) => {
      return i % 2 === 0 ? wirePacket(flow({ payload: bytesOf(size) })) : unfinished({
        payload: bytesOf(size),
      });
    });
    receive(on, parts.map((one) => frame(one)));
    assert.deepEqual(on.io.written.map(({ length }) => length - 50), [100, 101, 102, 103]);
  });
});

describe("IPv6 in IPv6", () => {
  const PEER6 = "2001:db8::2";
  const parts = { family: 6, from: "fd00:0:0:2::3", to: "fd00:0:0:1::2" } as const;
  const back = { family: 6, from: parts.to, to: parts.from } as const;

  function vxlan6(offloads: readonly Offload[] = []): Promise<Bench> {
    const vtepMac = MacAddress.parse(OUR_MAC);
    const peer = { ...entry("fd00:0:0:2::/64", PEER6, 8472), vtepMac: MacAddress.parse(PEER_MAC) };
    const other = { ...entry("fd00:0:0:9::/64", "2001:db8::9", 8472), vtepMac };
    return bench(offloads, {
      family: 6,
      subnet: IpPrefix.parse("fd00:0:0:1::/64"),
      outerAddress: IpAddress.parse("2001:db8::1"),
      network: IpPrefix.parse("fd00::/48"),
      mtu_bytes: 1430,
      encapsulation: { type: "vxlan", vni: VNI, vtepMac },
    }, [peer, other]);
  }

  /** A hop further on. */
  function hop(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
    return patched(bytes, { 7: bytes[7]! - 1 });
  }

  function sentFrame6(inner: Uint8Array): string {
    const bytes = frame(inner, { to: PEER_MAC, ethertype: 0x86dd });
    bytes.set(MacAddress.parse(OUR_MAC).toBytes(), 14);
    return hex(bytes);
  }

  const receive6 = (on: Bench, payloads: Uint8Array[], from = PEER6): void => {
    on.io.receives = [payloads.map((payload) => ({ from, payload }))];
    assert.equal(on.ingress(), 0);
  };

  test("a packet leaves in a frame, to the peer's IPv6 address", async () => {
    const on = await vxlan6();
    const inner = wirePacket(flow(back));
    on.io.reads = [inner, inner];
    assert.equal(on.egress(), 0);
    const expected = [`10:${PEER6}:8472`, sentFrame6(hop(inner))];
    assert.deepEqual(on.io.sent.map(({ to, payload }) => [to, hex(payload)]), [expected, expected]);
    assertAddsUp(on);
  });

  test("one of many segments is cut", async () => {
    const on = await vxlan6(ALL);
    const many = flow({ ...back, payload: bytesOf(30_000) });
    on.io.reads = [gsoPacket(many, 1370)];
    assert.equal(on.egress(), 0);
    const expected = naiveSegments(many, 1370).map(hop).map(sentFrame6);
    assert.deepEqual(on.io.sent.map(({ payload }) => hex(payload)), expected);
    assert.equal(on.io.sendCalls.flat().length, 1, "in one message");
  });

  test("frames are coalesced, and only the peer may send as its subnet", async () => {
    const on = await vxlan6(ALL);
    const packets = naiveSegments(flow({ ...parts, payload: bytesOf(4_000) }), 1000);
    receive6(on, packets.map((one) => frame(one, { ethertype: 0x86dd })));
    assert.equal(on.io.written.length, 1);
    assert.deepEqual(packetsOfWrite(on.io.written[0]!).map(hex), packets.map(hex));
    receive6(on, [frame(packets[0]!, { ethertype: 0x86dd })], "2001:db8::9");
    receive6(on, [frame(packets[0]!, { ethertype: 0x86dd })], "2001:db8::66");
    receive6(on, [frame(wirePacket(flow()), { ethertype: 0x86dd })]);
    const { drops } = readCounters(on.shared);
    assert.deepEqual(Object.entries(drops).filter(([, n]) => n > 0), [
      ["ingress_source_not_peer", 1],
      ["ingress_bad_version", 1],
      ["ingress_source_spoofed", 1],
    ]);
    assert.equal(on.table.counters("fd00:0:0:2::/64")!.receivedPackets, 4);
  });

  const errors: [what: string, packet: Partial<Flow>, type: number, word: number][] = [
    ["nobody has the subnet", { ...back, to: "fd00:0:0:77::1" }, 1, 0],
    ["the hop limit is used up", { ...back, ttl: 1 }, 3, 0],
    ["the path carries less", { ...back, payload: bytesOf(1300) }, 2, 1280],
  ];
  for (const [what, of, type, word] of errors) {
    test(`${what}: an ICMPv6 error of type ${type}`, async () => {
      const on = await vxlan6(ALL);
      on.io.pathMtu_bytes = 1300;
      on.io.refuses = ({ payload }) => payload.length > 1252 ? -90 : 0;
      const bytes = wirePacket(flow(of));
      on.io.reads = [Buffer.concat([new Uint8Array(10), bytes])];
      assert.equal(on.egress(), 0);
      assert.equal(on.io.sent.length, 0);
      const [error] = on.io.icmpErrors;
      assert.equal(error!.to, "10:fd00:0:0:1::2:0");
      const view = new DataView(error!.payload.buffer, error!.payload.byteOffset);
      assert.deepEqual([view.getUint8(40), view.getUint8(41), view.getUint32(44)], [type, 0, word]);
      assert.equal(hex(error!.payload.subarray(8, 24)), "fd000000000000010000000000000000");
      assert.ok(error!.payload.length <= 1280);
      assertAddsUp(on);
    });
  }

  test("what every IPv6 link carries goes on, cut on its way if it must be", async () => {
    const on = await vxlan6();
    on.io.pathMtu_bytes = 1280;
    on.io.refuses = ({ payload }) => payload.length > 1232 ? -90 : 0;
    const small = wirePacket(flow({ ...back, payload: bytesOf(1220) }));
    assert.equal(small.length, 1280);
    on.io.reads = [small, small];
    assert.equal(on.egress(), 0);
    assert.deepEqual(
      on.io.cut.map(({ payload }) => hex(payload)),
      [hop(small), hop(small)].map(
        (one) => sentFrame6(one),
      ),
    );
    assert.deepEqual([on.io.sent.length, on.io.icmpErrors.length], [0, 0]);
    assertAddsUp(on);
  });

  test("extension headers are followed where a packet of many segments is cut", async () => {
    const on = await vxlan6(ALL);
    const many = flow({ ...back, payload: bytesOf(4_000) });
    const plain = gsoPacket(many, 1000);
    const options = Uint8Array.of(6, 0, 1, 4, 0, 0, 0, 0);
    const read = Buffer.concat([
      plain.subarray(0, 10),
      plain.subarray(10, 50),
      options,
      plain.subarray(50),
    ]);
    const view = new DataView(read.buffer, read.byteOffset);
    read[16] = 60;
    view.setUint16(10 + 4, view.getUint16(10 + 4) + 8);
    view.setUint16(2, view.getUint16(2, true) + 8, true);
    view.setUint16(6, 48, true);
    on.io.reads = [read];
    assert.equal(on.egress(), 0);
    const expected = naiveSegments(many, 1000).map(hop).map((one) => {
      const bytes = Buffer.concat([one.subarray(0, 40), options, one.subarray(40)]);
      bytes[6] = 60;
      bytes.writeUInt16BE(bytes.length - 40, 4);
      return sentFrame6(bytes);
    });
    assert.deepEqual(on.io.sent.map(({ payload }) => hex(payload)), expected);
    assertAddsUp(on);
  });

  const NOT_ONE_HOST = ["ff02::1", "ff0e::1", "fe80::9", "::", "::1", "::ffff:127.0.0.1"];
  for (const bad of NOT_ONE_HOST) {
    test(`${bad} is neither source nor destination of a packet, either way`, async () => {
      const on = await vxlan6();
      const packets = ({ from, to }: { from: string; to: string }) =>
        [{ from: bad, to }, { from, to: bad }, { from, to }]
          .map((addresses) => wirePacket(flow({ family: 6, ...addresses })));
      receive6(on, packets(parts).map((one) => frame(one, { ethertype: 0x86dd })));
      on.io.reads = packets(back);
      assert.equal(on.egress(), 0);
      const { drops } = readCounters(on.shared);
      assert.deepEqual([drops["ingress_special_address"], drops["egress_special_address"]], [2, 2]);
      assert.deepEqual([on.io.written.length, on.io.sent.length], [1, 1], "what is right passes");
      assert.equal(on.io.icmpErrors.length, 0);
    });
  }

  test("a peer sends from its own subnet and address into ours, and nowhere else", async () => {
    const on = await vxlan6();
    const rows: [from: string, to: string, reason: string][] = [
      [parts.from, "fd00:0:0:9::2", "ingress_destination_not_ours"],
      [parts.from, "2001:db8:5::5", "ingress_destination_not_ours"],
      ["fd00:0:0:9::2", parts.to, "ingress_source_spoofed"],
      [parts.to, parts.to, "ingress_source_spoofed"],
      ["2001:db8:5::5", parts.to, "ingress_source_outside"],
    ];
    for (const [from, to, reason] of rows) {
      const before = readCounters(on.shared).drops[reason]!;
      receive6(on, [frame(wirePacket(flow({ family: 6, from, to })), { ethertype: 0x86dd })]);
      assert.equal(readCounters(on.shared).drops[reason], before + 1, `${from} to ${to}`);
    }
    const own = wirePacket(flow({ family: 6, from: PEER6, to: parts.to }));
    receive6(on, [frame(own, { ethertype: 0x86dd })]);
    assert.equal(on.io.written.length, 1);
  });

  test("an IPv4 packet is none of this network's", async () => {
    const on = await vxlan6();
    on.io.reads = [packet({ payload: bytesOf(100) })];
    assert.equal(on.egress(), 0);
    assert.equal(readCounters(on.shared).drops["egress_bad_version"], 1);
  });

  test("one that its kernel left unfinished is handed to ours", async () => {
    const on = await vxlan6(ALL);
    const whole = wirePacket(flow({ ...parts, payload: bytesOf(100) }));
    const view = new DataView(whole.buffer);
    let sum = TCP + whole.length - 40;
    for (let at = 8; at < 40; at += 2) sum += view.getUint16(at);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
    view.setUint16(40 + 16, sum);
    receive6(on, [frame(whole, { ethertype: 0x86dd })]);
    assert.deepEqual([...on.io.written[0]!.subarray(0, 10)], [1, 0, 60, 0, 0, 0, 40, 0, 16, 0]);
  });
});
