import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  diffNexthops,
  hasManyGateways,
  OBJECTS_FROM_COUNT,
} from "../../src/kernel/nexthop_diff.ts";
import type { DesiredRoute } from "../../src/kernel/state.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import type { NexthopObject } from "../../src/netlink/nexthop.ts";
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
  { desired = [ROUTE], isNamed = false, isForNew = true, isPartial = false } = {},
) {
  const result = diffNexthops(desired, actual, new Map([["eth0", ETH]]), {
    named: new Set(isNamed ? [ID] : []),
    isForNew,
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

  test("others' objects stay, and so do their numbers, unless a route of ours names it", () => {
    const foreign = { ...OBJECT, protocol: 4 };
    assert.deepEqual(diff([foreign, { ...foreign, id: 9 }]), { words: [], id: null });
    assert.deepEqual(diff([foreign], { isNamed: true }), { words: ["put 10.1.0.7"], id: ID });
  });

  test("where there are few, those that are in use stay and no more are made", () => {
    assert.deepEqual(diff([], { isForNew: false }), { words: [], id: null });
    assert.deepEqual(diff([OBJECT], { isForNew: false, isNamed: true }), { words: [], id: ID });
    const unused = { words: [`delete ${ID}`], id: null };
    assert.deepEqual(diff([OBJECT], { isForNew: false }), unused);
    const foreign = { ...OBJECT, protocol: 4 };
    assert.deepEqual(diff([foreign], { isForNew: false }), { words: [], id: null });
    const routes = Array.from(
      { length: OBJECTS_FROM_COUNT },
      (_, i) => route("10.5.7.0/24", `${GATEWAY.add(BigInt(i))}`),
    );
    assert.equal(hasManyGateways(routes), true);
    assert.equal(hasManyGateways(routes.slice(1)), false);
  });

  test("a way by another link, or on the link, to the same gateway does without", () => {
    const others = [{ ...ROUTE, linkName: "eth1" }, { ...ROUTE, isOnLink: true }];
    const links = new Map([["eth0", ETH], ["eth1", linkOf({ index: 3, name: "eth1" })]]);
    const { operations, stale, idOf } = diffNexthops([ROUTE, ...others], [OBJECT], links, {
      named: new Set(),
      isForNew: true,
      isPartial: false,
    });
    assert.deepEqual([...operations, ...stale], []);
    assert.deepEqual([ROUTE, ...others].map(idOf), [ID, null, null]);
  });

  test("a kernel without objects gets routes with gateways", () => {
    assert.deepEqual(diff(null), { words: [], id: null });
  });
});
