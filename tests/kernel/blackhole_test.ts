/** Routes that drop: what is to be done about them, and that the kernel takes it. */
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { BLACKHOLE_METRIC, diffRoutes } from "../../src/kernel/route_diff.ts";
import { Reconciler } from "../../src/kernel/reconciler.ts";
import { type DesiredBlackhole, NO_KERNEL_STATE, RTPROT_SELVAGE } from "../../src/kernel/state.ts";
import { IpPrefix } from "../../src/net/ip.ts";
import {
  type Route,
  RTN_BLACKHOLE,
  RTN_UNICAST,
  RTN_UNREACHABLE,
} from "../../src/netlink/route.ts";
import { type TestNamespace, withNamespaces } from "../netlink/namespace.ts";

const hole = (text: string, isAnswered = false): DesiredBlackhole => ({
  destination: IpPrefix.parse(text),
  isAnswered,
});

function route(text: string, rest: Partial<Route> = {}): Route {
  return {
    destination: IpPrefix.parse(text),
    table: 254,
    protocol: RTPROT_SELVAGE,
    scope: 0,
    type: RTN_BLACKHOLE,
    tos: 0,
    isBySource: false,
    metric: BLACKHOLE_METRIC,
    preferredSource: null,
    nextHops: [],
    nexthopId: null,
    isCloned: false,
    ...rest,
  };
}

function diff(blackholes: readonly DesiredBlackhole[], actual: readonly Route[]) {
  const { operations, problems } = diffRoutes([], actual, new Map(), {
    blackholes,
    linkNames: new Map(),
    held: new Set(),
    nexthopIdOf: () => null,
    isPartial: false,
  });
  return { types: operations.map(({ type }) => type), problems };
}

describe("the difference", () => {
  const wanted = [hole("10.5.1.0/24"), hole("fd00:1::/64")];
  test("added once", () => {
    assert.deepEqual(diff(wanted, []).types, ["add_blackhole", "add_blackhole"]);
    const there = [route("10.5.1.0/24"), route("fd00:1::/64")];
    assert.deepEqual(diff(wanted, there), { types: [], problems: [] });
  });
  test("one that is to tell the sender takes the place of one that is silent", () => {
    const types = ["delete_route", "add_blackhole"];
    assert.deepEqual(diff([hole("10.5.1.0/24", true)], [route("10.5.1.0/24")]).types, types);
    const there = [route("10.5.1.0/24", { type: RTN_UNREACHABLE })];
    assert.deepEqual(diff([hole("10.5.1.0/24", true)], there).types, []);
  });
  test("removed when it is not wanted any more", () => {
    assert.deepEqual(diff([], [route("10.5.1.0/24")]).types, ["delete_route"]);
  });
  test("the bridge's own route for the same subnet is not in its way", () => {
    const bridge = route("10.5.1.0/24", { protocol: 2, metric: 0, type: RTN_UNICAST });
    assert.deepEqual(diff([wanted[0]!], [bridge]).types, ["add_blackhole"]);
  });
  test("one of ours that leads somewhere is replaced; another's is left, and named", () => {
    const own = route("10.5.1.0/24", { type: RTN_UNICAST });
    assert.deepEqual(diff([wanted[0]!], [own]).types, ["delete_route", "add_blackhole"]);
    const foreign = route("10.5.1.0/24", { protocol: 4 });
    const { types, problems } = diff([wanted[0]!], [foreign]);
    assert.deepEqual([types, problems.length], [[], 1]);
    assert.match(problems[0]!.text, /route 10\.5\.1\.0\/24 metric \d+ that is not ours/);
  });
});

describe("the kernel", () => {
  const state = { ...NO_KERNEL_STATE, blackholes: [hole("10.5.1.0/24"), hole("fd00:1::/64")] };

  /** Ours, as iproute2 prints them. */
  function routes({ ip }: TestNamespace): string[] {
    return ["-4", "-6"].flatMap((family) =>
      (ip("-j", family, "route", "show", "proto", "83") as { type?: string; dst: string }[])
        .map(({ type, dst }) => `${type} ${dst}`)
    );
  }

  test("takes them, keeps them, puts them back, and gives them up", () =>
    withNamespaces(1, (namespace) => {
      const { connection, ip } = namespace;
      ip("link", "set", "lo", "up");
      const reconciler = new Reconciler(connection);
      const expected = ["blackhole 10.5.1.0/24", "blackhole fd00:1::/64"];
      assert.deepEqual(reconciler.reconcile(state).problems, []);
      assert.deepEqual(routes(namespace), expected);
      assert.equal(reconciler.reconcile(state).changeCount, 0);
      ip("route", "del", "blackhole", "10.5.1.0/24");
      assert.equal(reconciler.reconcile(state).changeCount, 1);
      assert.deepEqual(routes(namespace), expected);
      assert.deepEqual(reconciler.clear().problems, []);
      assert.deepEqual(routes(namespace), []);
    }));

  test("a container bridge with the same subnet goes first, whichever came first", () =>
    withNamespaces(1, (namespace) => {
      const { connection, ip } = namespace;
      const reconciler = new Reconciler(connection);
      reconciler.reconcile(state);
      ip("link", "add", "br0", "type", "bridge");
      ip("link", "set", "br0", "up");
      ip("addr", "add", "10.5.1.1/24", "dev", "br0");
      const [way] = ip("-j", "route", "get", "10.5.1.9") as { dev: string }[];
      assert.equal(way!.dev, "br0");
      assert.equal(reconciler.reconcile(state).changeCount, 0);
    }));
});
