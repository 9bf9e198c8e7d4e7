import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { hostGwBackend } from "../../src/backend/host_gw.ts";
import { allocBackend } from "../../src/backend/alloc.ts";
import { ipipBackend } from "../../src/backend/ipip.ts";
import type { Backend } from "../../src/backend/backend.ts";
import { ANY_HOST, selectBackend } from "../../src/backend/select.ts";
import { NO_KERNEL_STATE } from "../../src/kernel/state.ts";
import type { Lease } from "../../src/lease/lease.ts";
import type { Surrounding } from "../../src/kernel/surroundings.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { configOf, DUAL, inputOf, leaseOf, LINK, MACS, plain } from "./sample.ts";

const host = (type: string) => ({
  near: leaseOf("10.210.7.0-24", ["192.0.2.7"], type),
  far: leaseOf("10.210.8.0-24", ["192.0.2.208"], type),
  both: leaseOf("10.210.9.0-24&fc00:0:0:9::-64", ["192.0.2.9", "2001:db8::9"], type),
});

const via = (destination: string, gateway: string, peerKey: string, linkName = "eth0") => ({
  destination,
  linkName,
  gateway,
  isOnLink: linkName !== "eth0",
  peerKey,
});
const NEAR_ROUTE = via("10.210.7.0/24", "192.0.2.7", "10.210.7.0-24");

