import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { KernelOperation } from "../../src/kernel/operation.ts";
import { diffRoutes } from "../../src/kernel/route_diff.ts";
import { type DesiredRoute, RTPROT_SELVAGE } from "../../src/kernel/state.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import type { Route } from "../../src/netlink/route.ts";
import { linkOf } from "./fake_kernel.ts";

const ETH = linkOf({ index: 2, name: "eth0", isUp: true });
const FOREIGN = 4;

const wanted = (subnet: string, gateway: string, peerKey = subnet): DesiredRoute => ({
  destination: IpPrefix.parse(subnet),
  linkName: "eth0",
  gateway: IpAddress.parse(gateway),
  isOnLink: false,
  peerKey,
});

const [A, B] = [wanted("10.5.1.0/24", "192.0.2.1"), wanted("10.5.2.0/24", "192.0.2.2")];

function route(destination: string, gateway: string, changes: Partial<Route> = {}): Route {
  return {
    destination: IpPrefix.parse(destination),
    table: 254,
    protocol: RTPROT_SELVAGE,
    scope: 0,
    type: 1,
    tos: 0,
    isBySource: false,
    metric: 0,
    preferredSource: null,
    nextHops: [{ linkIndex: 2, gateway: IpAddress.parse(gateway), isOnLink: false }],
    nexthopId: null,
    isCloned: false,
    ...changes,
  };
}

function words(operation: KernelOperation): string {
  if (!("route" in operation)) return operation.type;
  const { type, route } = operation;
  const protocol = route.protocol === RTPROT_SELVAGE ? "" : ` proto ${route.protocol}`;
  return `${type.replace("_route", "")} ${route.destination}${protocol}`;
}

function diff(
  actual: readonly Route[],
  { held = [] as DesiredRoute[], isPartial = false, desired = [A, B], id = null as number | null } =
    {},
) {
  const result = diffRoutes(desired, actual, new Map([["eth0", ETH]]), {
    blackholes: [],
    linkNames: new Map([[2, "eth0"]]),
    held: new Set(held.map(({ destination }) => `${destination} 0`)),
    nexthopIdOf: () => id,
    isPartial,
  });
  return {
    operations: result.operations.map(words),
    problems: result.problems,
    held: [...result.held],
  };
}

const THERE = [route("10.5.1.0/24", "192.0.2.1"), route("10.5.2.0/24", "192.0.2.2")];
const ALL_HELD = ["10.5.1.0/24 0", "10.5.2.0/24 0"];

describe("the difference of routes", () => {
  test("a place is held once ours stands in it as desired", () => {
    assert.deepEqual(diff(THERE), { operations: [], problems: [], held: ALL_HELD });
    const one = diff(THERE.slice(1));
    assert.deepEqual([one.operations, one.held], [["add 10.5.1.0/24"], [ALL_HELD[1]]]);
    const wrong = diff([route("10.5.1.0/24", "192.0.2.99"), THERE[1]!]);
    assert.deepEqual([wrong.operations, wrong.held], [["replace 10.5.1.0/24"], [ALL_HELD[1]]]);
  });

  test("a foreign route in a place that we never held is its peer's problem alone", () => {
    const foreign = route("10.5.1.0/24", "192.0.2.99", { protocol: FOREIGN });
    const { operations, problems, held } = diff([foreign]);
    assert.deepEqual([operations, held], [["add 10.5.2.0/24"], []]);
    assert.equal(problems.length, 1);
    assert.equal(problems[0]!.peerKey, A.peerKey);
    assert.match(problems[0]!.text, /10\.5\.1\.0\/24 via 192\.0\.2\.99 .*static is not ours/);
  });

  test("a foreign route that is exactly as desired serves its peer, and stays foreign", () => {
    const boot = { ...THERE[0]!, protocol: 3 };
    const served = { operations: [], problems: [], held: [ALL_HELD[1]!] };
    assert.deepEqual(diff([boot, THERE[1]!]), served);
    // Ours behind it has no use. Ours before it is the one that the kernel uses.
    assert.deepEqual(diff([boot, ...THERE]).operations, ["delete 10.5.1.0/24"]);
    assert.deepEqual(diff([...THERE, boot]), { operations: [], problems: [], held: ALL_HELD });
    // Once it is gone, ours takes the place.
    assert.deepEqual(diff([THERE[1]!]).operations, ["add 10.5.1.0/24"]);
    // It is not taken for ours when the peer goes.
    assert.deepEqual(diff([boot, THERE[1]!], { desired: [B] }).operations, []);
    const onLink = [{ ...A, isOnLink: true }, B];
    assert.equal(diff([boot, THERE[1]!], { desired: onLink }).problems.length, 1);
  });

  test("a place that we held is taken back", () => {
    const foreign = route("10.5.1.0/24", "192.0.2.99", { protocol: FOREIGN });
    const taken = diff([foreign, THERE[1]!], { held: [A, B] });
    assert.deepEqual(taken, { operations: ["replace 10.5.1.0/24"], problems: [], held: ALL_HELD });
    const before = diff([foreign, ...THERE], { held: [A, B] });
    assert.deepEqual(before.operations, ["delete 10.5.1.0/24 proto 4"]);
    // Of several the kernel uses the first: one behind ours does nothing.
    const behind = diff([...THERE, foreign], { held: [A, B] });
    assert.deepEqual(behind.operations, []);
    const gone = diff([THERE[1]!], { held: [A, B] });
    assert.deepEqual(gone.operations, ["add 10.5.1.0/24"]);
  });

  test("a place that is no longer desired is not held, and its foreign route is left", () => {
    const foreign = route("10.5.1.0/24", "192.0.2.99", { protocol: FOREIGN });
    const result = diff([foreign, THERE[1]!], { held: [A, B], desired: [B] });
    assert.deepEqual(result, { operations: [], problems: [], held: [ALL_HELD[1]] });
  });

  test("while peers are missing what an earlier run left stays, and wrong ways are mended", () => {
    const left = route("10.5.9.0/24", "192.0.2.9");
    assert.deepEqual(diff([...THERE, left]).operations, ["delete 10.5.9.0/24"]);
    assert.deepEqual(diff([...THERE, left], { isPartial: true }).operations, []);
    const wrong = route("10.5.1.0/24", "192.0.2.99");
    assert.deepEqual(diff([wrong, THERE[1]!, left], { isPartial: true }).operations, [
      "replace 10.5.1.0/24",
    ]);
  });

  test("IPv6 has a metric of its own, and others' metrics are others' places", () => {
    const desired = [wanted("fd05:1::/64", "2001:db8::1")];
    const own = route("fd05:1::/64", "2001:db8::1", { metric: 1024 });
    const other = { ...own, metric: 100, protocol: FOREIGN };
    assert.deepEqual(diff([own, other], { desired }), {
      operations: [],
      problems: [],
      held: ["fd05:1::/64 1024"],
    });
  });

  test("a way by the number of an object is right if the number is", () => {
    const byNumber = THERE.map((one) => ({ ...one, nexthopId: 7 }));
    assert.deepEqual(diff(byNumber, { id: 7 }).operations, []);
    const expected = ["replace 10.5.1.0/24", "replace 10.5.2.0/24"];
    assert.deepEqual(diff(byNumber, { id: 8 }).operations, expected);
    assert.deepEqual(diff(byNumber).operations, expected);
  });

  test("a way that counts as on the link is another than one that does not", () => {
    const desired = [{ ...A, isOnLink: true }, B];
    assert.deepEqual(diff(THERE, { desired }).operations, ["replace 10.5.1.0/24"]);
  });
});
