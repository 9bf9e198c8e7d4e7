/**
 * The codec against the real kernel, with iproute2 as the second opinion.
 *
 *   namespace a                      namespace b
 *   br0 10.1.0.1/24 fd00::1/64
 *    +-- v0 (mtu 1400) ------------- v1 (mtu 1300) 10.1.0.2/24
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { closeFd } from "../../ffi/fd.ts";
import { withNetns } from "../../ffi/netns.ts";
import { openTun } from "../../ffi/tun.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { hasErrno, NetlinkError } from "../../src/netlink/error.ts";
import type { Link } from "../../src/netlink/link.ts";
import { addRouteRequest } from "../../src/netlink/route_request.ts";
import * as rtnetlink from "../../src/netlink/rtnetlink.ts";
import { type TestNamespace, withNamespaces } from "./namespace.ts";

/** What `ip -j` says, as far as it is compared. */
interface IpLink {
  ifindex: number;
  ifname: string;
  mtu: number;
  operstate: string;
  flags: string[];
  address?: string;
  link_type: string;
  linkinfo?: { info_kind: string };
  addr_info?: { local: string; prefixlen: number; family: string }[];
}

function requireLink({ connection }: TestNamespace, name: string): Link {
  const link = rtnetlink.getLink(connection, name);
  assert.ok(link, `no ${name}`);
  return link;
}

function build(a: TestNamespace, b: TestNamespace): void {
  rtnetlink.createVeth(a.connection, {
    name: "v0",
    mtu_bytes: 1400,
    macAddress: "02:00:00:00:00:01",
    peer: { name: "v1", mtu_bytes: 1300, netnsFd: b.netns.fd },
  });
  rtnetlink.createBridge(a.connection, { name: "br0" });
  const bridge = requireLink(a, "br0");
  rtnetlink.setLink(a.connection, requireLink(a, "v0"), { masterIndex: bridge.index, isUp: true });
  rtnetlink.setLink(a.connection, bridge, { isUp: true });
  for (const [text, prefixLength] of [["10.1.0.1", 24], ["fd00::1", 64]] as const) {
    const address = IpAddress.parse(text);
    const entry = { linkIndex: bridge.index, linkName: "br0", address, prefixLength };
    rtnetlink.addAddress(a.connection, entry);
  }
  const far = requireLink(b, "v1");
  rtnetlink.setLink(b.connection, far, { isUp: true });
  const address = IpAddress.parse("10.1.0.2");
  const entry = { linkIndex: far.index, linkName: "v1", address, prefixLength: 24 };
  rtnetlink.addAddress(b.connection, entry);
}

