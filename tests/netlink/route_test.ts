import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { PayloadWriter } from "../../src/netlink/attribute.ts";
import { NetlinkDecodeError } from "../../src/netlink/error.ts";
import { decodeRoute, RTMSG_SIZE } from "../../src/netlink/route.ts";
import {
  addRouteRequest,
  deleteRouteRequest,
  getRouteRequest,
  listRoutesRequest,
} from "../../src/netlink/route_request.ts";
import { embed, hex, toHex, wholeLengths } from "./hex.ts";

// As Linux 6.18 describes them:
/** 10.5.0.0/16 dev tun7 proto 83 scope link */
const ON_LINK = hex(`
  02 10 00 00 fe 53 fd 01 00000000 | 0800 0f00 fe000000 | 0800 0100 0a050000
  0800 0400 02000000`);
/** 10.7.0.0/16 proto static nexthop via 10.5.0.1 dev tun7 onlink nexthop via 10.5.0.2 weight 3 */
const MULTIPATH = hex(`
  02 10 00 00 fe 04 00 01 00000000 | 0800 0f00 fe000000 | 0800 0100 0a070000
  2400 0900 1000 04 00 02000000 0800 0500 0a050001 1000 00 02 02000000 0800 0500 0a050002`);
/** fd00::5 dev tun7 proto kernel metric 256 */
const V6 = hex(`
  0a 80 00 00 fe 02 00 01 00000000 | 0800 0f00 fe000000
  1400 0100 fd000000000000000000000000000005 | 0800 0600 00010000 | 0800 0400 02000000
  2400 0c00 ${"00".repeat(32)} | 0500 1400 00 000000`);
/** The way to 10.5.3.4 */
const LOOKED_UP = hex(`
  02 20 00 00 fe 00 00 01 00020000 | 0800 0f00 fe000000 | 0800 0100 0a050304
  0800 0400 02000000 | 0800 0700 0a050100 | 0800 1900 00000000
  2400 0c00 02000000 ${"00".repeat(28)}`);

function buffer(): PayloadWriter {
  return new PayloadWriter(new Uint8Array(128).fill(0xa5));
}

const SEEDED = { seed: 83, numRuns: 1000 };

