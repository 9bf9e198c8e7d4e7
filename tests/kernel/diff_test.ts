import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { ActualState } from "../../src/kernel/actual.ts";
import { type DiffContext, diffKernelState } from "../../src/kernel/diff.ts";
import type { KernelOperation } from "../../src/kernel/operation.ts";
import { type KernelState, NO_KERNEL_STATE, RTPROT_SELVAGE } from "../../src/kernel/state.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import type { InterfaceAddress } from "../../src/netlink/address.ts";
import type { Route } from "../../src/netlink/route.ts";
import { linkOf } from "./fake_kernel.ts";

const TUN = linkOf({ index: 7, name: "selvage0", kind: "tun", mtu_bytes: 1472, isUp: true });
const ETH = linkOf({ index: 2, name: "eth0", isUp: true });

/** flannel's udp plan. */
const DESIRED: KernelState = {
  ...NO_KERNEL_STATE,
  links: [{ name: "selvage0", kind: "tun", family: 4, mtu_bytes: 1472 }],
  addresses: [{ linkName: "selvage0", address: IpAddress.parse("10.5.1.0"), prefixLength: 32 }],
  routes: [{
    destination: IpPrefix.parse("10.5.0.0/16"),
    linkName: "selvage0",
    gateway: null,
    isOnLink: false,
    peerKey: null,
  }],
};

function address(text: string, linkIndex = 7): InterfaceAddress {
  const [ip, length] = text.split("/");
  return {
    linkIndex,
    address: IpAddress.parse(ip!),
    prefixLength: Number(length),
    peer: null,
    scope: 0,
    flags: 0x80,
  };
}

function route(destination: string, changes: Partial<Route> = {}): Route {
  return {
    destination: IpPrefix.parse(destination),
    table: 254,
    protocol: RTPROT_SELVAGE,
    scope: 253,
    type: 1,
    tos: 0,
    isBySource: false,
    metric: 0,
    preferredSource: null,
    nextHops: [{ linkIndex: 7, gateway: null, isOnLink: false }],
    nexthopId: null,
    isCloned: false,
    ...changes,
  };
}

const AS_DESIRED: ActualState = {
  nexthops: null,
  neighbours: new Map(),
  fdb: new Map(),
  links: [ETH, TUN],
  addresses: [address("10.0.0.1/24", 2), address("10.5.1.0/32"), address("fe80::1/64")],
  routes: [route("10.5.0.0/16")],
};

const FOR_ALL = { isOnLink: false, peerKey: null };

/** Each operation in a few words. */
function words(operation: KernelOperation): string {
  switch (operation.type) {
    case "set_link": {
      const { mtu_bytes, isUp } = operation.change;
      return `set ${operation.link.name} ${mtu_bytes ?? ""} ${isUp ?? ""}`;
    }
    case "add_address":
      return `add ${operation.desired.address}/${operation.desired.prefixLength}`;
    case "delete_address":
      return `delete ${operation.address.address}/${operation.address.prefixLength}`;
    case "add_route":
    case "replace_route":
    case "delete_route":
      return `${operation.type.replace("_route", "")} ${operation.route.destination}`;
    default:
      return operation.type;
  }
}

const FIRST: DiffContext = {
  formerLinkNames: new Set(),
  linkIndexes: new Map(),
  heldRoutes: new Set(),
  isPartial: false,
};

function diff(
  actual: Partial<ActualState>,
  desired = DESIRED,
  context: Partial<DiffContext> = {},
) {
  const result = diffKernelState(desired, { ...AS_DESIRED, ...actual }, { ...FIRST, ...context });
  return {
    operations: result.operations.map(words),
    problems: result.problems.map(({ text }) => text),
  };
}

