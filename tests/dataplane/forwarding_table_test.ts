import { describe, test } from "node:test";
import assert from "node:assert/strict";
import type { ForwardingEntry } from "../../src/backend/backend.ts";
import {
  DESTINATIONS6_OFFSET,
  LANE_EGRESS_EPOCH_OFFSET,
  LANES_OFFSET,
  PEER_ADDRESS_OFFSET,
  PEER_ENDPOINT_OFFSET,
  PEER_RECEIVED_BYTES_OFFSET,
  PEER_SENT_PACKETS_OFFSET,
  PEER_SIZE,
  PEER_VTEP_MAC_OFFSET,
  PEERS4_OFFSET,
  PEERS6_OFFSET,
  SOURCES6_OFFSET,
} from "../../wasm/layout.ts";
import { ForwardingTable, type TableLimits } from "../../src/dataplane/forwarding_table.ts";
import { instantiateLoops, type Loops } from "../../src/dataplane/loops.ts";
import { createMemory, type SharedMemory } from "../../src/dataplane/memory.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { pure, type PureFunctions } from "../wasm/pure.ts";
import { bound, entry, ScriptedIo } from "../wasm/scripted_io.ts";
import { Random } from "./random.ts";

interface Bench {
  readonly shared: SharedMemory;
  readonly loops: Loops;
  readonly table: ForwardingTable;
}

async function setUp(limits: TableLimits = {}): Promise<Bench> {
  const shared = createMemory();
  const loops = await instantiateLoops(shared.memory, bound(new ScriptedIo(shared)));
  return { shared, loops, table: new ForwardingTable(shared, 4, limits) };
}

/** `address:port` where a packet to `destination` would go, or null. */
function route({ shared, loops }: Bench, destination: string): string | null {
  const slot = loops.lookupPeer(IpAddress.parse(destination).toUint32());
  if (slot < 0) return null;
  const at = PEERS4_OFFSET + slot * PEER_SIZE + PEER_ENDPOINT_OFFSET;
  const view = new DataView(shared.bytes.buffer, at, 8);
  assert.equal(view.getUint16(0, true), 2, "AF_INET");
  return `${IpAddress.of(4, BigInt(view.getUint32(4)))}:${view.getUint16(2)}`;
}

function slotOf({ loops }: Bench, destination: string): number {
  return loops.lookupPeer(IpAddress.parse(destination).toUint32());
}

function isPeer({ loops }: Bench, source: string): boolean {
  return loops.lookupSource(IpAddress.parse(source).toUint32()) >= 0;
}

function keyed(key: string, subnet: string, address: string, port = 8285): ForwardingEntry {
  return { ...entry(subnet, address, port), key };
}