describe("rtnetlink in a fresh namespace", () => {
  test("links are as iproute2 sees them", () => {
    withNamespaces(2, (a, b) => {
      build(a, b);
      for (const namespace of [a, b]) {
        const theirs = namespace.ip("-d", "-j", "link") as IpLink[];
        const ours = rtnetlink.listLinks(namespace.connection);
        assert.ok(ours.length >= 2);
        assert.deepEqual(
          ours.map((link) => [
            link.index,
            link.name,
            link.mtu_bytes,
            link.macAddress,
            link.operState,
            link.kind,
            link.isUp,
            link.isLoopback,
          ]),
          theirs.map((link) => [
            link.ifindex,
            link.ifname,
            link.mtu,
            link.address,
            link.operstate.toLowerCase(),
            link.linkinfo?.info_kind ?? null,
            link.flags.includes("UP"),
            link.link_type === "loopback",
          ]),
        );
      }
      const port = requireLink(a, "v0");
      assert.equal(port.masterIndex, requireLink(a, "br0").index);
      assert.equal(port.macAddress, "02:00:00:00:00:01");
      assert.equal(requireLink(b, "v1").mtu_bytes, 1300);
    });
  });

  test("a TUN device is told by its kind and its settings", () => {
    withNamespaces(1, (a) => {
      const { fd } = withNetns(a.netns, () => openTun("tun7"));
      try {
        assert.deepEqual(requireLink(a, "tun7").tun, {
          mode: "tun",
          hasPacketInfo: false,
          hasVnetHeader: false,
          isPersistent: false,
          isMultiQueue: false,
        });
      } finally {
        closeFd(fd);
      }
      assert.equal(rtnetlink.getLink(a.connection, "tun7"), null);
    });
  });

  test("a link is renamed, moved, freed from its bridge, deleted", () => {
    withNamespaces(2, (a, b) => {
      build(a, b);
      const port = requireLink(a, "v0");
      rtnetlink.setLink(a.connection, port, { masterIndex: null, isUp: false, mtu_bytes: 1280 });
      rtnetlink.setLink(a.connection, port, { newName: "w0", macAddress: "02:00:00:00:00:09" });
      const renamed = requireLink(a, "w0");
      const { index, masterIndex, isUp, mtu_bytes, macAddress } = renamed;
      assert.deepEqual({ index, masterIndex, isUp, mtu_bytes, macAddress }, {
        index: port.index,
        masterIndex: null,
        isUp: false,
        mtu_bytes: 1280,
        macAddress: "02:00:00:00:00:09",
      });
      rtnetlink.setLink(a.connection, renamed, { netnsFd: b.netns.fd, newName: "x0" });
      assert.equal(rtnetlink.getLink(a.connection, "w0"), null);
      rtnetlink.deleteLink(b.connection, requireLink(b, "x0"));
      assert.deepEqual(rtnetlink.listLinks(b.connection).map(({ name }) => name), ["lo"]);
    });
  });

  test("addresses are as iproute2 sees them", () => {
    withNamespaces(2, (a, b) => {
      build(a, b);
      const bridge = requireLink(a, "br0");
      // A link-local address of its own the kernel adds when it likes.
      const list = () =>
        (a.ip("-j", "addr", "show", "dev", "br0") as IpLink[])[0]!.addr_info!
          .filter(({ local }) => !local.startsWith("fe80:"));
      const ours = rtnetlink.listAddresses(a.connection)
        .filter(({ linkIndex, address }) => linkIndex === bridge.index && !address.isLinkLocal());
      const texts = ours.map(({ address, prefixLength }) => `${address}/${prefixLength}`);
      assert.deepEqual(texts, list().map(({ local, prefixlen }) => `${local}/${prefixlen}`));
      assert.ok(texts.includes("10.1.0.1/24") && texts.includes("fd00::1/64"));

      a.ip("addr", "add", "10.2.0.1", "peer", "10.2.0.9/30", "dev", "br0");
      const peer = rtnetlink.listAddresses(a.connection).find((entry) => entry.peer !== null)!;
      assert.equal(`${peer.address} ${peer.peer}/${peer.prefixLength}`, "10.2.0.1 10.2.0.9/30");
      for (const entry of [...ours, peer]) {
        rtnetlink.deleteAddress(a.connection, { ...entry, linkName: "br0" });
      }
      assert.deepEqual(list(), []);
    });
  });

  test("routes are as iproute2 sees them, and exactly the one meant is deleted", () => {
    withNamespaces(2, (a, b) => {
      build(a, b);
      const { index: linkIndex } = requireLink(a, "br0");
      const base = { linkIndex, linkName: "br0", protocol: 83 };
      const gateway = IpAddress.parse("10.1.0.254");
      const far = IpAddress.parse("10.77.0.1");
      for (
        const entry of [
          { destination: IpPrefix.parse("0.0.0.0/0"), gateway },
          { destination: IpPrefix.parse("10.8.0.0/16"), gateway: null },
          { destination: IpPrefix.parse("10.9.0.0/16"), gateway: far, isOnLink: true },
          { destination: IpPrefix.parse("10.9.0.0/16"), gateway, metric: 7 },
          { destination: IpPrefix.parse("fd01::/48"), gateway: IpAddress.parse("fd00::9") },
        ]
      ) rtnetlink.addRoute(a.connection, { ...base, ...entry });
      const shown = a.ip("-j", "-4", "route", "show", "proto", "83") as { flags: string[] }[];
      // A bridge has its carrier a moment after it was set up.
      const theirs = shown.map((route) => {
        return { ...route, flags: route.flags.filter((flag) => flag !== "linkdown") };
      });
      assert.deepEqual(theirs, [
        { dst: "default", gateway: "10.1.0.254", dev: "br0", flags: [] },
        { dst: "10.8.0.0/16", dev: "br0", scope: "link", flags: [] },
        { dst: "10.9.0.0/16", gateway: "10.77.0.1", dev: "br0", flags: ["onlink"] },
        { dst: "10.9.0.0/16", gateway: "10.1.0.254", dev: "br0", metric: 7, flags: [] },
      ]);
      const own = [4, 6].flatMap((family) =>
        rtnetlink.listRoutes(a.connection, family as 4 | 6, { keep: (r) => r.protocol === 83 })
      );
      assert.deepEqual(
        own.map(({ destination, metric, nextHops: [hop] }) =>
          `${destination} ${metric} ${hop?.gateway} ${hop?.isOnLink}`
        ),
        [
          "0.0.0.0/0 0 10.1.0.254 false",
          "10.8.0.0/16 0 null false",
          "10.9.0.0/16 0 10.77.0.1 true",
          "10.9.0.0/16 7 10.1.0.254 false",
          "fd01::/48 1024 fd00::9 false",
        ],
      );
      rtnetlink.addRoute(a.connection, {
        ...base,
        destination: own[1]!.destination,
        gateway,
      }, true);
      rtnetlink.deleteRoute(a.connection, own[2]!, "br0");
      rtnetlink.deleteRoute(a.connection, own[4]!, "br0");
      const left = a.ip("-j", "route", "show", "proto", "83") as { dst: string; gateway: string }[];
      assert.deepEqual(left.map(({ dst, gateway }) => `${dst} ${gateway}`), [
        "default 10.1.0.254",
        "10.8.0.0/16 10.1.0.254",
        "10.9.0.0/16 10.1.0.254",
      ]);
      assert.deepEqual(a.ip("-j", "-6", "route", "show", "proto", "83"), []);
    });
  });

  test("the way to a destination has a link and a source", () => {
    withNamespaces(2, (a, b) => {
      build(a, b);
      const far = rtnetlink.getRoute(b.connection, IpAddress.parse("10.1.0.77"))!;
      assert.equal(far.nextHops[0]!.linkIndex, requireLink(b, "v1").index);
      assert.equal(`${far.preferredSource}`, "10.1.0.2");
      assert.equal(rtnetlink.getRoute(b.connection, IpAddress.parse("10.9.9.9")), null);
      assert.equal(rtnetlink.getRoute(b.connection, IpAddress.parse("fd99::1")), null);
    });
  });

  test("a refusal has the kernel's own words", () => {
    withNamespaces(2, (a, b) => {
      build(a, b);
      assert.throws(() => rtnetlink.createBridge(a.connection, { name: "br0" }), (error) => {
        return hasErrno(error, "EEXIST");
      });
      const { index: linkIndex } = requireLink(a, "br0");
      const route = {
        destination: IpPrefix.parse("10.9.0.0/16"),
        gateway: IpAddress.parse("10.77.0.1"),
        linkIndex,
        linkName: "br0",
        protocol: 83,
      };
      assert.throws(() => rtnetlink.addRoute(a.connection, route), (error) => {
        assert.ok(error instanceof NetlinkError);
        const { operation, object, errnoName, kernelText } = error;
        assert.equal(`${operation} ${object}`, "add route 10.9.0.0/16 via 10.77.0.1 dev br0");
        assert.equal(errnoName, "ENETUNREACH");
        assert.match(kernelText, /invalid gateway/);
        return true;
      });
    });
  });

  test("a large batch and a large table", () => {
    withNamespaces(2, (a, b) => {
      build(a, b);
      const { index: linkIndex } = requireLink(a, "br0");
      const requests = Array.from({ length: 5000 }, (_, i) =>
        addRouteRequest({
          destination: IpPrefix.of(IpAddress.of(4, 0x14000000n + BigInt(i) * 256n), 24),
          gateway: null,
          linkIndex,
          linkName: "br0",
          protocol: 83,
        }, false));
      // One in the middle that cannot be.
      requests[2500] = requests[0]!;
      const errors = a.connection.batch(requests)
        .flatMap(({ error }, i) => error === null ? [] : [`${i} ${error.errnoName}`]);
      assert.deepEqual(errors, ["2500 EEXIST"]);
      const routes = rtnetlink.listRoutes(a.connection, 4, { keep: (r) => r.protocol === 83 });
      assert.equal(new Set(routes.map(({ destination }) => `${destination}`)).size, 4999);
    });
  });
});
