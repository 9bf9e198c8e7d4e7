import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { diffLinks } from "../../src/kernel/link_diff.ts";
import type { KernelOperation } from "../../src/kernel/operation.ts";
import type { DesiredIpip, DesiredLink, DesiredVxlan } from "../../src/kernel/state.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import type { Link } from "../../src/netlink/link.ts";
import type { VxlanInfo } from "../../src/netlink/vxlan.ts";
import { linkOf } from "./fake_kernel.ts";

const MAC = "02:00:00:00:00:01";
const LOCAL = IpAddress.parse("192.0.2.1");

const VXLAN: DesiredVxlan = {
  kind: "vxlan",
  name: "selvage.1",
  mtu_bytes: 1450,
  macAddress: MacAddress.parse(MAC),
  vni: 1,
  port: 8472,
  outerLinkIndex: 2,
  local: LOCAL,
  isLearning: false,
  isGbp: false,
  isProxy: false,
  isL2Miss: false,
};
const IPIP: DesiredIpip = {
  kind: "ipip",
  name: "selvage.ipip",
  mtu_bytes: 1480,
  outerLinkIndex: 2,
  local: LOCAL,
};

const INFO: VxlanInfo = {
  vni: 1,
  linkIndex: 2,
  local: LOCAL,
  remote: null,
  port: 8472,
  isLearning: false,
  isProxy: false,
  isL2Miss: false,
  isL3Miss: false,
  isRouteShortCircuit: false,
  isGbp: false,
  isCollectMetadata: false,
};

/** The device as `VXLAN` would have it. */
function vxlan(changes: Partial<Link> = {}, info: Partial<VxlanInfo> = {}): Link {
  const link = linkOf({ index: 9, name: "selvage.1", kind: "vxlan", mtu_bytes: 1450, isUp: true });
  return { ...link, macAddress: MAC, vxlan: { ...INFO, ...info }, ...changes };
}

function ipip(changes: Partial<Link> = {}): Link {
  const base = { index: 8, name: "selvage.ipip", kind: "ipip", mtu_bytes: 1480, isUp: true };
  return { ...linkOf(base), ipip: { linkIndex: 2, local: LOCAL, remote: null }, ...changes };
}

const ETH = linkOf({ index: 2, name: "eth0", isUp: true });

function words(operation: KernelOperation): string {
  switch (operation.type) {
    case "create_link":
      return `create ${operation.desired.name}`;
    case "delete_link":
      return `delete ${operation.link.name} #${operation.link.index}`;
    case "set_link":
      return `set #${operation.link.index} ${JSON.stringify(operation.change)}`;
    default:
      return operation.type;
  }
}

function diff(links: readonly Link[], desired: readonly DesiredLink[] = [VXLAN], seen = {}) {
  const { operations, problems, ours } = diffLinks(
    desired,
    [ETH, ...links],
    new Map<string, number>(Object.entries(seen)),
  );
  return { operations: operations.map(words), problems, ours: [...ours.keys()] };
}

const RIGHT = { operations: [], problems: [], ours: ["selvage.1"] };
const MADE_ANEW = {
  operations: ["delete selvage.1 #9", "create selvage.1"],
  problems: [],
  ours: [],
};

