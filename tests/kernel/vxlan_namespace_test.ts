/** The reconciler and VXLAN devices against the real kernel and a foreign hand, in a namespace. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { withNetns } from "../../ffi/netns.ts";
import { Reconciler } from "../../src/kernel/reconciler.ts";
import { type KernelState, NO_KERNEL_STATE } from "../../src/kernel/state.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { createVeth, getLink } from "../../src/netlink/rtnetlink.ts";
import { type TestNamespace, withNamespaces } from "../netlink/namespace.ts";

const MAC = "02:00:00:00:00:01";
const NOTHING_DONE = { changeCount: 0, problems: [], peerProblems: new Map() };

/** Generation 3 with peers N: 10.5.N.0/24 behind VTEP N at 192.0.2.N. */
function desiredOf(outerLinkIndex: number, numbers: readonly number[]): KernelState {
  const linkName = "selvage.1";
  const peers = numbers.map((n) => ({
    inner: IpAddress.parse(`10.5.${n}.0`),
    macAddress: MacAddress.parse(`02:00:00:00:00:${n}`),
    address: IpAddress.parse(`192.0.2.${n}`),
    peerKey: `10.5.${n}.0-24`,
  }));
  return {
    ...NO_KERNEL_STATE,
    links: [{
      kind: "vxlan",
      name: linkName,
      mtu_bytes: 1450,
      macAddress: MacAddress.parse(MAC),
      vni: 1,
      port: 8472,
      outerLinkIndex,
      local: IpAddress.parse("192.0.2.1"),
      isLearning: false,
      isGbp: false,
      isProxy: false,
      isL2Miss: false,
    }],
    addresses: [{ linkName, address: IpAddress.parse("10.5.1.0"), prefixLength: 32 }],
    neighbours: peers.map(({ inner, macAddress, peerKey }) => ({
      linkName,
      address: inner,
      macAddress,
      peerKey,
    })),
    fdb: peers.map(({ macAddress, address, peerKey }) => ({
      linkName,
      macAddress,
      address,
      peerKey,
    })),
    routes: peers.map(({ inner, peerKey }) => ({
      destination: IpPrefix.of(inner, 24),
      linkName,
      gateway: inner,
      isOnLink: true,
      peerKey,
    })),
  };
}

interface Ground {
  readonly namespace: TestNamespace;
  readonly reconciler: Reconciler;
  readonly outerIndex: number;
  ip(line: string): unknown;
}

/** Runs `body` in a namespace with `eth0`, 192.0.2.1/24. */
function withGround(body: (ground: Ground) => void): void {
  withNamespaces(1, (namespace) => {
    const { connection } = namespace;
    const ip = (line: string) => namespace.ip(...line.split(" "));
    createVeth(connection, { name: "eth0", peer: { name: "far0" } });
    ip("addr add 192.0.2.1/24 dev eth0");
    ip("link set eth0 up");
    ip("link set far0 up");
    const outerIndex = getLink(connection, "eth0")!.index;
    body({ namespace, reconciler: new Reconciler(connection), outerIndex, ip });
  });
}

interface Entry {
  readonly dst: string;
  readonly lladdr?: string;
  readonly gateway?: string;
  readonly local?: string;
  readonly prefixlen?: number;
  readonly dev?: string;
}

/** Everything of the device that is to be right, as iproute2 has it. */
function tables({ ip, namespace }: Ground) {
  const [link] = ip("-j -d addr show dev selvage.1") as {
    mtu: number;
    address: string;
    flags: string[];
    master?: string;
    linkinfo: { info_data: { id: number; port: number; learning: boolean } };
    addr_info: Entry[];
  }[];
  const { mtu, address, flags, master, linkinfo: { info_data: { id, port, learning } } } = link!;
  const entries = (line: string) => ip(line) as Entry[];
  const addresses = link!.addr_info.map(({ local, prefixlen }) => `${local}/${prefixlen}`);
  const { connection } = namespace;
  assert.ok(getLink(connection, "selvage.1")?.hasArp);
  return {
    device: { mtu, address, isUp: flags.includes("UP"), master, id, port, learning },
    addresses: addresses.filter((text) => !text.startsWith("fe80")),
    neighbours: entries("-j neigh show dev selvage.1 nud permanent")
      .map(({ dst, lladdr }) => `${dst} ${lladdr}`).sort(),
    routes: entries("-j route show proto 83")
      .map(({ dst, gateway, dev }) => `${dst} via ${gateway} dev ${dev}`).sort(),
  };
}

const RIGHT = {
  device: {
    mtu: 1450,
    address: MAC,
    isUp: true,
    master: undefined,
    id: 1,
    port: 8472,
    learning: false,
  },
  addresses: ["10.5.1.0/32"],
  neighbours: ["10.5.22.0 02:00:00:00:00:22", "10.5.33.0 02:00:00:00:00:33"],
  routes: [
    "10.5.22.0/24 via 10.5.22.0 dev selvage.1",
    "10.5.33.0/24 via 10.5.33.0 dev selvage.1",
  ],
};

