import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { IpAddress } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { PayloadWriter } from "../../src/netlink/attribute.ts";
import { NetlinkDecodeError } from "../../src/netlink/error.ts";
import {
  decodeFdbEntry,
  decodeMiss,
  decodeNeighbour,
  NDMSG_SIZE,
  NUD_PERMANENT,
  NUD_REACHABLE,
  readNeighbourHeader,
} from "../../src/netlink/neighbour.ts";
import {
  addFdbEntryRequest,
  addNeighbourRequest,
  deleteFdbEntryRequest,
  deleteNeighbourRequest,
  listFdbRequest,
  listNeighboursRequest,
} from "../../src/netlink/neighbour_request.ts";
import type { NetlinkRequest } from "../../src/netlink/request.ts";
import { embed, hex, toHex, wholeLengths } from "./hex.ts";

// As Linux 6.18 writes them; NDA_PROBES and NDA_CACHEINFO are not read.
const CACHE_INFO = `1400 0300 ${"00".repeat(16)}`;
/** 10.5.1.0 dev #3 lladdr 02:00:00:00:00:03 PERMANENT proto 83 */
const V4 = hex(`
  02 00 0000 03000000 8000 00 01 | 0800 0100 0a050100 | 0a00 0200 020000000003 0000
  0800 0400 00000000 | ${CACHE_INFO} | 0500 0c00 53 000000`);
/** fd05::7 dev #4 FAILED */
const V6 = hex(`
  0a 00 0000 04000000 2000 00 01 | 1400 0100 fd050000000000000000000000000007
  0800 0400 06000000 | ${CACHE_INFO}`);
/** 02:00:00:00:00:02 dev #3 dst 10.0.0.3 port 4789 vni 9 self permanent */
const FDB = hex(`
  07 00 0000 03000000 8000 02 01 | 0a00 0200 020000000002 0000 | 0800 0100 0a000003
  0600 0600 12b5 0000 | 0800 0700 09000000 | ${CACHE_INFO}`);
// RTM_GETNEIGH: the neighbour table asks for an address, new and known; vxlan0 for a station.
const ASKED = hex(`
  02 00 0000 04000000 0100 00 01 | 0800 0100 0a050102 | 0800 0400 03000000 | ${CACHE_INFO}`);
const ASKED_AGAIN = hex(`
  02 00 0000 04000000 1000 00 01 | 0800 0100 0a050104 | 0a00 0200 020000000044 0000
  0800 0400 03000000 | ${CACHE_INFO}`);
const L2_MISS = hex(`
  02 00 0000 04000000 0400 00 01 | 0a00 0200 020000000033 0000 | 0800 0700 00000000
  ${CACHE_INFO}`);

const MAC = MacAddress.parse("02:00:00:00:00:03");
const SEEDED = { seed: 83, numRuns: 1000 };