describe("the difference of devices", () => {
  test("is nothing for one that is as desired", () => {
    assert.deepEqual(diff([vxlan()]), RIGHT);
    assert.deepEqual(diff([ipip()], [IPIP]), { ...RIGHT, ours: ["selvage.ipip"] });
  });

  test("one that is missing is made, and used from the next round on", () => {
    assert.deepEqual(diff([]), { operations: ["create selvage.1"], problems: [], ours: [] });
    assert.deepEqual(diff([], [IPIP]).operations, ["create selvage.ipip"]);
  });

  test("one of another kind is a problem by name, and left alone", () => {
    for (const kind of ["bridge", "dummy", "ipip"]) {
      const { operations, problems, ours } = diff([vxlan({ kind, vxlan: null })]);
      assert.deepEqual([operations, ours], [[], []]);
      assert.deepEqual(problems, [
        `device selvage.1 is not ours: it is ${kind}, not vxlan; remove or rename it`,
      ]);
    }
    const { problems } = diff([vxlan({ kind: null, vxlan: null })]);
    assert.match(problems.join(), /it is hardware, not vxlan/);
  });

  const UNCHANGEABLE: Partial<VxlanInfo>[] = [
    { vni: 2 },
    { port: 4789 },
    { linkIndex: 3 },
    { linkIndex: null },
    { local: IpAddress.parse("192.0.2.2") },
    { local: null },
    { remote: IpAddress.parse("192.0.2.9") },
    { isLearning: true },
    { isProxy: true },
    { isL2Miss: true },
    { isL3Miss: true },
    { isGbp: true },
    { isRouteShortCircuit: true },
    { isCollectMetadata: true },
  ];
  for (const info of UNCHANGEABLE) {
    test(`what cannot be changed is made anew: ${Object.entries(info)}`, () => {
      assert.deepEqual(diff([vxlan({}, info)]), MADE_ANEW);
    });
  }

  test("and so is a tunnel of another way", () => {
    const info = { linkIndex: 2, local: LOCAL, remote: null };
    for (const wrong of [{ linkIndex: 3 }, { local: null }, { remote: LOCAL }]) {
      assert.deepEqual(diff([ipip({ ipip: { ...info, ...wrong } })], [IPIP]).operations, [
        "delete selvage.ipip #8",
        "create selvage.ipip",
      ]);
    }
  });

  const CHANGEABLE: [Partial<Link>, Record<string, unknown>][] = [
    [{ mtu_bytes: 1400 }, { mtu_bytes: 1450 }],
    [{ macAddress: "02:00:00:00:00:99" }, { macAddress: MAC }],
    [{ macAddress: null }, { macAddress: MAC }],
    [{ masterIndex: 5 }, { masterIndex: null }],
    [{ hasArp: false }, { hasArp: true }],
    [{ isUp: false }, { isUp: true }],
  ];
  for (const [is, change] of CHANGEABLE) {
    test(`what can be changed is set alone: ${JSON.stringify(change)}`, () => {
      assert.deepEqual(diff([vxlan(is)]), {
        ...RIGHT,
        operations: [`set #9 ${JSON.stringify(change)}`],
      });
    });
  }

  test("a tunnel without Ethernet has neither MAC address nor ARP to set", () => {
    assert.deepEqual(diff([ipip({ hasArp: false, macAddress: "0a:00:00:01" })], [IPIP]), {
      ...RIGHT,
      ours: ["selvage.ipip"],
    });
  });

  test("a tunnel of ours has the queue that bursts need, where the kernel says what it has", () => {
    const desired = { name: "selvage0", kind: "tun", family: 4, mtu_bytes: 1472 } as const;
    const link = linkOf({ index: 7, name: "selvage0", kind: "tun", mtu_bytes: 1472, isUp: true });
    const operations = (queueLength: number | null) =>
      diff([{ ...link, queueLength }], [desired]).operations;
    assert.deepEqual(operations(500), ['set #7 {"queueLength":2000}']);
    assert.deepEqual([operations(2000), operations(null)], [[], []]);
  });

  test("one that was renamed gets its name back", () => {
    const renamed = vxlan({ name: "mine0" });
    assert.deepEqual(diff([renamed], [VXLAN], { "selvage.1": 9 }), {
      ...RIGHT,
      operations: ['set #9 {"newName":"selvage.1"}'],
    });
    // Never seen, or its number is another kind's by now: nothing tells that it was ours.
    assert.deepEqual(diff([renamed]).operations, ["create selvage.1"]);
    const other = vxlan({ name: "mine0", kind: "veth" });
    assert.deepEqual(diff([other], [VXLAN], { "selvage.1": 9 }).operations, ["create selvage.1"]);
  });

  test("what has the name counts before what once had it", () => {
    const renamed = vxlan({ name: "mine0" });
    const named = vxlan({ index: 10 });
    assert.deepEqual(diff([renamed, named], [VXLAN], { "selvage.1": 9 }), RIGHT);
  });

  test("what earlier plans had made goes first: it may hold the VNI", () => {
    const stale = [
      vxlan({ index: 20, name: "selvage.7" }),
      vxlan({ index: 21, name: "selvage-v6.1" }),
      vxlan({ index: 22, name: "selv4.16777215" }),
      vxlan({ index: 23, name: "selv6.16777215" }),
      ipip({ index: 24 }),
    ];
    assert.deepEqual(diff(stale).operations, [
      "delete selvage.7 #20",
      "delete selvage-v6.1 #21",
      "delete selv4.16777215 #22",
      "delete selv6.16777215 #23",
      "delete selvage.ipip #24",
      "create selvage.1",
    ]);
    assert.deepEqual(diff([vxlan()], []).operations, ["delete selvage.1 #9"]);
  });

  test("others' devices with names like ours are left", () => {
    const others = [
      vxlan({ index: 30, name: "flannel.1" }),
      vxlan({ index: 31, name: "selvage.x" }),
      vxlan({ index: 32, name: "myselvage.1" }),
      vxlan({ index: 33, name: "selvage.1a" }),
      vxlan({ index: 34, name: "selvage" }),
      vxlan({ index: 35, name: "selv5.1" }),
      vxlan({ index: 36, name: "selvage.7", kind: "bridge" }),
      vxlan({ index: 37, name: "selvage.8", kind: "tun" }),
      ipip({ index: 38, name: "tunl0" }),
    ];
    assert.deepEqual(diff([vxlan(), ...others]), RIGHT);
    assert.deepEqual(diff(others, []), { operations: [], problems: [], ours: [] });
  });
});
