import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { vxlanBackend } from "../../src/backend/vxlan.ts";
import { hasCode } from "../../src/errors.ts";
import type { Lease } from "../../src/lease/lease.ts";
import { configOf, DUAL, inputOf, leaseOf, LINK, plain } from "./sample.ts";

const config = (backend: Record<string, unknown> = {}, network: Record<string, unknown> = {}) =>
  configOf({ Type: "vxlan", ...backend }, network);
const vtep = (last: string) => ({ VNI: 1, VtepMAC: `02:00:00:00:00:${last}` });

const NEAR_KEY = "10.210.7.0-24";
const FAR_KEY = "10.210.8.0-24";
/** On the link, and behind a gateway. */
const NEAR = leaseOf(NEAR_KEY, ["192.0.2.7"], "vxlan", { 4: vtep("07") });
const FAR = leaseOf(FAR_KEY, ["192.0.2.208"], "vxlan", { 4: vtep("08") });
const BOTH_KEY = "10.210.9.0-24&fc00:0:0:9::-64";
const BOTH = leaseOf(BOTH_KEY, ["192.0.2.9", "2001:db8::9"], "vxlan", {
  4: vtep("09"),
  6: vtep("69"),
});

function plan(
  peers: readonly Lease[],
  backend: Record<string, unknown> = {},
  network: Record<string, unknown> = {},
) {
  return vxlanBackend.plan(inputOf(config(backend, network), peers));
}

const kernelOf = (...args: Parameters<typeof plan>) => plain(plan(...args).kernel);

const DEVICE = {
  kind: "vxlan",
  name: "selvage.1",
  mtu_bytes: 1450,
  macAddress: "02:00:00:00:00:04",
  vni: 1,
  port: 8472,
  outerLinkIndex: 2,
  local: "192.0.2.1",
  isLearning: false,
  isGbp: false,
  isProxy: false,
  isL2Miss: false,
};
const DEVICE_V6 = {
  ...DEVICE,
  name: "selvage-v6.1",
  mtu_bytes: 1430,
  macAddress: "02:00:00:00:00:06",
  local: "2001:db8::1",
};
const ADDRESS = { linkName: "selvage.1", address: "10.210.5.0", prefixLength: 32 };
const NETWORK_ROUTE = {
  destination: "10.210.0.0/16",
  linkName: "selvage.1",
  gateway: null,
  isOnLink: false,
  peerKey: null,
};
const FDB = [
  {
    linkName: "selvage.1",
    macAddress: "02:00:00:00:00:07",
    address: "192.0.2.7",
    peerKey: NEAR_KEY,
  },
  {
    linkName: "selvage.1",
    macAddress: "02:00:00:00:00:08",
    address: "192.0.2.208",
    peerKey: FAR_KEY,
  },
];

/** One peer's route and neighbour in generation 3. */
const through = (linkName: string, subnet: string, peerKey: string) => ({
  destination: subnet,
  linkName,
  gateway: subnet.split("/")[0],
  isOnLink: true,
  peerKey,
});

