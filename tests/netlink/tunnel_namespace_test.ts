/**
 * The codec of VXLAN devices, neighbours and FDB entries against the real kernel, with iproute2 as
 * the second opinion.
 *
 *   namespace a                          namespace b
 *   v.1 (vxlan), v6.2 (vxlan over IPv6)
 *   eth0 10.0.0.1/24 ------------------- eth0
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { IpAddress } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { hasErrno } from "../../src/netlink/error.ts";
import { NLM_F_APPEND, NLM_F_CREATE } from "../../src/netlink/message.ts";
import { createIpipRequest, type NewVxlan } from "../../src/netlink/link_request.ts";
import { NUD_PERMANENT, NUD_REACHABLE } from "../../src/netlink/neighbour.ts";
import {
  addFdbEntryRequest,
  addNeighbourRequest,
  deleteFdbEntryRequest,
  deleteNeighbourRequest,
  type NewFdbEntry,
  type NewNeighbour,
} from "../../src/netlink/neighbour_request.ts";
import * as rtnetlink from "../../src/netlink/rtnetlink.ts";
import { type TestNamespace, withNamespaces } from "./namespace.ts";

const MAC = MacAddress.parse("02:00:00:00:00:02");
const OTHER_MAC = MacAddress.parse("02:00:00:00:00:03");

function vxlan(name: string, change: Partial<NewVxlan> & { linkIndex: number }): NewVxlan {
  return {
    name,
    mtu_bytes: 1450,
    macAddress: "02:00:00:00:00:01",
    vni: 1,
    local: IpAddress.parse("10.0.0.1"),
    port: 8472,
    isLearning: false,
    isProxy: false,
    isL2Miss: false,
    isGbp: false,
    ...change,
  };
}

/** Builds all but v6.2; v.1's index and eth0's. */
function build(a: TestNamespace, b: TestNamespace): { index: number; outerIndex: number } {
  const { connection } = a;
  rtnetlink.createVeth(connection, { name: "eth0", peer: { name: "eth0", netnsFd: b.netns.fd } });
  a.ip("addr", "add", "10.0.0.1/24", "dev", "eth0");
  a.ip("link", "set", "eth0", "up");
  const outerIndex = rtnetlink.getLink(connection, "eth0")!.index;
  rtnetlink.createVxlan(connection, vxlan("v.1", { linkIndex: outerIndex }));
  const link = rtnetlink.getLink(connection, "v.1")!;
  assert.ok(!link.isUp);
  rtnetlink.setLink(connection, link, { isUp: true });
  return { index: link.index, outerIndex };
}

/** `MAC HOST` of each FDB entry. */
function fdbTexts({ connection }: TestNamespace, index: number): string[] {
  return rtnetlink.listFdb(connection, index).map((e) => `${e.macAddress} ${e.address}`).sort();
}

/** Which deletes this place of the MAC; null: all of them. */
function deleteFdb(
  { connection }: TestNamespace,
  entry: Omit<NewFdbEntry, "address" | "state"> & { readonly address: IpAddress | null },
): void {
  connection.request(deleteFdbEntryRequest({ ...entry, vni: null, port: null }));
}

function putFdb({ connection }: TestNamespace, entry: NewFdbEntry, isReplace = false): void {
  connection.request(addFdbEntryRequest(entry, isReplace));
}

function putNeighbour({ connection }: TestNamespace, entry: NewNeighbour, isReplace = false): void {
  connection.request(addNeighbourRequest(entry, isReplace));
}