describe("routes", () => {
  test("golden bytes in: a route on the link", () => {
    assert.deepEqual(decodeRoute(embed(ON_LINK)), {
      destination: IpPrefix.parse("10.5.0.0/16"),
      table: 254,
      protocol: 83,
      scope: 253,
      type: 1,
      tos: 0,
      isBySource: false,
      metric: 0,
      preferredSource: null,
      nextHops: [{ linkIndex: 2, gateway: null, isOnLink: false }],
      nexthopId: null,
      isCloned: false,
    });
  });

  test("golden bytes in: several next hops", () => {
    const route = decodeRoute(embed(MULTIPATH))!;
    assert.equal(route.protocol, 4);
    assert.deepEqual(route.nextHops, [
      { linkIndex: 2, gateway: IpAddress.parse("10.5.0.1"), isOnLink: true },
      { linkIndex: 2, gateway: IpAddress.parse("10.5.0.2"), isOnLink: false },
    ]);
  });

  test("golden bytes in: IPv6, and a look-up", () => {
    const v6 = decodeRoute(embed(V6))!;
    assert.equal(`${v6.destination}`, "fd00::5/128");
    assert.equal(v6.metric, 256);
    const found = decodeRoute(embed(LOOKED_UP))!;
    assert.equal(`${found.preferredSource}`, "10.5.1.0");
    assert.ok(found.isCloned);
  });

  test("a default route has no destination attribute, a drop no next hop", () => {
    const route = decodeRoute(hex("02 00 00 00 fe 03 00 06 00000000"))!;
    assert.equal(`${route.destination}`, "0.0.0.0/0");
    assert.deepEqual(route.nextHops, []);
  });

  test("an IPv4 route through an IPv6 gateway", () => {
    const via = "1600 1200 0a00 fe800000000000000000000000000001 0000";
    const bytes = (via: string) => hex(`${toHex(ON_LINK)} ${via}`);
    assert.equal(`${decodeRoute(bytes(via))!.nextHops[0]!.gateway}`, "fe80::1");
    assert.throws(() => decodeRoute(bytes("0a00 1200 0a00 fe800000 0000")), /RTA_VIA/);
    assert.throws(() => decodeRoute(bytes("0500 1200 0a 000000")), /RTA_VIA/);
  });

  test("golden bytes out", () => {
    const base = { linkIndex: 2, linkName: "tun7", protocol: 83 };
    const v4 = { ...base, destination: IpPrefix.parse("10.5.0.0/16"), gateway: null };
    const added = addRouteRequest(v4, false, buffer());
    assert.equal(
      toHex(added.payload),
      toHex(hex(`
        02 10 00 00 fe 53 fd 01 00000000 | 0800 0100 0a050000 | 0800 0400 02000000
        0800 0600 00000000`)),
    );
    assert.equal(added.type, 24);
    assert.equal(added.flags, 0x600);
    assert.equal(`${added.operation} ${added.object}`, "add route 10.5.0.0/16 dev tun7");
    const v6 = {
      ...base,
      destination: IpPrefix.parse("fd01::/48"),
      gateway: IpAddress.parse("fd00::9"),
      isOnLink: true,
    };
    const replaced = addRouteRequest(v6, true, buffer());
    assert.equal(replaced.flags, 0x500);
    assert.equal(
      toHex(replaced.payload),
      toHex(hex(`
        0a 30 00 00 fe 53 00 01 04000000 | 1400 0100 fd010000000000000000000000000000
        0800 0400 02000000 | 1400 0500 fd000000000000000000000000000009 | 0800 0600 00040000`)),
    );
    const deleted = deleteRouteRequest(decodeRoute(ON_LINK)!, "tun7", buffer());
    assert.equal(deleted.type, 25);
    assert.equal(
      toHex(deleted.payload),
      toHex(hex(`
        02 10 00 00 fe 53 ff 01 00000000 | 0800 0100 0a050000 | 0800 0f00 fe000000
        0800 0400 02000000 | 0800 0600 00000000`)),
    );
    const list = listRoutesRequest(6, 254, buffer());
    assert.equal(toHex(list.payload), toHex(hex("0a 00 00 00 fe 00 00 00 00000000")));
    const get = getRouteRequest(IpAddress.parse("10.5.3.4"), buffer());
    assert.equal(
      toHex(get.payload),
      toHex(hex("02 20 00 00 00 00 00 00 00000000 | 0800 0100 0a050304")),
    );
  });

  test("truncated at every length: refused, or it ends between two attributes", () => {
    for (const whole of [ON_LINK, MULTIPATH, V6, LOOKED_UP]) {
      const lengths = wholeLengths(whole, RTMSG_SIZE);
      for (let length = 0; length < whole.length; length++) {
        const decode = () => decodeRoute(whole.slice(0, length));
        if (lengths.has(length)) assert.ok(decode());
        else assert.throws(decode, NetlinkDecodeError, `${length}`);
      }
    }
  });

  test("lengths that lie are refused", () => {
    const long = ON_LINK.slice();
    long[1] = 33;
    assert.throws(() => decodeRoute(long), /prefix of 33 bits/);
    const v6 = V6.slice();
    v6[1] = 129;
    assert.throws(() => decodeRoute(v6), /prefix of 129 bits/);
    for (const length of [0, 7, 33]) {
      const hops = MULTIPATH.slice();
      hops[32] = length;
      assert.throws(() => decodeRoute(hops), /a next hop of/);
    }
  });

  test("any change of one byte is read or refused, and so are any bytes", () => {
    const whole = fc.constantFrom(ON_LINK, MULTIPATH, V6, LOOKED_UP);
    const noise = fc.uint8Array();
    fc.assert(
      fc.property(whole, fc.nat(), fc.nat(255), noise, (whole, place, value, noise) => {
        const changed = whole.slice();
        changed[place % whole.length] = value;
        for (const bytes of [changed, noise]) {
          try {
            decodeRoute(bytes);
          } catch (error) {
            assert.ok(error instanceof NetlinkDecodeError, String(error));
          }
        }
      }),
      SEEDED,
    );
  });
});
