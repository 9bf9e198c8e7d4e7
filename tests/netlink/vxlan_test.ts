import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { IpAddress } from "../../src/net/ip.ts";
import { Attributes, PayloadWriter } from "../../src/netlink/attribute.ts";
import { NetlinkDecodeError } from "../../src/netlink/error.ts";
import { decodeIpipInfo } from "../../src/netlink/ipip.ts";
import { decodeLink, IFINFOMSG_SIZE } from "../../src/netlink/link.ts";
import { createIpipRequest, createVxlanRequest } from "../../src/netlink/link_request.ts";
import { decodeVxlanInfo } from "../../src/netlink/vxlan.ts";
import { embed, hex, toHex, wholeLengths } from "./hex.ts";

// IFLA_INFO_DATA as Linux 6.18 writes it:
/** id 7 remote 10.0.0.9 dev #3 local 10.0.0.1 dstport 4789 nolearning proxy gbp ttl 5 */
const V4 = hex(`
  0800 0100 07000000 | 0800 0200 0a000009 | 0800 0300 03000000 | 0800 0400 0a000001
  0500 0500 05 000000 | 0500 1c00 00 000000 | 0500 0600 00 000000 | 0500 1d00 00 000000
  0800 1a00 00000000 | 0800 2000 00000000 | 0500 0700 00 000000 | 0500 0b00 01 000000
  0500 0c00 00 000000 | 0500 0d00 00 000000 | 0500 0e00 00 000000 | 0500 1900 00 000000
  0800 0800 2c010000 | 0800 0900 00000000 | 0600 0f00 12b5 0000 | 0500 1200 01 000000
  0500 1300 00 000000 | 0500 1400 00 000000 | 0800 0a00 00000000 | 0400 1700`);
/** id 8 local fd00::1 dev #3 dstport 8472 */
const V6 = hex(`
  0800 0100 08000000 | 0800 0300 03000000 | 1400 1100 fd000000000000000000000000000001
  0500 0700 01 000000 | 0800 0800 2c010000 | 0600 0f00 2118 0000 | 0500 1200 01 000000`);
/** local 10.0.0.1 remote any dev #2 ttl inherit pmtudisc (linux/if_tunnel.h) */
const IPIP = hex(`
  0800 0100 02000000 | 0800 0200 0a000001 | 0800 0300 00000000 | 0500 0400 00 000000
  0500 0500 00 000000 | 0500 0900 04 000000 | 0500 0a00 01 000000 | 0600 0f00 0000 0000`);

const vxlan = (bytes: Uint8Array) => decodeVxlanInfo(Attributes.parse(bytes, "test"));
const ipip = (bytes: Uint8Array) => decodeIpipInfo(Attributes.parse(bytes, "test"));

function buffer(): PayloadWriter {
  return new PayloadWriter(new Uint8Array(256).fill(0xa5));
}