describe("tunnels in a fresh namespace", () => {
  test("VXLAN devices are as iproute2 sees them", () => {
    withNamespaces(2, (a, b) => {
      const { outerIndex: linkIndex } = build(a, b);
      const all = { vni: 2, isLearning: true, isProxy: true, isL2Miss: true, isGbp: true };
      const local = IpAddress.parse("fd00::1");
      rtnetlink.createVxlan(a.connection, vxlan("v6.2", { ...all, linkIndex, local, port: 0 }));
      const inner = [false, true].map((isSecond) => {
        const name = isSecond ? "v6.2" : "v.1";
        const [theirs] = a.ip("-d", "-j", "link", "show", "dev", name) as {
          address: string;
          mtu: number;
          txqlen?: number;
          linkinfo: { info_data: Record<string, unknown> };
        }[];
        const { linkinfo: { info_data: data }, address, mtu, txqlen } = theirs!;
        const link = rtnetlink.getLink(a.connection, name)!;
        const info = link.vxlan!;
        assert.deepEqual([link.kind, link.macAddress, link.mtu_bytes], ["vxlan", address, mtu]);
        assert.equal(txqlen ?? 0, 0);
        assert.deepEqual(
          [info.vni, `${info.local}`, info.port, info.isLearning],
          [data.id, data.local ?? data.local6, data.port, data.learning],
        );
        assert.deepEqual(
          [info.isProxy, info.isL2Miss, info.isL3Miss, info.isGbp, true],
          [data.proxy, data.l2miss, data.l3miss, data.gbp, data.udp_csum].map((v) => v ?? false),
        );
        assert.deepEqual([info.linkIndex, info.remote], [linkIndex, null]);
        return info;
      });
      assert.ok(inner[1]!.isLearning && inner[1]!.isGbp && !inner[0]!.isLearning);
      assert.equal(inner[1]!.port, 8472);
      const again = vxlan("v.3", { linkIndex });
      assert.throws(() => rtnetlink.createVxlan(a.connection, again), /VNI already exists/);
    });
  });

  test("IP-in-IP is made as asked, or the kernel has none", () => {
    withNamespaces(2, (a, b) => {
      const { outerIndex: linkIndex } = build(a, b);
      const local = IpAddress.parse("10.0.0.1");
      try {
        const tunnel = { name: "s.ipip", mtu_bytes: 1480, linkIndex, local };
        a.connection.request(createIpipRequest(tunnel));
      } catch (error) {
        assert.ok(hasErrno(error, "EOPNOTSUPP"), String(error));
        assert.equal(rtnetlink.getLink(a.connection, "s.ipip"), null);
        return;
      }
      const { ipip, mtu_bytes } = rtnetlink.getLink(a.connection, "s.ipip")!;
      const expected = { linkIndex, local, remote: null };
      assert.deepEqual([ipip, mtu_bytes], [expected, 1480]);
    });
  });

  test("neighbours are added, replaced, listed by link, deleted", () => {
    withNamespaces(2, (a, b) => {
      const { index, outerIndex } = build(a, b);
      const link = { linkIndex: index, linkName: "v.1" };
      const made = { macAddress: MAC, state: NUD_PERMANENT };
      const entries = ["10.5.1.0", "fd05::1"].map((text) => ({
        ...link,
        ...made,
        address: IpAddress.parse(text),
      }));
      for (const entry of entries) {
        putNeighbour(a, entry);
        const again = () => putNeighbour(a, entry);
        assert.throws(again, (error) => hasErrno(error, "EEXIST"));
        putNeighbour(a, { ...entry, macAddress: OTHER_MAC }, true);
        const { family } = entry.address;
        const found = rtnetlink.listNeighbours(a.connection, family, index)
          .filter(({ state }) => state === NUD_PERMANENT);
        const expected = {
          linkIndex: index,
          state: NUD_PERMANENT,
          address: entry.address,
          macAddress: OTHER_MAC,
        };
        assert.deepEqual(found, [expected]);
        const elsewhere = rtnetlink.listNeighbours(a.connection, family, outerIndex);
        assert.ok(!elsewhere.some(({ address }) => address.equals(entry.address)));
      }
      const theirs = a.ip("-j", "neigh", "show", "dev", "v.1", "nud", "permanent") as {
        dst: string;
        lladdr: string;
      }[];
      assert.deepEqual(theirs.map(({ dst, lladdr }) => `${dst} ${lladdr}`).sort(), [
        `10.5.1.0 ${OTHER_MAC}`,
        `fd05::1 ${OTHER_MAC}`,
      ]);
      for (const entry of entries) {
        a.connection.request(deleteNeighbourRequest(entry));
        const again = () => a.connection.request(deleteNeighbourRequest(entry));
        assert.throws(again, (error) => hasErrno(error, "ENOENT"));
      }
    });
  });

  test("an FDB entry has one host, which a replacement overwrites and nothing else does", () => {
    withNamespaces(2, (a, b) => {
      const { index } = build(a, b);
      const base = { linkIndex: index, linkName: "v.1", macAddress: MAC };
      const [first, second] = ["10.0.0.2", "10.0.0.3"].map((text) => ({
        ...base,
        state: NUD_PERMANENT,
        address: IpAddress.parse(text),
      }));
      putFdb(a, first!);
      const add = () => putFdb(a, second!);
      assert.throws(add, (error) => hasErrno(error, "EEXIST"));
      for (const flags of [NLM_F_CREATE, NLM_F_CREATE | NLM_F_APPEND]) {
        a.connection.request({ ...addFdbEntryRequest(second!, false), flags });
        assert.deepEqual(fdbTexts(a, index), [`${MAC} 10.0.0.2`]);
      }
      putFdb(a, { ...second!, state: NUD_REACHABLE }, true);
      const [entry, ...rest] = rtnetlink.listFdb(a.connection, index);
      assert.deepEqual([rest, `${entry!.address}`, entry!.state], [[], "10.0.0.3", NUD_REACHABLE]);
      const other = { ...second!, address: IpAddress.parse("fd00::3") };
      assert.throws(
        () => putFdb(a, other, true),
        (error) => hasErrno(error, "EAFNOSUPPORT"),
      );
      // The kernel says nothing of a deletion that names another host, and does nothing.
      deleteFdb(a, first!);
      assert.deepEqual(fdbTexts(a, index), [`${MAC} 10.0.0.3`]);
      deleteFdb(a, second!);
      assert.deepEqual(fdbTexts(a, index), []);
      const gone = () => deleteFdb(a, { ...base, address: null });
      assert.throws(gone, (error) => hasErrno(error, "ENOENT"));
    });
  });

  test("the station of zeros has several hosts, which go together or one by one", () => {
    withNamespaces(2, (a, b) => {
      const { index } = build(a, b);
      const base = { linkIndex: index, linkName: "v.1", state: NUD_PERMANENT };
      const macAddress = MacAddress.parse("00:00:00:00:00:00");
      const hosts = ["10.0.0.2", "10.0.0.3", "10.0.0.4"].map((text) => IpAddress.parse(text));
      for (const address of hosts) {
        const request = addFdbEntryRequest({ ...base, macAddress, address }, false);
        a.connection.request({ ...request, flags: NLM_F_CREATE | NLM_F_APPEND });
      }
      assert.equal(fdbTexts(a, index).length, 3);
      const entry = { ...base, macAddress, address: hosts[0]! };
      const replace = () => putFdb(a, entry, true);
      assert.throws(replace, (error) => hasErrno(error, "EOPNOTSUPP"));
      deleteFdb(a, entry);
      assert.equal(fdbTexts(a, index).length, 2);
      deleteFdb(a, { ...entry, address: null });
      assert.deepEqual(fdbTexts(a, index), []);
    });
  });
});