describe("the difference of kernel states", () => {
  test("is nothing when all is as desired, whatever else the host has", () => {
    const foreign = [
      route("0.0.0.0/0", { protocol: 3, nextHops: [] }),
      route("10.5.1.0/24", { protocol: 2 }),
      route("10.5.0.0/16", { protocol: 4, metric: 100 }),
      route("10.5.0.0/16", { protocol: 4, tos: 8 }),
      route("fd00::/64", { protocol: 2, isBySource: true }),
    ];
    const nothing = { operations: [], problems: [] };
    assert.deepEqual(diff({ routes: [...AS_DESIRED.routes, ...foreign] }), nothing);
  });

  test("is everything, in order, on a new device", () => {
    const tun = linkOf({ index: 7, name: "selvage0", kind: "tun" });
    assert.deepEqual(diff({ links: [ETH, tun], addresses: [], routes: [] }), {
      operations: ["set selvage0 1472 true", "add 10.5.1.0/32", "add 10.5.0.0/16"],
      problems: [],
    });
  });

  test("sets only what differs of a link", () => {
    const low = linkOf({ index: 7, name: "selvage0", kind: "tun", mtu_bytes: 1400, isUp: true });
    const down = linkOf({ index: 7, name: "selvage0", kind: "tun", mtu_bytes: 1472 });
    assert.deepEqual(diff({ links: [low] }).operations, ["set selvage0 1472 "]);
    assert.deepEqual(diff({ links: [down] }).operations, ["set selvage0  true"]);
  });

  test("takes others' addresses off our link, and no other link's", () => {
    const addresses = [
      address("10.5.1.0/24"),
      address("192.0.2.1/24"),
      address("fd00::1/64"),
      address("fe80::1/64"),
      address("169.254.0.1/16"),
      address("192.0.2.9/24", 2),
    ];
    assert.deepEqual(diff({ addresses }).operations, [
      "delete 10.5.1.0/24",
      "delete 192.0.2.1/24",
      "delete fd00::1/64",
      "delete 169.254.0.1/16",
      "add 10.5.1.0/32",
    ]);
    const withPeer = { ...address("10.5.1.0/32"), peer: IpAddress.parse("10.5.1.9") };
    assert.deepEqual(diff({ addresses: [withPeer] }).operations, [
      "delete 10.5.1.0/32",
      "add 10.5.1.0/32",
    ]);
  });

  test("deletes our stale routes and nobody else's", () => {
    const routes = [
      ...AS_DESIRED.routes,
      route("10.6.0.0/16"),
      route("10.5.0.0/16", { metric: 5 }),
      route("10.7.0.0/16", { protocol: 4 }),
      route("fd00::/64", { metric: 1024 }),
    ];
    assert.deepEqual(diff({ routes }).operations, [
      "delete 10.6.0.0/16",
      "delete 10.5.0.0/16",
      "delete fd00::/64",
    ]);
  });

  test("replaces a route of ours that goes another way", () => {
    const ways: Partial<Route>[] = [
      { nextHops: [{ linkIndex: 2, gateway: null, isOnLink: false }] },
      { nextHops: [{ linkIndex: 7, gateway: IpAddress.parse("10.5.0.1"), isOnLink: false }] },
      { nextHops: [] },
      { type: 6, nextHops: [] },
    ];
    for (const way of ways) {
      const { operations } = diff({ routes: [route("10.5.0.0/16", way)] });
      assert.deepEqual(operations, ["replace 10.5.0.0/16"]);
    }
  });

  test("compares gateways", () => {
    const gateway = IpAddress.parse("10.0.0.2");
    const desired = {
      ...DESIRED,
      routes: [{
        destination: IpPrefix.parse("10.5.0.0/16"),
        linkName: "eth0",
        gateway,
        ...FOR_ALL,
      }],
    };
    const hop = { linkIndex: 2, gateway, isOnLink: false };
    const right = route("10.5.0.0/16", { nextHops: [hop] });
    assert.deepEqual(diff({ routes: [right] }, desired).operations, []);
    const wrong = route("10.5.0.0/16", { nextHops: [{ ...hop, gateway: gateway.add(1n) }] });
    assert.deepEqual(diff({ routes: [wrong] }, desired).operations, ["replace 10.5.0.0/16"]);
  });

  test("a foreign route in the way is a problem by name, and is left alone", () => {
    const nextHops = [{ linkIndex: 2, gateway: null, isOnLink: false }];
    const foreign = route("10.5.0.0/16", { protocol: 4, nextHops });
    const { operations, problems } = diff({ routes: [foreign] });
    assert.deepEqual(operations, []);
    assert.match(problems.join(), /^route 10.5.0.0\/16 dev eth0 proto static is not ours/);
    const right = route("10.5.0.0/16", { protocol: 4 });
    assert.deepEqual(diff({ routes: [right] }).problems, []);
  });

  test("with a foreign one beside it, a wrong one of ours goes: nothing is replaced blind", () => {
    const foreign = route("10.5.0.0/16", { protocol: 4 });
    const wrong = route("10.5.0.0/16", { nextHops: [] });
    assert.deepEqual(diff({ routes: [foreign, wrong] }).operations, ["delete 10.5.0.0/16"]);
    assert.deepEqual(diff({ routes: [wrong, wrong] }).operations, [
      "delete 10.5.0.0/16",
      "delete 10.5.0.0/16",
      "add 10.5.0.0/16",
    ]);
  });

  test("a missing or foreign device is one problem; the rest goes on", () => {
    const missing = diff({ links: [ETH] });
    assert.deepEqual(missing.problems, ["tun device selvage0 is missing"]);
    const foreign = diff({ links: [linkOf({ index: 7, name: "selvage0", kind: "dummy" })] });
    assert.deepEqual(foreign.problems, [
      "device selvage0 is not ours: it is dummy, not tun; remove or rename it",
    ]);
    const desired = {
      ...DESIRED,
      routes: [
        ...DESIRED.routes,
        { destination: IpPrefix.parse("10.6.0.0/16"), linkName: "eth9", gateway: null, ...FOR_ALL },
      ],
    };
    const elsewhere = diff({ routes: [] }, desired);
    assert.deepEqual(elsewhere.operations, ["add 10.5.0.0/16"]);
    assert.deepEqual(elsewhere.problems, ["device eth9 is missing"]);
  });

  test("of a former link of ours the addresses go too, unless it is someone else's by now", () => {
    const nothing = NO_KERNEL_STATE;
    const former = { formerLinkNames: new Set(["selvage0"]) };
    assert.deepEqual(diff({}, nothing, former).operations, [
      "delete 10.5.1.0/32",
      "delete 10.5.0.0/16",
    ]);
    assert.deepEqual(diff({}, nothing).operations, ["delete 10.5.0.0/16"]);
    const other = linkOf({ index: 7, name: "selvage0", kind: "bridge" });
    assert.deepEqual(diff({ links: [other] }, nothing, former).operations, [
      "delete 10.5.0.0/16",
    ]);
  });

  test("never names an address or a route that is not ours, whatever the host has", () => {
    const routes = fc.array(fc.record({
      destination: fc.constantFrom("10.5.0.0/16", "10.6.0.0/16", "0.0.0.0/0", "fd00::/64"),
      protocol: fc.constantFrom(2, 4, RTPROT_SELVAGE),
      metric: fc.constantFrom(0, 100, 1024),
      linkIndex: fc.constantFrom(2, 7),
    }));
    const addresses = fc.array(fc.record({
      text: fc.constantFrom("10.5.1.0/32", "10.0.0.1/24", "fe80::1/64", "fd00::1/64"),
      linkIndex: fc.constantFrom(2, 7),
    }));
    fc.assert(
      fc.property(routes, addresses, (routes, addresses) => {
        const { operations } = diffKernelState(DESIRED, {
          ...AS_DESIRED,
          addresses: addresses.map(({ text, linkIndex }) => address(text, linkIndex)),
          routes: routes.map(({ destination, linkIndex, ...rest }) =>
            route(destination, {
              ...rest,
              nextHops: [{ linkIndex, gateway: null, isOnLink: false }],
            })
          ),
        }, FIRST);
        for (const operation of operations) {
          if (operation.type === "delete_address") assert.equal(operation.link.name, "selvage0");
          if (operation.type === "delete_route") assert.equal(operation.route.protocol, 83);
          if (operation.type !== "replace_route" && operation.type !== "add_route") continue;
          const rivals = routes.filter(({ destination, metric, protocol }) =>
            destination === "10.5.0.0/16" && metric === 0 && protocol !== RTPROT_SELVAGE
          );
          assert.deepEqual(rivals, []);
        }
      }),
      { seed: 83, numRuns: 500 },
    );
  });
});
