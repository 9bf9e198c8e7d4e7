import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { IpAddress } from "../../src/net/ip.ts";
import { NetlinkDecodeError } from "../../src/netlink/error.ts";
import {
  decodeNexthop,
  deleteNexthopRequest,
  type NewNexthop,
  putNexthopRequest,
} from "../../src/netlink/nexthop.ts";
import { createBridge, listNexthops } from "../../src/netlink/rtnetlink.ts";
import { embed, hex, toHex, wholeLengths } from "./hex.ts";
import { withNamespaces } from "./namespace.ts";

/** id 7 via 10.5.1.0 dev #3 proto 83 onlink */
const V4 = hex(`
  02 00 53 00 04000000 | 0800 0100 07000000 | 0800 0500 03000000 | 0800 0600 0a050100`);
const HEADER_BYTES = 8;
const VIA: NewNexthop = {
  id: 7,
  protocol: 83,
  linkIndex: 3,
  linkName: "v.1",
  gateway: IpAddress.parse("10.5.1.0"),
  isOnLink: true,
};

describe("nexthop objects", () => {
  test("golden bytes in", () => {
    const { linkName: _, ...object } = VIA;
    assert.deepEqual(decodeNexthop(embed(V4)), object);
    const group = decodeNexthop(
      hex("00 00 04 00 00000000 0800 0100 09000000 0c00 0200 0700000000000000"),
    );
    assert.deepEqual([group.id, group.protocol, group.linkIndex, group.gateway], [9, 4, 0, null]);
  });

  test("golden bytes out", () => {
    const put = putNexthopRequest(VIA);
    assert.equal(toHex(put.payload), toHex(V4));
    assert.deepEqual([put.type, put.flags, put.object], [104, 0x500, "via 10.5.1.0 dev v.1"]);
    const gone = deleteNexthopRequest(7);
    assert.equal(toHex(gone.payload), toHex(hex("00 00 00 00 00000000 0800 0100 07000000")));
    assert.equal(gone.type, 105);
  });

  test("truncated at every length: refused, or it ends between two attributes", () => {
    const lengths = wholeLengths(V4, HEADER_BYTES);
    for (let length = 0; length < V4.length; length++) {
      const run = () => decodeNexthop(V4.slice(0, length));
      // Without its number it is none.
      if (!lengths.has(length) || length === HEADER_BYTES) {
        assert.throws(run, NetlinkDecodeError, `${length}`);
      } else {
        assert.equal(run().id, 7);
      }
    }
  });

  test("any bytes are read or refused", () => {
    fc.assert(
      fc.property(fc.nat(V4.length - 1), fc.nat(255), (place, value) => {
        const changed = V4.slice();
        changed[place] = value;
        try {
          decodeNexthop(changed);
        } catch (error) {
          assert.ok(error instanceof NetlinkDecodeError, String(error));
        }
      }),
      { seed: 83, numRuns: 1000 },
    );
  });

  test("the kernel has what it was given, and what others gave it", () => {
    withNamespaces(1, ({ connection, ip }) => {
      createBridge(connection, { name: "br0" });
      ip("link", "set", "br0", "up");
      ip("addr", "add", "10.1.0.1/24", "dev", "br0");
      const [{ ifindex }] = ip("-j", "link", "show", "br0") as [{ ifindex: number }];
      const far = { ...VIA, id: 0x0a050100, linkIndex: ifindex, linkName: "br0" };
      connection.request(putNexthopRequest(far));
      connection.request(putNexthopRequest({ ...far, gateway: IpAddress.parse("10.5.2.0") }));
      ip(..."nexthop add id 3 via fe80::1 dev br0 proto static".split(" "));
      const found = listNexthops(connection)!.map(({ id, protocol, gateway, isOnLink }) =>
        `${id} ${protocol} ${gateway} ${isOnLink}`
      );
      assert.deepEqual(found, ["3 4 fe80::1 false", `${0x0a050100} 83 10.5.2.0 true`]);
      connection.request(deleteNexthopRequest(far.id));
      assert.equal(listNexthops(connection)!.length, 1);
    });
  });
});
