/** Routes by nexthop objects, against the real kernel and a foreign hand (iproute2). */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { OBJECTS_FROM_COUNT } from "../../src/kernel/nexthop_diff.ts";
import { Reconciler } from "../../src/kernel/reconciler.ts";
import { type DesiredRoute, type KernelState, NO_KERNEL_STATE } from "../../src/kernel/state.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { createVeth } from "../../src/netlink/rtnetlink.ts";
import { type TestNamespace, withNamespaces } from "../netlink/namespace.ts";

const COUNT = OBJECTS_FROM_COUNT;
const NOTHING_DONE = { changeCount: 0, problems: [], peerProblems: new Map() };
const FIRST_SUBNET = IpAddress.parse("10.64.0.0");
const FIRST_GATEWAY = IpAddress.parse("100.64.1.0");

function routeOf(number: number, changes: Partial<DesiredRoute> = {}): DesiredRoute {
  return {
    destination: IpPrefix.of(FIRST_SUBNET.add(BigInt(number) << 8n), 24),
    linkName: "eth0",
    gateway: FIRST_GATEWAY.add(BigInt(number)),
    isOnLink: false,
    peerKey: `peer ${number}`,
    ...changes,
  };
}

function stateOf(count: number): KernelState {
  return { ...NO_KERNEL_STATE, routes: Array.from({ length: count }, (_, i) => routeOf(i)) };
}

const MANY = stateOf(COUNT);

interface ShownRoute {
  readonly dst: string;
  readonly gateway?: string;
  readonly nhid?: number;
}

/** Our routes and our objects, as iproute2 shows them. */
function shown({ ip }: TestNamespace) {
  const routes = ip("-j", "route", "show", "proto", "83") as ShownRoute[];
  const objects = ip("-j", "nexthop", "show", "proto", "83") as { id: number; gateway: string }[];
  return {
    ways: routes.map(({ dst, gateway }) => `${dst} ${gateway}`).sort(),
    byObjectCount: routes.filter(({ nhid }) => nhid !== undefined).length,
    objectCount: objects.length,
  };
}

function waysOf({ routes }: KernelState): string[] {
  return routes.map(({ destination, gateway }) => `${destination} ${gateway}`).sort();
}

/** Runs `body` in a namespace with eth0, 100.64.0.1/16, whose far end is there too. */
function withOuterLink(body: (namespace: TestNamespace, reconciler: Reconciler) => void): void {
  withNamespaces(1, (namespace) => {
    createVeth(namespace.connection, { name: "eth0", peer: { name: "far0" } });
    for (const name of ["lo", "far0", "eth0"]) namespace.ip("link", "set", name, "up");
    namespace.ip("addr", "add", "100.64.0.1/16", "dev", "eth0");
    body(namespace, new Reconciler(namespace.connection));
  });
}