describe("apply", () => {
  test("leads subnets to endpoints, and lets their addresses in", async () => {
    const on = await setUp();
    const entries = [entry("10.0.2.0/24", "192.0.2.2"), entry("10.0.3.0/28", "192.0.2.3", 9)];
    assert.deepEqual(on.table.apply(entries), []);
    assert.deepEqual(
      ["10.0.2.0", "10.0.2.255", "10.0.3.15", "10.0.3.16"].map((to) => route(on, to)),
      ["192.0.2.2:8285", "192.0.2.2:8285", "192.0.2.3:9", null],
    );
    assert.deepEqual(["192.0.2.2", "192.0.2.3", "192.0.2.4"].map((a) => isPeer(on, a)), [
      true,
      true,
      false,
    ]);
    assert.equal(on.table.peerCount, 2);
  });

  test("the whole set every time: what is not in it goes", async () => {
    const on = await setUp();
    on.table.apply([entry("10.0.2.0/24", "192.0.2.2"), entry("10.0.3.0/24", "192.0.2.3")]);
    on.table.apply([entry("10.0.3.0/24", "192.0.2.3")]);
    assert.equal(route(on, "10.0.2.1"), null);
    assert.ok(!isPeer(on, "192.0.2.2"));
    assert.equal(route(on, "10.0.3.1"), "192.0.2.3:8285");
    on.table.apply([]);
    assert.equal(on.table.peerCount, 0);
    assert.ok(!isPeer(on, "192.0.2.3"));
  });

  test("another endpoint keeps slot and counters", async () => {
    const on = await setUp();
    on.table.apply([entry("10.0.2.0/24", "192.0.2.2")]);
    const slot = slotOf(on, "10.0.2.1");
    on.shared.u64[(PEERS4_OFFSET + slot * PEER_SIZE + PEER_SENT_PACKETS_OFFSET) / 8] = 7n;
    on.table.apply([entry("10.0.2.0/24", "192.0.2.22", 1)]);
    assert.equal(slotOf(on, "10.0.2.1"), slot);
    assert.equal(route(on, "10.0.2.1"), "192.0.2.22:1");
    assert.deepEqual(["192.0.2.2", "192.0.2.22"].map((a) => isPeer(on, a)), [false, true]);
    assert.equal(on.table.counters("10.0.2.0/24")!.sentPackets, 7);
  });

  test("peers that exchange their subnets keep their counters", async () => {
    const on = await setUp();
    on.table.apply([
      keyed("a", "10.0.2.0/24", "192.0.2.2"),
      keyed("b", "10.0.3.0/25", "192.0.2.3"),
    ]);
    const slots = [slotOf(on, "10.0.2.1"), slotOf(on, "10.0.3.1")];
    const swapped = [
      keyed("b", "10.0.2.0/24", "192.0.2.3"),
      keyed("a", "10.0.3.0/25", "192.0.2.2"),
    ];
    assert.deepEqual(on.table.apply(swapped), []);
    assert.deepEqual([slotOf(on, "10.0.3.1"), slotOf(on, "10.0.2.1")], slots);
    assert.equal(route(on, "10.0.2.1"), "192.0.2.3:8285");
  });

  test("a slot that is used again starts with counters at zero", async () => {
    const on = await setUp({ peerCountMax: 1 });
    on.table.apply([entry("10.0.2.0/24", "192.0.2.2")]);
    const peer = PEERS4_OFFSET / 8;
    on.shared.u64.fill(5n, peer + 1, peer + PEER_SIZE / 8);
    assert.equal(on.table.counters("10.0.2.0/24")!.lastHeard_ms, 5);
    assert.deepEqual(on.table.apply([entry("10.0.3.0/24", "192.0.2.3")]), []);
    assert.deepEqual(on.table.counters("10.0.3.0/24"), {
      sentPackets: 0,
      sentBytes: 0,
      receivedPackets: 0,
      receivedBytes: 0,
      lastHeard_ms: null,
      pathMtu_bytes: null,
    });
    assert.equal(on.table.counters("10.0.2.0/24"), null);
  });

  test("two peers at one address: the address stays while one of them does", async () => {
    const on = await setUp();
    const [one, two] = [entry("10.0.2.0/24", "192.0.2.2"), entry("10.0.3.0/24", "192.0.2.2", 9)];
    on.table.apply([one, two]);
    on.table.apply([two]);
    assert.ok(isPeer(on, "192.0.2.2"));
    on.table.apply([]);
    assert.ok(!isPeer(on, "192.0.2.2"));
  });

  test("counters above 2^32 are read right", async () => {
    const on = await setUp();
    on.table.apply([entry("10.0.2.0/24", "192.0.2.2")]);
    on.shared.u64[(PEERS4_OFFSET + PEER_RECEIVED_BYTES_OFFSET) / 8] = 5_000_000_000_001n;
    assert.equal(on.table.counters("10.0.2.0/24")!.receivedBytes, 5_000_000_000_001);
  });

  test("random sets of peers in a row: every look-up is as the last set says", async () => {
    const on = await setUp({ peerCountMax: 40, blockCountMax: 40, sourceCountMax: 60 });
    const random = new Random(4242);
    const kinds = ["10.0.N.0/24", "10.1.N.0/25", "10.1.N.128/25", "10.2.0.N/32", "10.N.0.0/20"];
    for (let round = 0; round < 300; round++) {
      const wanted = new Map<string, ForwardingEntry>();
      for (let i = random.below(40); i > 0; i--) {
        const subnet = random.pick(kinds).replace("N", String(16 + random.below(30)));
        wanted.set(subnet, entry(subnet, `192.0.2.${1 + random.below(60)}`, 1 + random.below(9)));
      }
      const where = `seed ${random.seed}, round ${round}`;
      assert.deepEqual(on.table.apply([...wanted.values()]), [], where);
      const addresses = new Set<string>();
      for (const { subnet, address, port } of wanted.values()) {
        for (const to of [subnet.address, subnet.last]) {
          assert.equal(route(on, `${to}`), `${address}:${port}`, where);
        }
        addresses.add(`${address}`);
      }
      for (const kind of kinds) {
        const subnet = IpPrefix.parse(kind.replace("N", String(16 + random.below(30))));
        if (!wanted.has(`${subnet}`)) assert.equal(route(on, `${subnet.address}`), null, where);
      }
      for (let n = 1; n <= 61; n++) {
        assert.equal(isPeer(on, `192.0.2.${n}`), addresses.has(`192.0.2.${n}`), where);
      }
    }
  });

  test("a /8 of /24s in one call, and out of it again, in linear time", async () => {
    const on = await setUp();
    const entries = Array.from({ length: 65535 }, (_, i) => {
      const subnet = IpPrefix.of(IpAddress.of(4, 0x0a000000n + BigInt(i) * 256n), 24);
      const address = IpAddress.of(4, 0xac100001n + BigInt(i));
      return { key: `${subnet}`, subnet, address, port: 1, vtepMac: null };
    });
    const start_ms = performance.now();
    assert.deepEqual(on.table.apply(entries), []);
    assert.equal(route(on, "10.255.254.9"), "172.16.255.255:1");
    assert.deepEqual(on.table.apply([]), []);
    // Quadratic work would take minutes.
    assert.ok(performance.now() - start_ms < 10_000);
    assert.equal(route(on, "10.0.0.1"), null);
  });
});