describe("VXLAN and IP-in-IP links", () => {
  test("golden bytes in: VXLAN over IPv4", () => {
    assert.deepEqual(vxlan(embed(V4)), {
      vni: 7,
      linkIndex: 3,
      local: IpAddress.parse("10.0.0.1"),
      remote: IpAddress.parse("10.0.0.9"),
      port: 4789,
      isLearning: false,
      isProxy: true,
      isRouteShortCircuit: false,
      isL2Miss: false,
      isL3Miss: false,
      isGbp: true,
      isCollectMetadata: false,
    });
  });

  test("golden bytes in: VXLAN over IPv6; what is not there is off or null", () => {
    const info = vxlan(embed(V6));
    assert.deepEqual([`${info.local}`, info.remote, info.port], ["fd00::1", null, 8472]);
    assert.ok(info.isLearning && !info.isGbp && !info.isProxy);
    const empty = vxlan(new Uint8Array(0));
    assert.deepEqual([empty.vni, empty.linkIndex, empty.local, empty.remote], [
      0,
      null,
      null,
      null,
    ]);
  });

  test("each switch is read from its own attribute", () => {
    const types = {
      isLearning: 7,
      isProxy: 11,
      isRouteShortCircuit: 12,
      isL2Miss: 13,
      isL3Miss: 14,
      isCollectMetadata: 25,
    };
    for (const [name, type] of Object.entries(types)) {
      const info = vxlan(buffer().attributeU8(type, 1).finish());
      const on = Object.entries(info).filter(([, value]) => value === true).map(([key]) => key);
      assert.deepEqual(on, [name]);
    }
  });

  test("golden bytes in: IP-in-IP", () => {
    assert.deepEqual(ipip(embed(IPIP)), {
      local: IpAddress.parse("10.0.0.1"),
      remote: null,
      linkIndex: 2,
    });
  });

  test("a link has the settings of its own kind alone", () => {
    for (const [kind, data] of [["vxlan", V4], ["ipip", IPIP], ["other", V4]] as const) {
      const writer = buffer().u32(0).u32(9).u32(0).u32(0).attributeText(3, "x");
      writer.nested(18, () => writer.attributeText(1, kind).attribute(2, data));
      const link = decodeLink(writer.finish());
      assert.deepEqual(link.vxlan, kind === "vxlan" ? vxlan(V4) : null);
      assert.deepEqual(link.ipip, kind === "ipip" ? ipip(IPIP) : null);
      assert.equal(link.tun, null);
    }
  });

  test("truncated at every length: refused, or it ends between two attributes", () => {
    for (const [whole, decode] of [[V4, vxlan], [V6, vxlan], [IPIP, ipip]] as const) {
      const lengths = wholeLengths(whole, 0);
      for (let length = 0; length < whole.length; length++) {
        const run = () => decode(whole.slice(0, length));
        if (lengths.has(length)) assert.ok(run());
        else assert.throws(run, NetlinkDecodeError, `${length}`);
      }
    }
  });

  test("golden bytes out: VXLAN", () => {
    const request = createVxlanRequest({
      name: "v.1",
      mtu_bytes: 1450,
      macAddress: "02:00:00:00:00:01",
      vni: 1,
      linkIndex: 2,
      local: IpAddress.parse("10.0.0.1"),
      port: 8472,
      isLearning: false,
      isProxy: true,
      isL2Miss: true,
      isGbp: true,
    }, buffer());
    const expected = hex(`
      0000 0000 00000000 00000000 00000000
      0800 0300 762e3100 | 0800 0400 aa050000 | 0a00 0100 020000000001 0000 | 0800 0d00 00000000
      5800 1280 0a00 0100 76786c616e00 0000
        4800 0280 0800 0100 01000000 | 0800 0300 02000000 | 0800 0400 0a000001
                  0600 0f00 2118 0000 | 0500 0700 00 000000 | 0500 0b00 01 000000
                  0500 0d00 01 000000 | 0500 1200 01 000000 | 0400 1700`);
    assert.equal(toHex(request.payload), toHex(expected));
    assert.equal(request.type, 16);
    assert.equal(request.flags, 0x600);
    assert.equal(`${request.operation} ${request.object}`, "create vxlan v.1 vni=1");
  });

  test("golden bytes out: IP-in-IP", () => {
    const local = IpAddress.parse("10.0.0.1");
    const request = createIpipRequest(
      { name: "s.ipip", mtu_bytes: 1480, linkIndex: 2, local },
      buffer(),
    );
    const expected = hex(`
      0000 0000 00000000 00000000 00000000
      0b00 0300 732e6970697000 00 | 0800 0400 c8050000
      2c00 1280 0900 0100 6970697000 000000
        1c00 0280 0800 0100 02000000 | 0800 0200 0a000001 | 0500 0a00 00 000000`);
    assert.equal(toHex(request.payload), toHex(expected));
    assert.equal(request.payload[IFINFOMSG_SIZE], 11);
  });

  test("what is any is left out; IPv6 has an attribute of its own", () => {
    const any = { linkIndex: null, local: null };
    const off = { isLearning: false, isProxy: false, isL2Miss: false, isGbp: false };
    const infoOf = (local: IpAddress | null) => {
      const request = createVxlanRequest({ name: "v", ...any, ...off, local, vni: 5, port: 1 });
      return decodeLink(request.payload).vxlan!;
    };
    assert.deepEqual(infoOf(null).local, null);
    assert.equal(`${infoOf(IpAddress.parse("fd00::1")).local}`, "fd00::1");
    assert.deepEqual([infoOf(null).linkIndex, infoOf(null).port], [null, 1]);
    const tunnel = decodeLink(createIpipRequest({ name: "i", ...any }).payload);
    assert.deepEqual(tunnel.ipip, { ...any, remote: null });
  });
});
