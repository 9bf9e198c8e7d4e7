import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { ForwardingEntry, PlanInput } from "../../src/backend/backend.ts";
import { planPeers } from "../../src/backend/plan_peers.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { type Lease, leaseKey, parseLeaseKey } from "../../src/lease/lease.ts";
import { LeaseTable, putChange } from "../../src/lease/lease_table.ts";
import { type Family, IpAddress, ofFamily } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";

const CONFIG = parseNetworkConfig(JSON.stringify({ Network: "10.0.0.0/8" }), "test");
const LINK = {
  name: "eth0",
  index: 2,
  mtu_bytes: 1500,
  addresses: [],
  publicAddresses: [],
  ways: [],
};

const MACS = {
  4: MacAddress.parse("02:00:00:00:00:04"),
  6: MacAddress.parse("02:00:00:00:00:06"),
};

function lease(key: string, backendType = "udp"): Lease {
  const publicAddresses = [IpAddress.parse("192.0.2.1")];
  const subnets = parseLeaseKey(key);
  return { subnets, publicAddresses, backendType, backendData: {}, expiry_ms: null };
}

const OWN = lease("10.255.0.0-24");

function input(peers: readonly Lease[], changes: Partial<PlanInput> = {}): PlanInput {
  return { config: CONFIG, link: LINK, vtepMacs: MACS, lease: OWN, peers, ...changes };
}

function planPeer(peer: Lease, family: Family): ForwardingEntry | string {
  const subnet = ofFamily(peer.subnets, family);
  if (subnet === undefined) return `no subnet of IPv${family}`;
  if (peer.backendType !== "udp") return "another backend";
  const address = peer.publicAddresses[0]!;
  return { key: leaseKey(peer.subnets), subnet, address, port: 8285, vtepMac: null };
}

const subnetsOf = (entries: readonly ForwardingEntry[]) => entries.map(({ subnet }) => `${subnet}`);

