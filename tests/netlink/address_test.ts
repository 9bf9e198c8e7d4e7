import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { IpAddress } from "../../src/net/ip.ts";
import {
  addAddressRequest,
  decodeAddress,
  deleteAddressRequest,
  IFADDRMSG_SIZE,
  listAddressesRequest,
} from "../../src/netlink/address.ts";
import { PayloadWriter } from "../../src/netlink/attribute.ts";
import { NetlinkDecodeError } from "../../src/netlink/error.ts";
import { embed, hex, toHex, wholeLengths } from "./hex.ts";

/** As Linux 6.18 describes 10.5.1.0/32 on tun7. */
const V4 = hex(`
  02 20 80 00 02000000 | 0800 0100 0a050100 | 0800 0200 0a050100 | 0900 0300 74756e3700 000000
  0800 0800 80000000 | 1400 0600 ffffffff ffffffff 41510200 41510200`);
/** As it describes its fe80 address. */
const V6 = hex(`
  0a 40 80 fd 02000000 | 1400 0100 fe80000000000000 3a500c5b4b1d2715
  1400 0600 ffffffff ffffffff 41510200 41510200 | 0800 0800 80080000 | 0500 0b00 03 000000`);
const entry = { linkIndex: 2, linkName: "tun7" };

function buffer(): PayloadWriter {
  return new PayloadWriter(new Uint8Array(128).fill(0xa5));
}

const SEEDED = { seed: 83, numRuns: 1000 };

describe("addresses", () => {
  test("golden bytes in", () => {
    assert.deepEqual(decodeAddress(embed(V4)), {
      linkIndex: 2,
      address: IpAddress.parse("10.5.1.0"),
      prefixLength: 32,
      peer: null,
      scope: 0,
      flags: 0x80,
    });
    assert.deepEqual(decodeAddress(embed(V6)), {
      linkIndex: 2,
      address: IpAddress.parse("fe80::3a50:c5b:4b1d:2715"),
      prefixLength: 64,
      peer: null,
      scope: 253,
      flags: 0x880,
    });
  });

  test("a far end of its own is told from the address", () => {
    const bytes = hex("02 20 80 00 02000000 | 0800 0100 0a050102 | 0800 0200 0a050101");
    const decoded = decodeAddress(bytes);
    assert.equal(`${decoded?.address}`, "10.5.1.1");
    assert.equal(`${decoded?.peer}`, "10.5.1.2");
  });

  test("another family is left out", () => {
    assert.equal(decodeAddress(hex("2d 20 80 00 02000000")), null);
  });

  test("golden bytes out", () => {
    const v4 = { ...entry, address: IpAddress.parse("10.5.1.0"), prefixLength: 32 };
    const v6 = { ...entry, address: IpAddress.parse("fd00::5"), prefixLength: 128 };
    const local4 = "0800 0200 0a050100";
    const request = addAddressRequest(v4, false, buffer());
    assert.equal(
      toHex(request.payload),
      toHex(hex(`02 20 00 00 02000000 | ${local4} | 0800 0100 0a050100`)),
    );
    assert.equal(request.type, 20);
    assert.equal(request.flags, 0x600);
    assert.equal(`${request.operation} ${request.object}`, "add address 10.5.1.0/32 dev tun7");
    const replacing = addAddressRequest(v6, true, buffer());
    assert.equal(replacing.flags, 0x500);
    assert.equal(
      toHex(replacing.payload),
      toHex(hex(`
        0a 80 00 00 02000000 | 1400 0200 fd000000000000000000000000000005
        1400 0100 fd000000000000000000000000000005 | 0800 0800 02000000`)),
    );
    const deletion = deleteAddressRequest({ ...v4, peer: IpAddress.parse("10.5.1.9") }, buffer());
    assert.equal(deletion.type, 21);
    assert.equal(
      toHex(deletion.payload),
      toHex(hex(`02 20 00 00 02000000 | ${local4} | 0800 0100 0a050109`)),
    );
    assert.equal(toHex(listAddressesRequest(buffer()).payload), toHex(new Uint8Array(8)));
  });

  test("the scope follows from the address", () => {
    const scopes = {
      "127.0.0.1": 254,
      "169.254.1.1": 253,
      "10.0.0.1": 0,
      "fe80::1": 253,
      "::1": 254,
    };
    for (const [text, scope] of Object.entries(scopes)) {
      const address = IpAddress.parse(text);
      const { payload } = addAddressRequest({ ...entry, address, prefixLength: 32 }, false);
      assert.equal(payload[3], scope, text);
    }
  });

  test("truncated at every length: refused, or it ends between two attributes", () => {
    for (const [whole, first] of [[V4, 16], [V6, 28]] as const) {
      const lengths = wholeLengths(whole, IFADDRMSG_SIZE);
      for (let length = 0; length < whole.length; length++) {
        const decode = () => decodeAddress(whole.slice(0, length));
        if (lengths.has(length) && length >= first) assert.ok(decode());
        else assert.throws(decode, NetlinkDecodeError, `${length}`);
      }
    }
  });

  test("lengths that lie and any bytes are read or refused", () => {
    const place = fc.nat(V6.length - 1);
    fc.assert(
      fc.property(place, fc.nat(255), fc.uint8Array(), (place, value, noise) => {
        const changed = V6.slice();
        changed[place] = value;
        for (const bytes of [changed, noise]) {
          try {
            decodeAddress(bytes);
          } catch (error) {
            assert.ok(error instanceof NetlinkDecodeError, String(error));
          }
        }
      }),
      SEEDED,
    );
  });
});
