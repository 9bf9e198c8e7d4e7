/** The reconciler against the real kernel and a foreign hand (iproute2), in a fresh namespace. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { closeFd } from "../../ffi/fd.ts";
import { withNetns } from "../../ffi/netns.ts";
import { openTun } from "../../ffi/tun.ts";
import { hasCode } from "../../src/errors.ts";
import { chooseOuterLink } from "../../src/kernel/outer_link.ts";
import { Reconciler } from "../../src/kernel/reconciler.ts";
import { type KernelState, NO_KERNEL_STATE } from "../../src/kernel/state.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { createBridge } from "../../src/netlink/rtnetlink.ts";
import { type TestNamespace, withNamespaces } from "../netlink/namespace.ts";

const ON_LINK = { gateway: null, isOnLink: false, peerKey: null };
/** Both families; the IPv4 half is flannel's udp plan. */
const DESIRED: KernelState = {
  ...NO_KERNEL_STATE,
  links: [{ name: "selvage0", kind: "tun", family: 6, mtu_bytes: 1472 }],
  addresses: [
    { linkName: "selvage0", address: IpAddress.parse("10.5.1.0"), prefixLength: 32 },
    { linkName: "selvage0", address: IpAddress.parse("fd05:1::"), prefixLength: 128 },
  ],
  routes: [
    { destination: IpPrefix.parse("10.5.0.0/16"), linkName: "selvage0", ...ON_LINK },
    { destination: IpPrefix.parse("fd05::/16"), linkName: "selvage0", ...ON_LINK },
  ],
};
const NOTHING_DONE = { changeCount: 0, problems: [], peerProblems: new Map() };

/** Runs `body` in a namespace with the TUN device of the plan and a bridge `br0`, 10.1.0.1/24. */
function withTun(body: (namespace: TestNamespace, reconciler: Reconciler) => void): void {
  withNamespaces(1, (namespace) => {
    const { fd } = withNetns(namespace.netns, () => openTun("selvage0"));
    try {
      createBridge(namespace.connection, { name: "br0" });
      namespace.ip("link", "set", "br0", "up");
      namespace.ip("addr", "add", "10.1.0.1/24", "dev", "br0");
      body(namespace, new Reconciler(namespace.connection));
    } finally {
      closeFd(fd);
    }
  });
}