describe("the reconciler and a VXLAN device in a fresh namespace", () => {
  test("one call makes the device and, now that it is there, all that is on it", () => {
    withGround((ground) => {
      const { reconciler, outerIndex, namespace: { connection } } = ground;
      const desired = desiredOf(outerIndex, [22, 33]);
      const { changeCount, problems, peerProblems } = reconciler.reconcile(desired);
      assert.deepEqual([problems, peerProblems.size], [[], 0]);
      assert.ok(changeCount >= 1 + 1 + 1 + 2 * 3, `${changeCount}`);
      assert.deepEqual(tables(ground), RIGHT);
      assert.deepEqual(reconciler.reconcile(desired), NOTHING_DONE);
      // A new agent finds all as it must be: not one write.
      assert.deepEqual(new Reconciler(connection).reconcile(desired), NOTHING_DONE);
      assert.deepEqual(new Reconciler(connection).reconcile(desired, true), NOTHING_DONE);
      // Not all peers are known: what may serve the others stays.
      const partial = new Reconciler(connection);
      assert.deepEqual(partial.reconcile(desiredOf(outerIndex, [22]), true), NOTHING_DONE);
      assert.ok(partial.reconcile(desiredOf(outerIndex, [22])).changeCount >= 3);
      assert.deepEqual(tables(ground).routes, RIGHT.routes.slice(0, 1));
    });
  });

  const ACTS = [
    "link set selvage.1 down",
    "link set selvage.1 mtu 1400",
    "link set selvage.1 address 02:00:00:00:00:99",
    "link set selvage.1 master br0",
    "link set selvage.1 arp off",
    "link del selvage.1",
    "addr flush dev selvage.1",
    "addr add 198.51.100.1/24 dev selvage.1",
    "neigh flush nud permanent dev selvage.1",
    "neigh replace 10.5.22.0 lladdr 02:00:00:00:00:98 dev selvage.1 nud permanent",
    "neigh add 10.5.77.0 lladdr 02:00:00:00:00:98 dev selvage.1 nud permanent",
    "neigh replace 10.5.22.0 lladdr 02:00:00:00:00:22 dev selvage.1 nud stale",
    "route del 10.5.22.0/24",
    "route flush proto 83",
    "route replace 10.5.22.0/24 dev eth0",
    "route replace 10.5.22.0/24 via 10.5.33.0 dev selvage.1 onlink proto 83",
    "route add 10.5.77.0/24 dev selvage.1 proto 83",
  ];
  for (const act of ACTS) {
    test(`puts right what another hand did: ip ${act}`, () => {
      withGround((ground) => {
        const { reconciler, outerIndex, ip } = ground;
        const desired = desiredOf(outerIndex, [22, 33]);
        ip("link add br0 type bridge");
        reconciler.reconcile(desired);
        ip(act);
        const { changeCount, problems, peerProblems } = reconciler.reconcile(desired);
        assert.deepEqual([problems, peerProblems.size], [[], 0]);
        assert.ok(changeCount > 0);
        assert.deepEqual(tables(ground), RIGHT);
        assert.deepEqual(reconciler.reconcile(desired), NOTHING_DONE);
      });
    });
  }

  test("a renamed device gets its name back, with what is on it", () => {
    withGround((ground) => {
      const { reconciler, outerIndex, ip, namespace: { connection } } = ground;
      const desired = desiredOf(outerIndex, [22, 33]);
      reconciler.reconcile(desired);
      const { index } = getLink(connection, "selvage.1")!;
      ip("link set selvage.1 down");
      ip("link set selvage.1 name mine0");
      assert.deepEqual(reconciler.reconcile(desired).problems, []);
      assert.equal(getLink(connection, "selvage.1")!.index, index);
      assert.deepEqual(tables(ground), RIGHT);
    });
  });

  test("another VNI makes another device; nobody else's goes, nor when all is cleared", () => {
    withGround((ground) => {
      const { reconciler, outerIndex, ip, namespace: { netns, connection } } = ground;
      ip("link add flannel.1 type vxlan id 77 dev eth0 dstport 4789");
      const names = () =>
        withNetns(netns, () => (ip("-j link show") as { ifname: string }[]))
          .map(({ ifname }) => ifname).filter((name) => /[.]/.test(name)).sort();
      const desired = desiredOf(outerIndex, [22]);
      reconciler.reconcile(desired);
      assert.deepEqual(names(), ["flannel.1", "selvage.1"]);
      const vxlan = { ...desired.links[0]!, name: "selvage.2", vni: 2 } as typeof desired.links[0];
      const other = { ...NO_KERNEL_STATE, links: [vxlan!] };
      assert.deepEqual(reconciler.reconcile(other).problems, []);
      assert.deepEqual(names(), ["flannel.1", "selvage.2"]);
      assert.deepEqual(new Reconciler(connection).clear().problems, []);
      assert.deepEqual(names(), ["flannel.1"]);
    });
  });
});