describe("neighbours and FDB entries", () => {
  test("golden bytes in: neighbours", () => {
    assert.deepEqual(decodeNeighbour(embed(V4)), {
      linkIndex: 3,
      state: NUD_PERMANENT,
      address: IpAddress.parse("10.5.1.0"),
      macAddress: MAC,
    });
    const v6 = decodeNeighbour(embed(V6))!;
    assert.deepEqual([`${v6.address}`, v6.macAddress, v6.state], ["fd05::7", null, 0x20]);
  });

  test("golden bytes in: FDB entries", () => {
    assert.deepEqual(decodeFdbEntry(embed(FDB)), {
      linkIndex: 3,
      state: NUD_PERMANENT,
      macAddress: MacAddress.parse("02:00:00:00:00:02"),
      address: IpAddress.parse("10.0.0.3"),
      vni: 9,
      port: 4789,
    });
    const bare = decodeFdbEntry(FDB.slice(0, NDMSG_SIZE + 12))!;
    assert.deepEqual([bare.address, bare.vni, bare.port], [null, null, null]);
    const v6 = new PayloadWriter().u32(7).u32(3).u32(0).attributeMac(2, MAC)
      .attributeAddress(1, IpAddress.parse("fd00::3")).finish();
    assert.equal(`${decodeFdbEntry(v6)!.address}`, "fd00::3");
  });

  test("golden bytes in: what the kernel asks", () => {
    const texts = [ASKED, ASKED_AGAIN, L2_MISS].map((bytes) => {
      const { linkIndex, address, macAddress } = decodeMiss(embed(bytes))!;
      return `${linkIndex} ${address} ${macAddress}`;
    });
    assert.deepEqual(texts, [
      "4 10.5.1.2 null",
      "4 10.5.1.4 null",
      "4 null 02:00:00:00:00:33",
    ]);
  });

  test("the header alone tells whose it is", () => {
    const header = { familyCode: 7, linkIndex: 3, state: NUD_PERMANENT, flags: 2 };
    assert.deepEqual(readNeighbourHeader(embed(FDB)), header);
    for (let length = 0; length < NDMSG_SIZE; length++) {
      assert.throws(() => readNeighbourHeader(FDB.slice(0, length)), NetlinkDecodeError);
    }
  });

  test("other families, and entries without what they are told apart by, are left out", () => {
    assert.equal(decodeNeighbour(FDB), null);
    assert.equal(decodeFdbEntry(V4), null);
    assert.equal(decodeMiss(FDB), null);
    const empty = hex("02 00 0000 04000000 0100 00 01");
    assert.equal(decodeNeighbour(empty), null);
    assert.equal(decodeMiss(empty), null);
    assert.equal(decodeFdbEntry(hex("07 00 0000 04000000 0100 00 01")), null);
    // A tunnel's link address is an IP address.
    const tunnel = hex("02 00 0000 04000000 4000 00 01 0800 0100 0a050102 0800 0200 0a000001");
    assert.equal(decodeNeighbour(tunnel)!.macAddress, null);
  });

  test("truncated at every length: refused, or it ends between two attributes", () => {
    const cases = [
      [V4, decodeNeighbour],
      [V6, decodeNeighbour],
      [FDB, decodeFdbEntry],
      [ASKED_AGAIN, decodeMiss],
    ] as const;
    for (const [whole, decode] of cases) {
      const lengths = wholeLengths(whole, NDMSG_SIZE);
      for (let length = 0; length < whole.length; length++) {
        const run = () => decode(whole.slice(0, length));
        if (!lengths.has(length)) assert.throws(run, NetlinkDecodeError, `${length}`);
        else if (length > NDMSG_SIZE) assert.ok(run());
        else assert.equal(run(), null);
      }
    }
  });

  test("an address of the wrong size is refused; in an FDB entry it is none", () => {
    const wrong = hex("0a 00 0000 04000000 4000 00 01 0800 0100 0a050102");
    assert.throws(() => decodeNeighbour(wrong), /attribute 1: an IPv6 address of 4 bytes/);
    const odd = hex(
      "07 00 0000 04000000 4000 00 01 0a00 0200 020000000002 0000 0500 0100 0a 000000",
    );
    assert.equal(decodeFdbEntry(odd)!.address, null);
  });

  test("any change of one byte is read or refused, and so are any bytes", () => {
    const whole = fc.constantFrom(V4, V6, FDB, L2_MISS);
    fc.assert(
      fc.property(whole, fc.nat(), fc.nat(255), fc.uint8Array(), (whole, place, value, noise) => {
        const changed = whole.slice();
        changed[place % whole.length] = value;
        for (const decode of [decodeNeighbour, decodeFdbEntry, decodeMiss]) {
          for (const bytes of [changed, noise]) {
            try {
              decode(bytes);
            } catch (error) {
              assert.ok(error instanceof NetlinkDecodeError, String(error));
            }
          }
        }
      }),
      SEEDED,
    );
  });

  const LINK = { linkIndex: 3, linkName: "v.1" };
  const NEIGHBOUR = { ...LINK, address: IpAddress.parse("10.5.1.0"), macAddress: MAC };
  const ENTRY = { ...LINK, macAddress: MAC, address: IpAddress.parse("10.0.0.3") };
  const state = NUD_PERMANENT;

  test("golden bytes out", () => {
    const v6 = { ...NEIGHBOUR, address: IpAddress.parse("fd05::7"), state: NUD_REACHABLE };
    const own = { ...ENTRY, vni: null, port: null };
    const cases: [NetlinkRequest, number, number, string][] = [
      [
        addNeighbourRequest({ ...NEIGHBOUR, state }, false),
        28,
        0x600,
        "02 00 0000 03000000 8000 00 00 0800 0100 0a050100 0a00 0200 020000000003 0000",
      ],
      [
        addNeighbourRequest(v6, true),
        28,
        0x500,
        `0a 00 0000 03000000 0200 00 00 1400 0100 fd050000000000000000000000000007
         0a00 0200 020000000003 0000`,
      ],
      [
        deleteNeighbourRequest(NEIGHBOUR),
        29,
        0,
        "02 00 0000 03000000 0000 00 00 0800 0100 0a050100",
      ],
      [
        addFdbEntryRequest({ ...ENTRY, state }, true),
        28,
        0x500,
        `07 00 0000 03000000 8000 02 00 0a00 0200 020000000003 0000 0800 0100 0a000003`,
      ],
      [
        deleteFdbEntryRequest(own),
        29,
        0,
        `07 00 0000 03000000 0000 02 00 0a00 0200 020000000003 0000 0800 0100 0a000003`,
      ],
      [
        deleteFdbEntryRequest({ ...own, address: null, vni: 9, port: 4789 }),
        29,
        0,
        `07 00 0000 03000000 0000 02 00 0a00 0200 020000000003 0000
         0600 0600 12b5 0000 0800 0700 09000000`,
      ],
      [
        listNeighboursRequest(4, 3),
        30,
        0,
        "02 00 0000 00000000 0000 00 00 0800 0800 03000000",
      ],
      [
        listNeighboursRequest(6, 3),
        30,
        0,
        "0a 00 0000 00000000 0000 00 00 0800 0800 03000000",
      ],
      [listFdbRequest(3), 30, 0, "07 00 0000 03000000 0000 00 00"],
    ];
    for (const [request, type, flags, expected] of cases) {
      assert.equal(toHex(request.payload), toHex(hex(expected)), request.operation);
      assert.deepEqual([request.type, request.flags], [type, flags], request.operation);
    }
    assert.equal(
      addFdbEntryRequest({ ...ENTRY, state }, false).object,
      "02:00:00:00:00:03 dst 10.0.0.3 dev v.1",
    );
  });

  test("payloads of their own do not share bytes", () => {
    const first = addFdbEntryRequest({ ...ENTRY, state }, false).payload;
    const copy = toHex(first);
    listFdbRequest(9);
    deleteFdbEntryRequest({ ...ENTRY, vni: null, port: null });
    assert.equal(toHex(first), copy);
  });
});