describe("what there is no room for", () => {
  test("entries in any order are taken", async () => {
    const on = await setUp();
    on.table.apply([entry("10.0.9.0/24", "192.0.2.9"), entry("10.0.2.0/24", "192.0.2.2")]);
    assert.equal(route(on, "10.0.2.1"), "192.0.2.2:8285");
    assert.equal(route(on, "10.0.9.1"), "192.0.2.9:8285");
  });

  test("a full table serves what it can, and the rest when there is room", async () => {
    const on = await setUp({ peerCountMax: 2 });
    const entries = [2, 3, 4].map((n) => entry(`10.0.${n}.0/24`, `192.0.2.${n}`));
    assert.deepEqual(on.table.apply(entries), [{
      key: "10.0.4.0/24",
      reason: "the forwarding table is full (2 peers)",
    }]);
    assert.ok(!isPeer(on, "192.0.2.4"));
    assert.deepEqual(on.table.apply(entries.slice(1)), []);
    assert.equal(route(on, "10.0.4.1"), "192.0.2.4:8285");
  });

  test("no block for a long subnet: nothing of the peer stays behind", async () => {
    const on = await setUp({ blockCountMax: 1, peerCountMax: 2 });
    const skipped = on.table.apply([
      entry("10.0.2.0/28", "192.0.2.2"),
      entry("10.0.3.0/28", "192.0.2.3"),
    ]);
    assert.deepEqual(skipped.map(({ key }) => key), ["10.0.3.0/28"]);
    assert.ok(!isPeer(on, "192.0.2.3"));
    assert.equal(on.table.peerCount, 1);
    const all = [entry("10.0.2.0/28", "192.0.2.2"), entry("10.0.4.0/24", "192.0.2.4")];
    assert.deepEqual(on.table.apply(all), []);
  });
});

test("a slot that a loop may hold is not given to another peer until the loop is out", async () => {
  const on = await setUp({ peerCountMax: 1 });
  on.table.apply([entry("10.0.2.0/24", "192.0.2.2")]);
  Atomics.add(on.shared.u32, (LANES_OFFSET + LANE_EGRESS_EPOCH_OFFSET) / 4, 1);
  const next = [entry("10.0.3.0/24", "192.0.2.3")];
  const start_ms = performance.now();
  assert.equal(on.table.apply(next).length, 1);
  assert.ok(performance.now() - start_ms < 2000, "it waits, but not for ever");
  assert.equal(on.shared.u64[PEERS4_OFFSET / 8], 0n, "whoever holds the slot finds no endpoint");
  Atomics.add(on.shared.u32, (LANES_OFFSET + LANE_EGRESS_EPOCH_OFFSET) / 4, 1);
  assert.deepEqual(on.table.apply(next), []);
  assert.equal(route(on, "10.0.3.1"), "192.0.2.3:8285");
});

