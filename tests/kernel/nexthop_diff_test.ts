/** Routes by nexthop objects: the difference, and the real kernel with a foreign hand. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { diffNexthops } from "../../src/kernel/nexthop_diff.ts";
import { Reconciler } from "../../src/kernel/reconciler.ts";
import { type DesiredRoute, type KernelState, NO_KERNEL_STATE } from "../../src/kernel/state.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import type { NexthopObject } from "../../src/netlink/nexthop.ts";
import { createBridge } from "../../src/netlink/rtnetlink.ts";
import { type TestNamespace, withNamespaces } from "../netlink/namespace.ts";
import { linkOf } from "./fake_kernel.ts";

const ETH = linkOf({ index: 2, name: "eth0", isUp: true });
const GATEWAY = IpAddress.parse("10.1.0.7");
const ID = 0x0a010007;

function route(subnet: string, gateway: string, peerKey = subnet): DesiredRoute {
  return {
    destination: IpPrefix.parse(subnet),
    linkName: "eth0",
    gateway: IpAddress.parse(gateway),
    isOnLink: false,
    peerKey,
  };
}

const ROUTE = route("10.5.7.0/24", "10.1.0.7");
const OBJECT: NexthopObject = {
  id: ID,
  protocol: 83,
  linkIndex: 2,
  gateway: GATEWAY,
  isOnLink: false,
};

function diff(
  actual: readonly NexthopObject[] | null,
  { desired = [ROUTE], isHeld = false, isPartial = false } = {},
) {
  const result = diffNexthops(desired, actual, new Map([["eth0", ETH]]), {
    isHeld: () => isHeld,
    isPartial,
  });
  const words = [...result.operations, ...result.stale].map((operation) => {
    if (operation.type === "put_nexthop") return `put ${operation.nexthop.gateway}`;
    return operation.type === "delete_nexthop" ? `delete ${operation.id}` : operation.type;
  });
  return { words, id: result.idOf(ROUTE) };
}

describe("the difference of nexthop objects", () => {
  test("one for each gateway, numbered by its address; none for IPv6", () => {
    assert.deepEqual(diff([]), { words: ["put 10.1.0.7"], id: ID });
    const twice = [ROUTE, route("10.5.8.0/24", "10.1.0.7"), route("fc00:1::/64", "fd00::7")];
    assert.deepEqual(diff([], { desired: twice }).words, ["put 10.1.0.7"]);
    assert.deepEqual(diff([OBJECT]), { words: [], id: ID });
  });

  test("what differs is put right, what nobody needs goes, unless peers may be missing", () => {
    const wrong: Partial<NexthopObject>[] = [
      { linkIndex: 3 },
      { gateway: GATEWAY.add(1n) },
      { isOnLink: true },
    ];
    for (const change of wrong) {
      assert.deepEqual(diff([{ ...OBJECT, ...change }]).words, ["put 10.1.0.7"]);
    }
    const stale = { ...OBJECT, id: 9 };
    assert.deepEqual(diff([OBJECT, stale]).words, ["delete 9"]);
    assert.deepEqual(diff([OBJECT, stale], { isPartial: true }).words, []);
  });

  test("others' objects stay, and so do their numbers, unless one of ours had it", () => {
    const foreign = { ...OBJECT, protocol: 4 };
    assert.deepEqual(diff([foreign, { ...foreign, id: 9 }]), { words: [], id: null });
    assert.deepEqual(diff([foreign], { isHeld: true }), { words: ["put 10.1.0.7"], id: ID });
  });

  test("a kernel without objects gets routes with gateways", () => {
    assert.deepEqual(diff(null), { words: [], id: null });
  });
});

const DESIRED: KernelState = {
  ...NO_KERNEL_STATE,
  routes: ["10.5.7.0/24", "10.5.8.0/24"].map((subnet, i) => ({
    ...route(subnet, `10.1.0.${7 + i}`),
    linkName: "br0",
  })),
};

function withBridge(body: (namespace: TestNamespace, reconciler: Reconciler) => void): void {
  withNamespaces(1, (namespace) => {
    createBridge(namespace.connection, { name: "br0" });
    namespace.ip("link", "set", "br0", "up");
    namespace.ip("addr", "add", "10.1.0.1/24", "dev", "br0");
    body(namespace, new Reconciler(namespace.connection));
  });
}

function routesOf({ ip }: TestNamespace): string[] {
  const routes = ip("-j", "route", "show", "proto", "83") as { dst: string; gateway: string }[];
  return routes.map(({ dst, gateway }) => `${dst} ${gateway}`);
}

const RIGHT = ["10.5.7.0/24 10.1.0.7", "10.5.8.0/24 10.1.0.8"];

describe("routes by nexthop objects in the kernel", () => {
  test("a foreign hand on the objects is repaired, and then there is nothing to do", () => {
    withBridge((namespace, reconciler) => {
      assert.equal(reconciler.reconcile(DESIRED).changeCount, 4);
      const hands = [
        `nexthop del id ${ID}`,
        `nexthop replace id ${ID} via 10.1.0.99 dev br0`,
        `nexthop replace id ${ID} via 10.1.0.99 dev br0 proto 83`,
        "nexthop add id 77 via 10.1.0.3 dev br0 proto 83",
        "nexthop flush",
        "route del 10.5.7.0/24",
        "route replace 10.5.7.0/24 via 10.1.0.9 dev br0",
        "link set br0 down",
      ];
      for (const hand of hands) {
        namespace.ip(...hand.split(" "));
        if (hand.endsWith("down")) namespace.ip("link", "set", "br0", "up");
        assert.deepEqual(reconciler.reconcile(DESIRED).problems, [], hand);
        assert.deepEqual(routesOf(namespace), RIGHT, hand);
        assert.equal(reconciler.reconcile(DESIRED).changeCount, 0, hand);
      }
    });
  });

  test("routes with gateways of their own, as an earlier version made them, stay", () => {
    withBridge((namespace, reconciler) => {
      namespace.ip(..."route add 10.5.7.0/24 via 10.1.0.7 proto 83".split(" "));
      const before = namespace.ip("-j", "route", "show", "10.5.7.0/24");
      assert.deepEqual(reconciler.reconcile(DESIRED).problems, []);
      assert.deepEqual(namespace.ip("-j", "route", "show", "10.5.7.0/24"), before);
      assert.deepEqual(routesOf(namespace), RIGHT);
    });
  });

  test("a gateway out of reach is one peer's problem, by name", () => {
    withBridge((namespace, reconciler) => {
      const far = { ...route("10.5.9.0/24", "192.0.2.1", "far"), linkName: "br0" };
      const state = { ...DESIRED, routes: [far, ...DESIRED.routes] };
      const { problems, peerProblems } = reconciler.reconcile(state);
      assert.deepEqual(problems, []);
      assert.deepEqual([...peerProblems.keys()], ["far"]);
      assert.match(peerProblems.get("far")!, /^add nexthop via 192\.0\.2\.1 dev br0: /);
      assert.deepEqual(routesOf(namespace), RIGHT);
    });
  });

  test("all of ours goes in the end, and nothing of others'", () => {
    withBridge((namespace, reconciler) => {
      namespace.ip(..."nexthop add id 5 via 10.1.0.5 dev br0".split(" "));
      reconciler.reconcile(DESIRED);
      reconciler.clear();
      const left = namespace.ip("-j", "nexthop", "show") as { id: number }[];
      assert.deepEqual(left.map(({ id }) => id), [5]);
      assert.deepEqual(routesOf(namespace), []);
    });
  });
});