/** What each backend that routes refuses of a peer. */
function badPeers(type: string): [Lease, RegExp][] {
  const peer = (address: string, key = "10.210.66.0-24") => leaseOf(key, [address], type);
  return [
    [leaseOf("10.210.66.0-24", ["192.0.2.66"], "udp"), /backend is udp/],
    [peer("192.0.2.1"), /our public address/],
    [peer("0.0.0.0"), /not a host's/],
    [peer("192.0.2.66", "10.210.5.128-25"), /overlaps ours/],
    [peer("192.0.2.66", "10.210.7.128-25"), /overlaps 10\.210\.7\.0\/24/],
    [peer("192.0.2.66", "10.99.0.0-24"), /outside the network/],
    [leaseOf("fc00::-64", ["2001:db8::9"], type), /no IPv4 subnet or address/],
  ];
}

/** A surrounding of the host; a single address is no connected network. */
function surrounding(text: string, routeLength: number, mayBeContainers = false): Surrounding {
  const prefix = IpPrefix.parse(text);
  const ownAddress = prefix.length < 32 ? prefix.address.add(1n) : null;
  return { what: text, prefix, routeLength, ownAddress, mayBeContainers };
}

describe("a backend with a route for each subnet", () => {
  const config = configOf({ Type: "ipip" }, { Network: "10.0.0.0/8" });
  const plan = (peers: readonly Lease[], surroundings: readonly Surrounding[] = []) => {
    const lease = leaseOf("10.210.5.0-24", ["10.1.0.1"], "ipip");
    const { kernel, skipped } = ipipBackend.plan(inputOf(config, peers, { lease, surroundings }));
    const routes = kernel.routes.map(({ destination }) => `${destination}`);
    return { routes, reasons: skipped.map(({ reason }) => reason) };
  };
  const peer = (key: string, address: string) => leaseOf(key, [address], "ipip");

  test("serves peers at addresses of the network that no route takes", () => {
    const peers = [peer("10.210.6.0-24", "10.1.0.2"), peer("10.210.7.0-24", "10.1.0.3")];
    assert.deepEqual(plan(peers), { routes: ["10.210.6.0/24", "10.210.7.0/24"], reasons: [] });
  });

  test("leaves out peers at addresses that a route takes", () => {
    const own = plan([peer("10.210.6.0-24", "10.210.6.1")]);
    assert.deepEqual(own.routes, []);
    assert.match(own.reasons[0]!, /10\.210\.6\.1 lies in the subnet 10\.210\.6\.0\/24, which/);
    const others = plan([peer("10.1.0.0-24", "192.0.2.6"), peer("10.210.7.0-24", "10.1.0.3")]);
    assert.deepEqual(others.routes, ["10.1.0.0/24"]);
    assert.match(others.reasons[0]!, /10\.1\.0\.3 lies in the subnet 10\.1\.0\.0\/24/);
    const ours = plan([peer("10.210.6.0-24", "10.210.5.9")]);
    assert.match(ours.reasons[0]!, /10\.210\.5\.9 lies in the subnet 10\.210\.5\.0\/24/);
  });

  test("leaves out peers whose subnet would cut this host off from what it needs", () => {
    const peers = [peer("10.20.1.0-24", "192.0.2.6"), peer("10.20.2.0-24", "192.0.2.7")];
    const cutOff = (...surroundings: Surrounding[]) => {
      const { routes, reasons } = plan(peers, surroundings);
      for (const reason of reasons) assert.match(reason, /^its subnet would cut off /);
      return routes;
    };
    const both = ["10.20.1.0/24", "10.20.2.0/24"];
    // A resolver behind the default route, and the same behind a route of its own.
    assert.deepEqual(cutOff(surrounding("10.20.1.53/32", 0)), ["10.20.2.0/24"]);
    assert.deepEqual(cutOff(surrounding("10.20.1.53/32", 32)), both);
    // A network that another interface is in: the same, wider, or a part of the subnet.
    assert.deepEqual(cutOff(surrounding("10.20.1.0/24", 24)), ["10.20.2.0/24"]);
    assert.deepEqual(cutOff(surrounding("10.20.0.0/16", 16)), []);
    assert.deepEqual(cutOff(surrounding("10.20.1.0/28", 28)), both);
    // The bridge of an earlier run's containers.
    assert.deepEqual(cutOff(surrounding("10.20.1.0/24", 24, true)), both);
    // The bridge of this host's containers, with the netmask of the whole network.
    const bridge = surrounding("10.0.0.0/8", 8, true);
    assert.deepEqual(cutOff(bridge), []);
    assert.deepEqual(cutOff({ ...bridge, ownAddress: IpAddress.parse("10.210.5.1") }), both);
  });
});

function testBadPeers(backend: Backend, type: string): void {
  for (const [bad, reason] of badPeers(type)) {
    test(`left out by name, all others served: ${reason.source}`, () => {
      const { near } = host(type);
      const input = inputOf(configOf({ Type: type }), [bad, near]);
      const { kernel, skipped } = backend.plan(input);
      assert.deepEqual(kernel.routes.map(({ peerKey }) => peerKey), ["10.210.7.0-24"]);
      assert.equal(skipped.length, 1);
      assert.match(skipped[0]!.reason, reason);
    });
  }
}

describe("host-gw", () => {
  const { near, far, both } = host("host-gw");
  const config = configOf({ Type: "host-gw" });

  test("a route to each peer, and nothing else", () => {
    const plan = hostGwBackend.plan(inputOf(configOf({ Type: "host-gw" }, DUAL), [both]));
    const key = "10.210.9.0-24&fc00:0:0:9::-64";
    assert.deepEqual(plain(plan), {
      kernel: {
        ...NO_KERNEL_STATE,
        routes: [
          via("10.210.9.0/24", "192.0.2.9", key),
          via("fc00:0:0:9::/64", "2001:db8::9", key),
        ],
      },
      served: [
        { key, subnet: "10.210.9.0/24", address: "192.0.2.9" },
        { key, subnet: "fc00:0:0:9::/64", address: "2001:db8::9" },
      ],
      forwarding: [],
      skipped: [],
    });
  });

  test("who is not on the link is left out by name", () => {
    const { kernel, skipped } = hostGwBackend.plan(inputOf(config, [far, near]));
    assert.deepEqual(plain(kernel.routes), [NEAR_ROUTE]);
    assert.deepEqual(skipped, [{
      key: "10.210.8.0-24",
      reason: "its address 192.0.2.208 is not on the link of eth0: " +
        "host-gw has no way through gateways",
    }]);
    const nowhere = hostGwBackend.plan(inputOf(config, [near], { link: { ...LINK, ways: [] } }));
    assert.deepEqual([nowhere.kernel.routes, nowhere.skipped.length], [[], 1]);
  });

  testBadPeers(hostGwBackend, "host-gw");

  test("what it publishes is what others must send to: the link's own address", () => {
    hostGwBackend.check(config, LINK);
    hostGwBackend.check(config, null);
    const elsewhere = { ...LINK, publicAddresses: [IpAddress.parse("203.0.113.1")] };
    assert.throws(() => hostGwBackend.check(config, elsewhere), /eth0: host-gw needs an IPv4/);
    const only4 = { ...LINK, addresses: LINK.addresses.slice(0, 1) };
    hostGwBackend.check(config, only4);
    assert.throws(
      () => hostGwBackend.check(configOf({ Type: "host-gw" }, DUAL), only4),
      /needs an IPv6 address/,
    );
    const attributes = hostGwBackend.attributes(config, LINK, MACS);
    assert.deepEqual(plain(attributes), {
      publicAddresses: ["192.0.2.1"],
      backendType: "host-gw",
      backendData: {},
    });
    assert.equal(hostGwBackend.mtu_bytes(config, LINK), 1500);
    assert.deepEqual(hostGwBackend.tunnels(config, LINK, MACS), []);
  });
});

describe("ipip", () => {
  const { near, far } = host("ipip");
  const config = configOf({ Type: "ipip" });

  test("one device, and a route to each peer whose gateway is the far end", () => {
    const plan = ipipBackend.plan(inputOf(config, [far, near]));
    assert.deepEqual(plain(plan), {
      kernel: {
        ...NO_KERNEL_STATE,
        links: [{
          kind: "ipip",
          name: "selvage.ipip",
          mtu_bytes: 1480,
          outerLinkIndex: 2,
          local: "192.0.2.1",
        }],
        addresses: [{ linkName: "selvage.ipip", address: "10.210.5.0", prefixLength: 32 }],
        routes: [
          via("10.210.7.0/24", "192.0.2.7", "10.210.7.0-24", "selvage.ipip"),
          via("10.210.8.0/24", "192.0.2.208", "10.210.8.0-24", "selvage.ipip"),
        ],
      },
      served: [
        { key: "10.210.7.0-24", subnet: "10.210.7.0/24", address: "192.0.2.7" },
        { key: "10.210.8.0-24", subnet: "10.210.8.0/24", address: "192.0.2.208" },
      ],
      forwarding: [],
      skipped: [],
    });
  });

  test("DirectRouting: who is on the link needs no tunnel", () => {
    const direct = configOf({ Type: "ipip", DirectRouting: true });
    assert.deepEqual(plain(ipipBackend.plan(inputOf(direct, [far, near])).kernel.routes), [
      NEAR_ROUTE,
      via("10.210.8.0/24", "192.0.2.208", "10.210.8.0-24", "selvage.ipip"),
    ]);
  });

  testBadPeers(ipipBackend, "ipip");

  test("what it cannot do is refused", () => {
    ipipBackend.check(config, LINK);
    ipipBackend.check(config, null);
    for (const network of [DUAL, { ...DUAL, EnableIPv4: false }]) {
      assert.throws(
        () => ipipBackend.check(configOf({ Type: "ipip" }, network), null),
        /carries only IPv4/,
      );
    }
    assert.throws(
      () => ipipBackend.check(configOf({ Type: "ipip", DirectRouting: "yes" }), null),
      /DirectRouting "yes" is neither true nor false/,
    );
    assert.throws(() => ipipBackend.check(config, { ...LINK, addresses: [] }), /no IPv4 address/);
    assert.throws(() => ipipBackend.check(config, { ...LINK, mtu_bytes: 87 }), /leaves no room/);
    assert.equal(ipipBackend.mtu_bytes(config, { ...LINK, mtu_bytes: 88 }), 68);
  });

  test("what it publishes", () => {
    assert.deepEqual(plain(ipipBackend.attributes(config, LINK, MACS)), {
      publicAddresses: ["192.0.2.1"],
      backendType: "ipip",
      backendData: {},
    });
    assert.deepEqual(ipipBackend.tunnels(config, LINK, MACS), []);
  });
});

describe("alloc", () => {
  test("takes a lease and does nothing else, whoever the peers are", () => {
    const config = configOf({ Type: "alloc" }, DUAL);
    const { near, both } = host("alloc");
    allocBackend.check(config, null);
    allocBackend.check(config, { ...LINK, addresses: [] });
    assert.deepEqual(allocBackend.plan(inputOf(config, [near, both])), {
      kernel: NO_KERNEL_STATE,
      served: [],
      forwarding: [],
      skipped: [],
    });
    assert.deepEqual(allocBackend.tunnels(config, LINK, MACS), []);
    assert.equal(allocBackend.mtu_bytes(config, LINK), 1500);
    assert.deepEqual(plain(allocBackend.attributes(config, LINK, MACS)), {
      publicAddresses: ["192.0.2.1", "2001:db8::1"],
      backendType: "alloc",
      backendData: {},
    });
  });

  test("each is found by its type", () => {
    const find = (Type: string) => selectBackend(configOf({ Type }), ANY_HOST);
    assert.deepEqual([find("host-gw"), find("ipip"), find("alloc")], [
      hostGwBackend,
      ipipBackend,
      allocBackend,
    ]);
  });
});