describe("planPeers", () => {
  test("the entries are in order, IPv4 first, whatever the order of the leases", () => {
    const peers = ["10.2.0.0-24&fc00:0:0:2::-64", "10.1.0.0-24&fc00:0:0:1::-64"].map((key) =>
      lease(key)
    );
    const { entries: forwarding, skipped } = planPeers(input(peers), [6, 4], planPeer);
    const expected = ["10.1.0.0/24", "10.2.0.0/24", "fc00:0:0:1::/64", "fc00:0:0:2::/64"];
    assert.deepEqual(subnetsOf(forwarding), expected);
    assert.deepEqual(skipped, []);
  });

  test("what keeps a peer out of both families is said once", () => {
    const peers = ["10.1.0.0-24&fc00:0:0:1::-64", "10.2.0.0-24&fc00:0:0:2::-64"].map((key) =>
      lease(key, "vxlan")
    );
    const { skipped } = planPeers(input(peers), [4, 6], planPeer);
    assert.deepEqual(skipped.map(({ key }) => key), peers.map(({ subnets }) => leaseKey(subnets)));
  });

  test("a peer is skipped in one family and served in the other", () => {
    const { entries: forwarding, skipped } = planPeers(
      input([lease("10.1.0.0-24")]),
      [4, 6],
      planPeer,
    );
    assert.deepEqual(subnetsOf(forwarding), ["10.1.0.0/24"]);
    const reason = "no subnet of IPv6; its other family is served";
    assert.deepEqual(skipped, [{ key: "10.1.0.0-24", reason }]);
  });

  for (
    const [what, keys, kept, reason] of [
      ["a wide key does not cut off hosts within it", ["10.1.0.0-16", "10.1.7.0-24"], 1, 1],
      ["nor a narrow one the host around it", ["10.1.7.0-24", "10.1.7.128-25"], 0, 0],
      ["nor one that begins where the host does", ["10.1.7.0-25", "10.1.7.0-24"], 1, 1],
      ["of two that are both unusual the first is kept", ["10.1.0.0-16", "10.1.7.0-25"], 0, 0],
    ] as const
  ) {
    test(`of two that overlap: ${what}; the other comes back when it has gone`, () => {
      const peers = keys.map((key) => lease(key));
      const subnets = peers.map((peer) => `${peer.subnets[0]}`);
      const other = peers[1 - kept]!;
      for (const order of [peers, peers.toReversed()]) {
        const both = planPeers(input(order), [4], planPeer);
        assert.deepEqual(subnetsOf(both.entries), [subnets[kept]]);
        assert.deepEqual(both.skipped, [
          { key: leaseKey(other.subnets), reason: `its subnet overlaps ${subnets[reason]}` },
        ]);
      }
      const one = planPeers(input([other]), [4], planPeer);
      assert.deepEqual(subnetsOf(one.entries), [subnets[1 - kept]]);
    });
  }

  test("what a wide key that is left out would have covered is served", () => {
    const keys = ["10.1.0.0-16", "10.1.3.0-25", "10.1.7.0-24", "10.1.9.0-24"];
    const { entries, skipped } = planPeers(input(keys.map((key) => lease(key))), [4], planPeer);
    assert.deepEqual(subnetsOf(entries), ["10.1.3.0/25", "10.1.7.0/24", "10.1.9.0/24"]);
    assert.deepEqual(skipped.map(({ key }) => key), ["10.1.0.0-16"]);
  });

  test("only what has changed is planned again", () => {
    const planned: string[] = [];
    const counting = (peer: Lease, family: Family) => {
      planned.push(leaseKey(peer.subnets));
      return planPeer(peer, family);
    };
    const before = LeaseTable.of([lease("10.1.0.0-24"), lease("10.2.0.0-24", "vxlan")]);
    const first = planPeers(input(before.leases), [4], counting);
    const after = before.apply([putChange(lease("10.3.0.0-24"))]);
    const second = planPeers(input(after.leases), [4], counting);
    assert.deepEqual(planned, ["10.1.0.0-24", "10.2.0.0-24", "10.3.0.0-24"]);
    assert.equal(second.entries[0], first.entries[0]);
    assert.deepEqual(second.skipped, first.skipped);
  });

  test("another network, link, own lease or backend plans all anew", () => {
    const peers = [lease("10.1.0.0-24")];
    const first = planPeers(input(peers), [4], planPeer);
    const again = (changes: Partial<PlanInput>, plan = planPeer) =>
      planPeers(input(peers, changes), [4], plan).entries[0];
    assert.equal(again({}), first.entries[0]);
    for (
      const changes of [
        { config: { ...CONFIG } },
        { link: { ...LINK } },
        { vtepMacs: { ...MACS } },
        { lease: { ...OWN } },
      ]
    ) {
      assert.notEqual(again(changes), first.entries[0]);
    }
    assert.notEqual(again({}, (peer, family) => planPeer(peer, family)), first.entries[0]);
  });

  test("after any changes the plan is the one made from nothing", () => {
    const key = fc.tuple(fc.integer({ min: 0, max: 7 }), fc.constantFrom(22, 23, 24))
      .map(([third, length]) => parseLeaseKey(`10.1.${third}.0-${length}`)).map(leaseKey);
    const change = fc.record({ key, type: fc.constantFrom("udp", "vxlan", "delete") });
    fc.assert(
      fc.property(fc.array(fc.array(change, { maxLength: 4 }), { maxLength: 8 }), (steps) => {
        let table = LeaseTable.EMPTY;
        for (const step of steps) {
          table = table.apply(
            step.map(({ key, type }) =>
              type === "delete" ? { type, key } : putChange(lease(key, type))
            ),
          );
          const anew = planPeers(input(table.leases, { lease: { ...OWN } }), [4], planPeer);
          assert.deepEqual(planPeers(input(table.leases), [4], planPeer), anew);
        }
      }),
      { seed: 3 },
    );
  });
});
