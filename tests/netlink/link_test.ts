import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { PayloadWriter } from "../../src/netlink/attribute.ts";
import { NetlinkDecodeError } from "../../src/netlink/error.ts";
import { decodeLink, IFINFOMSG_SIZE } from "../../src/netlink/link.ts";
import {
  checkLinkName,
  createBridgeRequest,
  createVethRequest,
  deleteLinkRequest,
  getLinkRequest,
  listLinksRequest,
  setLinkRequest,
} from "../../src/netlink/link_request.ts";
import type { NetlinkRequest } from "../../src/netlink/request.ts";
import { embed, hex, toHex, wholeLengths } from "./hex.ts";

/** A TUN device as Linux 6.18 describes it, with the attributes that are read. */
const TUN = hex(`
  0000 feff 02000000 91100000 00000000
  0900 0300 74756e3700 000000 | 0800 0400 c0050000 | 0500 1000 06 000000
  3800 1200 0800 0100 74756e00
    2c00 0200 0500 0300 01 000000 0500 0400 00 000000 0500 0500 01 000000
              0500 0600 00 000000 0500 0700 01 000000`);
/** A port of a bridge. */
const VETH = hex(`
  0000 0100 03000000 43100100 00000000
  0700 0300 763000 00 | 0800 0400 78050000 | 0a00 0100 020000000001 0000
  0800 0a00 05000000 | 1000 1200 0900 0100 7665746800 000000`);

function payloadInto(build: (writer: PayloadWriter) => NetlinkRequest): NetlinkRequest {
  return build(new PayloadWriter(new Uint8Array(256).fill(0xa5)));
}

const SEEDED = { seed: 83, numRuns: 1000 };

describe("links", () => {
  test("golden bytes in: a TUN device", () => {
    assert.deepEqual(decodeLink(embed(TUN)), {
      index: 2,
      name: "tun7",
      flags: 0x1091,
      isUp: true,
      isLoopback: false,
      mtu_bytes: 1472,
      queueLength: null,
      macAddress: null,
      masterIndex: null,
      operState: "up",
      kind: "tun",
      hasArp: false,
      vxlan: null,
      ipip: null,
      tun: {
        mode: "tun",
        hasPacketInfo: false,
        hasVnetHeader: true,
        isPersistent: false,
        isMultiQueue: true,
      },
    });
  });

  test("golden bytes in: a port of a bridge", () => {
    const link = decodeLink(embed(VETH));
    assert.equal(link.macAddress, "02:00:00:00:00:01");
    assert.equal(link.masterIndex, 5);
    assert.equal(link.kind, "veth");
    assert.equal(link.tun, null);
    assert.equal(link.operState, "unknown");
  });

  test("golden bytes out: a veth pair in two namespaces", () => {
    const request = payloadInto((writer) =>
      createVethRequest({
        name: "v0",
        mtu_bytes: 1400,
        macAddress: "02:00:00:00:00:01",
        netnsFd: 7,
        peer: { name: "v1", netnsFd: 8 },
      }, writer)
    );
    const expected = hex(`
      0000 0000 00000000 00000000 00000000
      0700 0300 763000 00 | 0800 0400 78050000 | 0a00 0100 020000000001 0000 | 0800 1c00 07000000
      3800 1280 0900 0100 7665746800 000000
        2800 0280 2400 0100 0000 0000 00000000 00000000 00000000
                            0700 0300 763100 00 0800 1c00 08000000`);
    assert.equal(toHex(request.payload), toHex(expected));
    assert.equal(request.type, 16);
    assert.equal(request.flags, 0x600);
    assert.equal(`${request.operation} ${request.object}`, "create veth v0");
  });

  test("golden bytes out: bridge, change, look-up, list, delete", () => {
    const requests: [NetlinkRequest, number, string][] = [
      [
        payloadInto((writer) => createBridgeRequest({ name: "br0" }, writer)),
        16,
        `0000 0000 00000000 00000000 00000000 | 0800 0300 62723000
         1000 1280 0b00 0100 62726964676500 00`,
      ],
      [
        payloadInto((writer) =>
          setLinkRequest({ index: 2, name: "a" }, {
            isUp: true,
            mtu_bytes: 1472,
            masterIndex: null,
            newName: "b",
            netnsFd: 9,
          }, writer)
        ),
        19,
        `0000 0000 02000000 01000000 01000000 | 0800 0400 c0050000 | 0800 0a00 00000000
         0600 0300 6200 0000 | 0800 1c00 09000000`,
      ],
      [
        payloadInto((writer) => setLinkRequest({ index: 2, name: "a" }, { isUp: false }, writer)),
        19,
        "0000 0000 02000000 00000000 01000000",
      ],
      [
        payloadInto((writer) => getLinkRequest("tun7", writer)),
        18,
        "0000 0000 00000000 00000000 00000000 | 0900 0300 74756e3700 000000",
      ],
      [payloadInto(listLinksRequest), 18, "0000 0000 00000000 00000000 00000000"],
      [
        payloadInto((writer) => deleteLinkRequest({ index: 258, name: "a" }, writer)),
        17,
        "0000 0000 02010000 00000000 00000000",
      ],
    ];
    for (const [request, type, expected] of requests) {
      assert.equal(toHex(request.payload), toHex(hex(expected)), request.operation);
      assert.equal(request.type, type);
    }
  });

  test("truncated at every length: refused, or it ends between two attributes", () => {
    for (const whole of [TUN, VETH]) {
      const lengths = wholeLengths(whole, IFINFOMSG_SIZE);
      for (let length = 0; length < whole.length; length++) {
        const decode = () => decodeLink(whole.slice(0, length));
        // Without its name, the first attribute, it is no link.
        if (lengths.has(length) && length > IFINFOMSG_SIZE) assert.ok(decode());
        else assert.throws(decode, NetlinkDecodeError, `${length}`);
      }
    }
  });

  test("any change of one byte is read or refused, and so are any bytes", () => {
    const place = fc.nat(TUN.length - 1);
    fc.assert(
      fc.property(place, fc.nat(255), fc.uint8Array(), (place, value, noise) => {
        const changed = TUN.slice();
        changed[place] = value;
        for (const bytes of [changed, noise]) {
          try {
            decodeLink(bytes);
          } catch (error) {
            assert.ok(error instanceof NetlinkDecodeError, String(error));
          }
        }
      }),
      SEEDED,
    );
  });

  test("names and MAC addresses are checked as the kernel does", () => {
    for (
      const name of ["", ".", "..", "a/b", "a:b", "a b", "a\0b", "0123456789abcdef", "ääääääää"]
    ) {
      assert.throws(() => checkLinkName(name), /interface name/, name);
    }
    assert.equal(checkLinkName("0123456789abcde"), "0123456789abcde");
    for (const mac of ["", "02:00:00:00:00", "02:00:00:00:00:0g"]) {
      const link = { index: 1, name: "eth0" };
      assert.throws(() => setLinkRequest(link, { macAddress: mac }), /MAC address/, mac);
    }
  });
});