describe("vxlan in the kernel", () => {
  test("generation 3: a route, a neighbour and an FDB entry for each peer", () => {
    const result = plan([FAR, NEAR]);
    assert.deepEqual([result.forwarding, result.skipped], [[], []]);
    assert.deepEqual(plain(result.kernel), {
      links: [DEVICE],
      addresses: [ADDRESS],
      neighbours: [
        {
          linkName: "selvage.1",
          address: "10.210.7.0",
          macAddress: "02:00:00:00:00:07",
          peerKey: NEAR_KEY,
        },
        {
          linkName: "selvage.1",
          address: "10.210.8.0",
          macAddress: "02:00:00:00:00:08",
          peerKey: FAR_KEY,
        },
      ],
      fdb: FDB,
      routes: [
        through("selvage.1", "10.210.7.0/24", NEAR_KEY),
        through("selvage.1", "10.210.8.0/24", FAR_KEY),
      ],
      misses: [],
      blackholes: [],
      sysctls: [{ path: "net/ipv4/neigh/selvage.1/app_solicit", value: "0", isSet: true }],
    });
  });

  const peersOnMiss = [
    { subnet: "10.210.7.0/24", vtepMac: "02:00:00:00:00:07", address: "192.0.2.7" },
    { subnet: "10.210.8.0/24", vtepMac: "02:00:00:00:00:08", address: "192.0.2.208" },
  ];
  const onMissOf = (kernel: { misses: { peers: Record<string, unknown>[] }[] }) =>
    kernel.misses.map(({ peers, ...table }) => ({
      ...table,
      peers: peers.map(({ subnet, vtepMac, address }) => ({ subnet, vtepMac, address })),
    }));
  const SOLICIT = [
    { path: "net/ipv4/neigh/selvage.1/app_solicit", value: "3", isSet: true },
  ];

  test("generation 2: FDB entries from the start, one route, neighbours when asked", () => {
    const kernel = kernelOf([FAR, NEAR], { Generation: 2 });
    const misses = [{ linkName: "selvage.1", isFdbOnMiss: false, peers: peersOnMiss }];
    assert.deepEqual({ ...kernel, misses: onMissOf(kernel) }, {
      links: [DEVICE],
      addresses: [ADDRESS],
      neighbours: [],
      fdb: FDB,
      routes: [NETWORK_ROUTE],
      misses,
      blackholes: [],
      sysctls: SOLICIT,
    });
  });

  test("generation 1: one route, all else when asked, by a device that learns and answers", () => {
    const kernel = kernelOf([FAR, NEAR], { Generation: 1 });
    const misses = [{ linkName: "selvage.1", isFdbOnMiss: true, peers: peersOnMiss }];
    assert.deepEqual({ ...kernel, misses: onMissOf(kernel) }, {
      links: [{ ...DEVICE, isLearning: true, isProxy: true, isL2Miss: true }],
      addresses: [ADDRESS],
      neighbours: [],
      fdb: [],
      routes: [NETWORK_ROUTE],
      misses,
      blackholes: [],
      sysctls: SOLICIT,
    });
  });

  test("both families have a device each, and a peer its entries in both", () => {
    const kernel = kernelOf([BOTH], {}, DUAL);
    assert.deepEqual(kernel, {
      links: [DEVICE, DEVICE_V6],
      addresses: [
        ADDRESS,
        { linkName: "selvage-v6.1", address: "fc00:0:0:5::", prefixLength: 128 },
      ],
      neighbours: [
        {
          linkName: "selvage.1",
          address: "10.210.9.0",
          macAddress: "02:00:00:00:00:09",
          peerKey: BOTH_KEY,
        },
        {
          linkName: "selvage-v6.1",
          address: "fc00:0:0:9::",
          macAddress: "02:00:00:00:00:69",
          peerKey: BOTH_KEY,
        },
      ],
      fdb: [
        {
          linkName: "selvage.1",
          macAddress: "02:00:00:00:00:09",
          address: "192.0.2.9",
          peerKey: BOTH_KEY,
        },
        {
          linkName: "selvage-v6.1",
          macAddress: "02:00:00:00:00:69",
          address: "2001:db8::9",
          peerKey: BOTH_KEY,
        },
      ],
      routes: [
        through("selvage.1", "10.210.9.0/24", BOTH_KEY),
        through("selvage-v6.1", "fc00:0:0:9::/64", BOTH_KEY),
      ],
      misses: [],
      blackholes: [],
      sysctls: [
        { path: "net/ipv4/neigh/selvage.1/app_solicit", value: "0", isSet: true },
      ],
    });
  });

  test("IPv6 alone", () => {
    const kernel = kernelOf([BOTH, NEAR], {}, { ...DUAL, EnableIPv4: false });
    assert.deepEqual(kernel.links, [DEVICE_V6]);
    assert.deepEqual(kernel.routes, [through("selvage-v6.1", "fc00:0:0:9::/64", BOTH_KEY)]);
  });

  test("options reach the device", () => {
    const options = { VNI: 7, Port: 4789, MTU: 1400, Learning: true, GBP: true };
    assert.deepEqual(kernelOf([], options).links, [{
      ...DEVICE,
      name: "selvage.7",
      vni: 7,
      port: 4789,
      mtu_bytes: 1350,
      isLearning: true,
      isGbp: true,
    }]);
  });

  for (const Generation of [3, 2, 1]) {
    test(`DirectRouting in generation ${Generation}: who is on the link needs no tunnel`, () => {
      const kernel = kernelOf([FAR, NEAR], { Generation, DirectRouting: true });
      const direct = {
        destination: "10.210.7.0/24",
        linkName: "eth0",
        gateway: "192.0.2.7",
        isOnLink: false,
        peerKey: NEAR_KEY,
      };
      const tunnelled = Generation === 3
        ? through("selvage.1", "10.210.8.0/24", FAR_KEY)
        : NETWORK_ROUTE;
      assert.deepEqual(kernel.routes, [tunnelled, direct]);
      assert.deepEqual(kernel.fdb, Generation === 1 ? [] : [FDB[1]]);
      const asked = onMissOf(kernel).flatMap(({ peers }) => peers);
      assert.deepEqual(asked, Generation === 3 ? [] : [peersOnMiss[1]]);
    });
  }

  test("generations 2 and 1 carry IPv4 alone, and say so", () => {
    for (const Generation of [2, 1]) {
      vxlanBackend.check(config({ Generation }), LINK);
      for (const network of [DUAL, { ...DUAL, EnableIPv4: false }]) {
        assert.throws(
          () => vxlanBackend.check(config({ Generation }, network), null),
          (error) => hasCode(error, "unsupported") && /carries only IPv4/.test(error.message),
        );
      }
    }
    vxlanBackend.check(config({ Generation: 3 }, DUAL), LINK);
  });

  test("an outer link without what it takes is refused", () => {
    const only4 = { ...LINK, addresses: LINK.addresses.slice(0, 1) };
    assert.throws(() => vxlanBackend.check(config({}, DUAL), only4), /no IPv6 address/);
    const narrow = { ...LINK, mtu_bytes: 100 };
    assert.throws(() => vxlanBackend.check(config(), narrow), /leaves no room for IPv4/);
  });

  const peer = (data: unknown, address = "192.0.2.66", key = "10.210.66.0-24") =>
    leaseOf(key, [address], "vxlan", { 4: data });
  const BAD: [Lease, RegExp][] = [
    [peer(vtep("66"), "192.0.2.1"), /our public address 192\.0\.2\.1/],
    [peer(vtep("66"), "10.210.66.6"), /lies in the (network|subnet 10\.210\.66\.0\/24)/],
    [peer(vtep("66"), "192.0.2.66", "10.210.5.128-25"), /overlaps ours/],
    [peer(vtep("66"), "192.0.2.66", "10.210.7.128-25"), /overlaps 10\.210\.7\.0\/24/],
    [peer(vtep("66"), "192.0.2.66", "10.99.0.0-24"), /outside the network/],
    [peer({ VNI: 1, VtepMAC: "nonsense" }), /VtepMAC "nonsense" .* is not a VTEP's/],
    [peer({ VNI: 1, VtepMAC: "ff:ff:ff:ff:ff:ff" }), /is not a VTEP's/],
    [peer({ VNI: 1 }), /no VtepMAC/],
    [peer(vtep("07")), /has the VtepMAC 02:00:00:00:00:07 of 10\.210\.7\.0-24/],
    [peer(vtep("04")), /our VtepMAC/],
    [peer({ VNI: 2, VtepMAC: "02:00:00:00:00:66" }), /its VNI is 2, ours is 1/],
    [{ ...peer(vtep("66")), backendType: "host-gw" }, /backend is host-gw, ours is vxlan/],
  ];
  for (const [bad, reason] of BAD) {
    test(`left out by name in every generation, all others served: ${reason.source}`, () => {
      for (const Generation of [3, 2, 1]) {
        const { kernel, skipped } = plan([bad, NEAR, FAR], { Generation });
        assert.deepEqual(plain(kernel), kernelOf([NEAR, FAR], { Generation }));
        assert.equal(skipped.length, 1);
        assert.match(skipped[0]!.reason, reason);
      }
    });
  }
});