describe("nexthop objects in a fresh namespace", () => {
  test("many routes go by objects, also after a restart, and nothing of it stays", () => {
    withOuterLink((namespace, reconciler) => {
      const result = reconciler.reconcile(MANY);
      assert.deepEqual(result, { ...NOTHING_DONE, changeCount: 2 * COUNT });
      const expected = { ways: waysOf(MANY), byObjectCount: COUNT, objectCount: COUNT };
      assert.deepEqual(shown(namespace), expected);
      const restarted = new Reconciler(namespace.connection);
      assert.deepEqual(restarted.reconcile(MANY), NOTHING_DONE);
      assert.deepEqual(restarted.clear().problems, []);
      assert.deepEqual(shown(namespace), { ways: [], byObjectCount: 0, objectCount: 0 });
    });
  });

  test("few name their gateways, and what is right is never made anew", () => {
    withOuterLink((namespace, reconciler) => {
      const few = stateOf(COUNT - 1);
      reconciler.reconcile(few);
      const plain = { ways: waysOf(few), byObjectCount: 0, objectCount: 0 };
      assert.deepEqual(shown(namespace), plain);
      // All objects, and the one route that goes by its.
      assert.deepEqual(reconciler.reconcile(MANY), { ...NOTHING_DONE, changeCount: COUNT + 1 });
      const mixed = { ways: waysOf(MANY), byObjectCount: 1, objectCount: COUNT };
      assert.deepEqual(shown(namespace), mixed);
      reconciler.clear();
      reconciler.reconcile(MANY);
      // The route that goes, and its object.
      assert.deepEqual(reconciler.reconcile(few), { ...NOTHING_DONE, changeCount: 2 });
      assert.equal(shown(namespace).byObjectCount, COUNT - 1);
    });
  });

  test("repairs whatever a foreign hand does to them", () => {
    withOuterLink((namespace, reconciler) => {
      reconciler.reconcile(MANY);
      const id = `${MANY.routes[0]!.gateway!.toUint32()}`;
      const { destination } = MANY.routes[0]!;
      const hands = [
        `nexthop del id ${id}`,
        `nexthop replace id ${id} via 100.64.9.9 dev eth0 proto 83`,
        `nexthop replace id ${id} via ${FIRST_GATEWAY} dev eth0 onlink proto 83`,
        `nexthop replace id ${id} via 100.64.9.9 dev eth0`,
        `nexthop add id 7 via 100.64.9.9 dev eth0 proto 83`,
        `route del ${destination}`,
        `route replace ${destination} via 100.64.9.9 dev eth0 proto 83`,
        "nexthop flush proto 83",
        "nexthop flush",
        "link set eth0 down",
      ];
      for (const hand of hands) {
        namespace.ip(...hand.split(" "));
        if (hand === "link set eth0 down") namespace.ip("link", "set", "eth0", "up");
        assert.deepEqual(reconciler.reconcile(MANY).problems, [], hand);
        const expected = { ways: waysOf(MANY), byObjectCount: COUNT, objectCount: COUNT };
        assert.deepEqual(shown(namespace), expected, hand);
        assert.deepEqual(reconciler.reconcile(MANY), NOTHING_DONE, hand);
      }
    });
  });

  test("others' objects stay as they are; a number that is theirs is done without", () => {
    withOuterLink((namespace, reconciler) => {
      const id = `${MANY.routes[0]!.gateway!.toUint32()}`;
      namespace.ip("nexthop", "add", "id", id, "via", "100.64.9.9", "dev", "eth0");
      namespace.ip("nexthop", "add", "id", "9", "blackhole");
      namespace.ip("nexthop", "add", "id", "10", "group", id);
      const foreign = () => {
        const all = namespace.ip("-j", "nexthop", "show") as { protocol?: string }[];
        return all.filter(({ protocol }) => protocol !== "83");
      };
      const before = foreign();
      assert.equal(before.length, 3);
      assert.deepEqual(reconciler.reconcile(MANY).problems, []);
      assert.deepEqual(shown(namespace), {
        ways: waysOf(MANY),
        byObjectCount: COUNT - 1,
        objectCount: COUNT - 1,
      });
      assert.deepEqual(reconciler.reconcile(MANY), NOTHING_DONE);
      reconciler.clear();
      assert.deepEqual(foreign(), before);
      // One of ours that another makes its own.
      namespace.ip("nexthop", "del", "id", id);
      reconciler.reconcile(MANY);
      namespace.ip("nexthop", "replace", "id", id, "via", "100.64.9.9", "dev", "eth0");
      assert.deepEqual(reconciler.reconcile(MANY).problems, []);
      assert.deepEqual(shown(namespace).ways, waysOf(MANY));
    });
  });

  test("few stay when the carrier is lost, and many are there again when it is back", () => {
    withOuterLink((namespace, reconciler) => {
      const flap = () => {
        for (const state of ["down", "up"]) namespace.ip("link", "set", "far0", state);
      };
      const few = stateOf(3);
      reconciler.reconcile(few);
      flap();
      assert.deepEqual(reconciler.reconcile(few), NOTHING_DONE);
      reconciler.reconcile(MANY);
      flap();
      assert.deepEqual(reconciler.reconcile(MANY).problems, []);
      assert.deepEqual(shown(namespace).ways, waysOf(MANY));
    });
  });

  test("a gateway that cannot be reached leaves its peer alone out", () => {
    withOuterLink((namespace, reconciler) => {
      const gateway = IpAddress.parse("203.0.113.1");
      const lost = routeOf(COUNT, { gateway, peerKey: "the lost one" });
      const state = { ...MANY, routes: [...MANY.routes, lost] };
      const { problems, peerProblems } = reconciler.reconcile(state);
      assert.deepEqual(problems, []);
      assert.deepEqual([...peerProblems.keys()], ["the lost one"]);
      assert.match(peerProblems.get("the lost one")!, /^add nexthop via 203\.0\.113\.1 dev eth0: /);
      assert.deepEqual(shown(namespace).ways, waysOf(MANY));
    });
  });

  test("two subnets behind one gateway share its object", () => {
    withOuterLink((namespace, reconciler) => {
      const gateway = MANY.routes[0]!.gateway;
      const state = { ...MANY, routes: [...MANY.routes, routeOf(COUNT, { gateway })] };
      assert.deepEqual(reconciler.reconcile(state).problems, []);
      assert.deepEqual(shown(namespace), {
        ways: waysOf(state),
        byObjectCount: COUNT + 1,
        objectCount: COUNT,
      });
      assert.deepEqual(reconciler.reconcile(MANY), { ...NOTHING_DONE, changeCount: 1 });
      assert.deepEqual(shown(namespace).ways, waysOf(MANY));
    });
  });

  test("before all peers are known nothing is removed", () => {
    withOuterLink((namespace, reconciler) => {
      reconciler.reconcile(MANY);
      const restarted = new Reconciler(namespace.connection);
      assert.deepEqual(restarted.reconcile(stateOf(1), true), NOTHING_DONE);
      assert.deepEqual(shown(namespace).ways, waysOf(MANY));
      assert.deepEqual(restarted.reconcile(stateOf(1)).problems, []);
      assert.deepEqual(shown(namespace), {
        ways: waysOf(stateOf(1)),
        byObjectCount: 1,
        objectCount: 1,
      });
    });
  });
});