describe("IPv6", () => {
  /** The endpoint's address, its port, and the VTEP, where a packet to `destination` would go. */
  function route6({ shared }: { shared: SharedMemory }, functions: PureFunctions, to: string) {
    const { value } = IpAddress.parse(to);
    const [high, low] = [value >> 64n, BigInt.asUintN(64, value)];
    const slot = functions.prefixLookup(DESTINATIONS6_OFFSET, high, low);
    if (slot < 0) return null;
    const at = PEERS6_OFFSET + slot * PEER_SIZE;
    const view = new DataView(shared.bytes.buffer, at, PEER_SIZE);
    assert.equal(view.getUint16(PEER_ENDPOINT_OFFSET, true), 10, "AF_INET6");
    const bytes = (offset: number, size: number) =>
      shared.bytes.slice(at + offset, at + offset + size);
    return {
      to: `${IpAddress.fromBytes(bytes(PEER_ADDRESS_OFFSET, 16))}:${view.getUint16(2)}`,
      vtep: `${MacAddress.fromBytes(bytes(PEER_VTEP_MAC_OFFSET, 6))}`,
      word: view.getBigUint64(PEER_ENDPOINT_OFFSET),
    };
  }

  const peer = (address: string, mac = "06:00:00:00:00:02"): ForwardingEntry => ({
    ...entry("fd00:0:0:2::/64", address, 8472),
    vtepMac: MacAddress.parse(mac),
  });

  test("leads subnets to endpoints and VTEPs, and lets their addresses in", () => {
    const { shared, functions } = pure();
    const table = new ForwardingTable(shared, 6);
    assert.deepEqual(table.apply([peer("2001:db8::2"), entry("fd00:9::/56", "2001:db8::9")]), []);
    const found = route6({ shared }, functions, "fd00:0:0:2::7")!;
    assert.deepEqual([found.to, found.vtep], ["2001:db8::2:8472", "06:00:00:00:00:02"]);
    assert.equal(route6({ shared }, functions, "fd00:9:0:ff::1")!.to, "2001:db8::9:8285");
    assert.equal(route6({ shared }, functions, "fd00:0:0:3::7"), null);
    const isPeer = (address: string) => {
      const { value } = IpAddress.parse(address);
      const low = BigInt.asUintN(64, value);
      return functions.prefixLookup(SOURCES6_OFFSET, value >> 64n, low) >= 0;
    };
    assert.deepEqual(["2001:db8::2", "2001:db8::9", "2001:db8::3"].map(isPeer), [
      true,
      true,
      false,
    ]);
    assert.deepEqual(table.apply([]), []);
    assert.equal(route6({ shared }, functions, "fd00:0:0:2::7"), null);
    assert.ok(!isPeer("2001:db8::2"));
  });

  test("each change of the address changes the word that is read before and after it", () => {
    const { shared, functions } = pure();
    const table = new ForwardingTable(shared, 6);
    const words = new Set<bigint>();
    for (const address of ["2001:db8::2", "2001:db8::3", "2001:db8::2", "2001:db8::3"]) {
      table.apply([peer(address)]);
      const found = route6({ shared }, functions, "fd00:0:0:2::7")!;
      assert.equal(found.to, `${address}:8472`);
      words.add(found.word);
    }
    assert.equal(words.size, 4);
  });

  test("another VTEP at the same address is taken over", () => {
    const { shared, functions } = pure();
    const table = new ForwardingTable(shared, 6);
    table.apply([peer("2001:db8::2")]);
    table.apply([peer("2001:db8::2", "06:00:00:00:00:77")]);
    assert.equal(route6({ shared }, functions, "fd00:0:0:2::7")!.vtep, "06:00:00:00:00:77");
  });
});