/** Everything of the namespace that is ours, as iproute2 prints it. */
function ours({ ip }: TestNamespace) {
  const [link] = ip("-j", "addr", "show", "dev", "selvage0") as {
    mtu: number;
    flags: string[];
    addr_info: { local: string; prefixlen: number }[];
  }[];
  const routes = ["-4", "-6"].flatMap((family) =>
    ip("-j", family, "route", "show", "proto", "83") as { dst: string; dev: string }[]
  );
  return {
    mtu: link!.mtu,
    isUp: link!.flags.includes("UP"),
    addresses: link!.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`)
      .filter((text) => !text.startsWith("fe80")),
    routes: routes.map(({ dst, dev }) => `${dst} ${dev}`),
  };
}

/** The kernel adds an IPv6 address's local route after it has answered (`addrconf_dad_work`). */
function awaitLocalRoute({ ip }: TestNamespace, address: string): void {
  for (let tries = 0; tries < 500; tries++) {
    const routes = ip("-6", "-j", "route", "show", "table", "local", address) as unknown[];
    if (routes.length > 0) return;
  }
  assert.fail(`no local route for ${address}`);
}

const RIGHT = {
  mtu: 1472,
  isUp: true,
  addresses: ["10.5.1.0/32", "fd05:1::/128"],
  routes: ["10.5.0.0/16 selvage0", "fd05::/16 selvage0"],
};

describe("the reconciler in a fresh namespace", () => {
  test("brings the plan about, and then has nothing to do", () => {
    withTun((namespace, reconciler) => {
      assert.deepEqual(reconciler.reconcile(DESIRED), { ...NOTHING_DONE, changeCount: 5 });
      assert.deepEqual(ours(namespace), RIGHT);
      assert.deepEqual(reconciler.reconcile(DESIRED), NOTHING_DONE);
    });
  });

  test("gives a device its IPv6 address back that was forbidden to have one", () => {
    withTun((namespace, reconciler) => {
      const path = "net/ipv6/conf/selvage0/disable_ipv6";
      const desired = { ...DESIRED, sysctls: [{ path, value: "0", isSet: true }] };
      withNetns(namespace.netns, () => {
        reconciler.reconcile(desired);
        writeFileSync(`/proc/sys/${path}`, "1");
        const { changeCount, problems } = reconciler.reconcile(desired);
        assert.deepEqual(problems, []);
        assert.ok(changeCount > 0);
        const name = "net.ipv6.conf.selvage0.disable_ipv6";
        assert.ok(reconciler.lastChanges.includes(`set ${name} to 0`));
      });
      assert.deepEqual(ours(namespace), RIGHT);
    });
  });

  test("repairs whatever a foreign hand does to what is ours", () => {
    withTun((namespace, reconciler) => {
      reconciler.reconcile(DESIRED);
      const hands = [
        "link set selvage0 down",
        "link set selvage0 mtu 1300",
        "addr flush dev selvage0",
        "addr add 10.5.1.0/24 dev selvage0",
        "addr add 192.0.2.1 peer 192.0.2.2 dev selvage0",
        "addr add fd99::1/64 dev selvage0",
        "route del 10.5.0.0/16",
        "route replace 10.5.0.0/16 via 10.1.0.9 dev br0 proto 83",
        "route replace 10.5.0.0/16 proto 83 nexthop via 10.1.0.8 nexthop via 10.1.0.9",
        "route append 10.5.0.0/16 dev br0 proto 83",
        "route add blackhole 10.66.0.0/16 proto 83",
        "route add 10.67.0.0/16 dev br0 metric 9 proto 83",
        "-6 route replace fd05::/16 dev br0 proto 83",
        "-6 route add unreachable fd66::/16 proto 83",
      ];
      for (const hand of hands) {
        namespace.ip(...hand.split(" "));
        assert.deepEqual(reconciler.reconcile(DESIRED).problems, [], hand);
        assert.deepEqual(ours(namespace), RIGHT, hand);
        assert.deepEqual(reconciler.reconcile(DESIRED), NOTHING_DONE, hand);
      }
    });
  });

  test("leaves alone what is not ours", () => {
    withTun((namespace, reconciler) => {
      const foreign = [
        "route add 10.66.0.0/16 dev br0 proto static",
        "route add 10.5.7.0/24 dev br0",
        "route add 10.5.0.0/16 dev br0 metric 50",
        "route add 10.5.0.0/16 dev br0 proto 83 table 77",
        "addr add 192.0.2.1/24 dev br0",
        "addr add fd99::1/64 dev br0 nodad",
      ];
      for (const hand of foreign) namespace.ip(...hand.split(" "));
      awaitLocalRoute(namespace, "fd99::1");
      const rest = () => [
        namespace.ip("-j", "addr", "show", "dev", "br0"),
        namespace.ip("-j", "route", "show", "table", "all", "dev", "br0"),
        namespace.ip("-6", "-j", "route", "show", "table", "all", "dev", "br0"),
      ];
      const before = rest();
      assert.deepEqual(reconciler.reconcile(DESIRED).problems, []);
      assert.deepEqual(reconciler.clear().problems, []);
      assert.deepEqual(rest(), before);
      const { addresses, routes } = ours(namespace);
      assert.deepEqual({ addresses, routes }, { addresses: [], routes: [] });
    });
  });

  test("a foreign route in the way is told by name, kept, and followed once it is gone", () => {
    withTun((namespace, reconciler) => {
      namespace.ip(..."route add 10.5.0.0/16 dev br0 proto static".split(" "));
      const { problems } = reconciler.reconcile(DESIRED);
      assert.equal(problems.length, 1);
      assert.match(problems[0]!, /^route 10.5.0.0\/16 dev br0 proto static is not ours/);
      namespace.ip("route", "del", "10.5.0.0/16");
      assert.deepEqual(reconciler.reconcile(DESIRED), { ...NOTHING_DONE, changeCount: 1 });
      assert.deepEqual(ours(namespace), RIGHT);
    });
  });

  test("what an earlier run left behind goes at the first call", () => {
    withTun((namespace) => {
      namespace.ip(..."route add 10.44.0.0/16 dev br0 proto 83".split(" "));
      namespace.ip(..."-6 route add fd44::/16 dev br0 proto 83".split(" "));
      assert.deepEqual(new Reconciler(namespace.connection).reconcile(DESIRED).problems, []);
      assert.deepEqual(ours(namespace), RIGHT);
    });
  });

  test("a missing device is a problem, and a name that is taken is refused", () => {
    withTun((namespace, reconciler) => {
      assert.throws(
        () => reconciler.ensureNameFree("selvage0"),
        (error) => hasCode(error, "conflict") && /\(tun\)/.test(error.message),
      );
      assert.throws(() => reconciler.ensureNameFree("br0"), /\(bridge\)/);
      reconciler.ensureNameFree("selvage1");
      namespace.ip("link", "set", "selvage0", "name", "other0");
      assert.deepEqual(reconciler.reconcile(DESIRED).problems, ["tun device selvage0 is missing"]);
    });
  });
});

describe("the outer link in a fresh namespace", () => {
  test("is the default route's, or what can be reached", () => {
    withTun(({ connection, ip }) => {
      const none = { interfaces: [], interfaceRegexes: [], publicAddresses: [] };
      ip(..."route add default via 10.1.0.254".split(" "));
      for (const canReach of [null, "10.1.0.9", "198.51.100.1"]) {
        const link = chooseOuterLink(connection, { ...none, canReach });
        assert.equal(link.name, "br0");
        assert.equal(link.mtu_bytes, 1500);
        assert.deepEqual(link.addresses.map(String), ["10.1.0.1"]);
      }
    });
  });
});
