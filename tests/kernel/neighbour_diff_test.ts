import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { diffFdb, diffNeighbours } from "../../src/kernel/neighbour_diff.ts";
import type { KernelOperation } from "../../src/kernel/operation.ts";
import type { MissTable } from "../../src/kernel/state.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import {
  type FdbEntry,
  type Neighbour,
  NUD_DELAY,
  NUD_FAILED,
  NUD_INCOMPLETE,
  NUD_NOARP,
  NUD_PERMANENT,
  NUD_PROBE,
  NUD_REACHABLE,
  NUD_STALE,
} from "../../src/netlink/neighbour.ts";
import { linkOf } from "./fake_kernel.ts";

const mac = (last: string) => MacAddress.parse(`02:00:00:00:00:${last}`);
const LINK = linkOf({ index: 9, name: "selvage.1", kind: "vxlan", isUp: true });
const LEARNING = {
  ...LINK,
  vxlan: {
    vni: 1,
    linkIndex: 2,
    local: null,
    remote: null,
    port: 8472,
    isLearning: true,
    isProxy: false,
    isL2Miss: false,
    isL3Miss: false,
    isRouteShortCircuit: false,
    isGbp: false,
    isCollectMetadata: false,
  },
};

/** Two peers: 10.5.1.0/24 behind VTEP 01 at 192.0.2.1, and 10.5.2.0/24 likewise. */
function missTable(isFdbOnMiss: boolean): MissTable {
  const peers = ["1", "2"].map((n) => ({
    subnet: IpPrefix.parse(`10.5.${n}.0/24`),
    vtepMac: mac(`0${n}`),
    address: IpAddress.parse(`192.0.2.${n}`),
  }));
  return { linkName: "selvage.1", isFdbOnMiss, peers };
}
const ON_MISS = missTable(true);
const NEIGHBOURS_ON_MISS = missTable(false);

const desiredNeighbour = (address: string, last: string) => ({
  linkName: "selvage.1",
  address: IpAddress.parse(address),
  macAddress: mac(last),
  peerKey: address,
});
const desiredFdb = (last: string, address: string) => ({
  ...desiredNeighbour(address, last),
});

function neighbour(address: string, last: string | null, state = NUD_PERMANENT): Neighbour {
  const macAddress = last === null ? null : mac(last);
  return { linkIndex: 9, state, address: IpAddress.parse(address), macAddress };
}

function fdb(last: string, address: string | null, changes: Partial<FdbEntry> = {}): FdbEntry {
  return {
    linkIndex: 9,
    state: NUD_PERMANENT,
    macAddress: mac(last),
    address: address === null ? null : IpAddress.parse(address),
    vni: null,
    port: null,
    ...changes,
  };
}

function words(operation: KernelOperation): string {
  switch (operation.type) {
    case "put_neighbour":
      return `put ${operation.desired.address} ${operation.desired.macAddress}`;
    case "delete_neighbour":
      return `delete ${operation.neighbour.address}`;
    case "put_fdb":
      return `put ${operation.desired.macAddress} ${operation.desired.address}`;
    case "delete_fdb":
      return `delete ${operation.entry.macAddress} ${operation.entry.address}`;
    default:
      return operation.type;
  }
}

function neighbours(
  desired: ReturnType<typeof desiredNeighbour>[],
  actual: Neighbour[],
  misses: MissTable | null = null,
  isPartial = false,
): string[] {
  return diffNeighbours({ link: LINK, desired, actual, misses }, isPartial).map(words);
}

function entries(
  desired: ReturnType<typeof desiredFdb>[],
  actual: FdbEntry[],
  { misses = null as MissTable | null, isPartial = false, link = LINK } = {},
): string[] {
  return diffFdb({ link, desired, actual, misses }, isPartial).map(words);
}

describe("the difference of neighbours", () => {
  const WANTED = [desiredNeighbour("10.5.1.0", "01"), desiredNeighbour("fd05:1::", "61")];
  const THERE = [neighbour("10.5.1.0", "01"), neighbour("fd05:1::", "61")];

  test("is nothing when all are permanent and right", () => {
    assert.deepEqual(neighbours(WANTED, THERE), []);
  });

  test("what is missing, not permanent or wrong is put", () => {
    const put = ["put 10.5.1.0 02:00:00:00:00:01"];
    const others = THERE.slice(1);
    assert.deepEqual(neighbours(WANTED, others), put);
    for (
      const wrong of [
        neighbour("10.5.1.0", "99"),
        neighbour("10.5.1.0", null, NUD_FAILED),
        neighbour("10.5.1.0", null, NUD_INCOMPLETE),
        neighbour("10.5.1.0", "01", NUD_REACHABLE),
        neighbour("10.5.1.0", "01", NUD_STALE),
      ]
    ) assert.deepEqual(neighbours(WANTED, [wrong, ...others]), put);
  });

  test("a permanent one that nobody wants goes, also a peer's of before", () => {
    const foreign = [neighbour("10.5.9.0", "09"), neighbour("192.0.2.77", "01")];
    assert.deepEqual(neighbours(WANTED, [...THERE, ...foreign]), [
      "delete 10.5.9.0",
      "delete 192.0.2.77",
    ]);
  });

  test("what ages, is asked for, failed or needs no asking is left", () => {
    const kept = [
      neighbour("10.5.9.1", "09", NUD_REACHABLE),
      neighbour("10.5.9.2", "09", NUD_STALE),
      neighbour("10.5.9.3", "09", NUD_DELAY),
      neighbour("10.5.9.4", "09", NUD_PROBE),
      neighbour("10.5.9.5", null, NUD_INCOMPLETE),
      neighbour("10.5.9.6", "09", NUD_FAILED),
      neighbour("ff02::1", "01", NUD_NOARP),
      neighbour("224.0.0.22", null, NUD_NOARP),
    ];
    assert.deepEqual(neighbours(WANTED, [...THERE, ...kept]), []);
    // On demand, what is used must be what we would say.
    assert.deepEqual(neighbours([], kept, ON_MISS), [
      "delete 10.5.9.1",
      "delete 10.5.9.2",
      "delete 10.5.9.3",
      "delete 10.5.9.4",
    ]);
  });

  test("what thousands of askers left is removed, as nobody needs it", () => {
    const learnt = Array.from(
      { length: 1_000 },
      (_, i) => neighbour(`fe80::${(i + 1).toString(16)}`, "09", NUD_STALE),
    );
    assert.equal(neighbours(WANTED, [...THERE, ...learnt]).length, 1_000);
    assert.deepEqual(neighbours(WANTED, [...THERE, ...learnt.slice(0, 64)]), []);
    assert.deepEqual(neighbours(WANTED, [...THERE, ...learnt], null, true), []);
  });

  test("while peers are missing nothing is taken away, and what is wrong is put right", () => {
    const wrong = [neighbour("10.5.1.0", "99"), neighbour("10.5.9.0", "09")];
    assert.deepEqual(neighbours(WANTED, [...wrong, THERE[1]!], null, true), [
      "put 10.5.1.0 02:00:00:00:00:01",
    ]);
  });

  test("where they are made on demand, those that say what we would say stay", () => {
    for (const misses of [ON_MISS, NEIGHBOURS_ON_MISS]) {
      const actual = [
        neighbour("10.5.1.7", "01", NUD_REACHABLE),
        neighbour("10.5.2.7", "02", NUD_STALE),
        neighbour("10.5.1.8", "01"),
        neighbour("10.5.1.9", "02", NUD_REACHABLE),
        neighbour("10.5.3.1", "01", NUD_REACHABLE),
        neighbour("10.5.3.2", "03"),
        neighbour("10.5.3.3", null, NUD_FAILED),
        neighbour("ff02::1", "01", NUD_NOARP),
      ];
      assert.deepEqual(neighbours([], actual, misses), [
        "delete 10.5.1.9",
        "delete 10.5.3.1",
        "delete 10.5.3.2",
      ]);
      assert.deepEqual(neighbours([], actual, misses, true), []);
    }
  });
});

describe("the difference of FDB entries", () => {
  const WANTED = [desiredFdb("01", "192.0.2.1"), desiredFdb("02", "192.0.2.2")];
  const THERE = [fdb("01", "192.0.2.1"), fdb("02", "192.0.2.2")];
  const PUT = "put 02:00:00:00:00:01 192.0.2.1";

  test("is nothing when all are permanent and right", () => {
    assert.deepEqual(entries(WANTED, THERE), []);
  });

  test("one that is missing or elsewhere is put, which overwrites", () => {
    const others = THERE.slice(1);
    assert.deepEqual(entries(WANTED, others), [PUT]);
    for (
      const wrong of [
        fdb("01", "192.0.2.99"),
        fdb("01", null),
        fdb("01", "192.0.2.1", { state: NUD_REACHABLE }),
        fdb("01", "192.0.2.1", { vni: 7 }),
        fdb("01", "192.0.2.1", { port: 4789 }),
      ]
    ) assert.deepEqual(entries(WANTED, [wrong, ...others]), [PUT]);
  });

  test("a MAC has one place: others beside it go", () => {
    const more = [fdb("01", "192.0.2.98"), fdb("01", "192.0.2.1", { port: 4789 })];
    assert.deepEqual(entries(WANTED, [more[0]!, ...THERE, more[1]!]), [
      "delete 02:00:00:00:00:01 192.0.2.98",
      "delete 02:00:00:00:00:01 192.0.2.1",
    ]);
    // Where none is right, none may be the one that is replaced.
    assert.deepEqual(entries(WANTED, [...more, THERE[1]!]), [
      "delete 02:00:00:00:00:01 192.0.2.98",
      "delete 02:00:00:00:00:01 192.0.2.1",
      PUT,
    ]);
  });

  test("what nobody wants goes: permanent, learnt, and that for all MACs", () => {
    const foreign = [
      fdb("09", "192.0.2.9"),
      fdb("08", "192.0.2.8", { state: NUD_REACHABLE }),
      fdb("07", null),
      fdb("00", "192.0.2.7", { macAddress: MacAddress.parse("00:00:00:00:00:00") }),
    ];
    assert.deepEqual(entries(WANTED, [...THERE, ...foreign]), [
      "delete 02:00:00:00:00:09 192.0.2.9",
      "delete 02:00:00:00:00:08 192.0.2.8",
      "delete 02:00:00:00:00:07 null",
      "delete 00:00:00:00:00:00 192.0.2.7",
    ]);
  });

  test("with learning, what was learnt stays; what lasts does not", () => {
    const foreign = [
      fdb("08", "192.0.2.8", { state: NUD_REACHABLE }),
      fdb("07", "192.0.2.8", { state: NUD_STALE }),
      fdb("09", "192.0.2.9"),
      fdb("06", "192.0.2.9", { state: NUD_NOARP | NUD_PERMANENT }),
    ];
    assert.deepEqual(entries(WANTED, [...THERE, ...foreign], { link: LEARNING }), [
      "delete 02:00:00:00:00:09 192.0.2.9",
      "delete 02:00:00:00:00:06 192.0.2.9",
    ]);
  });

  test("while peers are missing nothing but what is in the way goes", () => {
    const actual = [fdb("01", "192.0.2.98"), ...THERE, fdb("09", "192.0.2.9")];
    assert.deepEqual(entries(WANTED, actual, { isPartial: true }), [
      "delete 02:00:00:00:00:01 192.0.2.98",
    ]);
  });

  test("made on demand, those that say what we would say stay", () => {
    const state = NUD_REACHABLE;
    const actual = [
      fdb("01", "192.0.2.1", { state }),
      fdb("02", "192.0.2.1", { state }),
      fdb("09", "192.0.2.9", { state }),
      fdb("02", "192.0.2.2"),
    ];
    const wrong = [
      "delete 02:00:00:00:00:02 192.0.2.1",
      "delete 02:00:00:00:00:02 192.0.2.2",
    ];
    const strange = "delete 02:00:00:00:00:09 192.0.2.9";
    assert.deepEqual(entries([], actual, { misses: ON_MISS, link: LEARNING }), wrong);
    assert.deepEqual(entries([], actual, { misses: ON_MISS }), [...wrong, strange]);
    // Generation 2 has them from the start.
    assert.deepEqual(entries(WANTED, [...THERE, actual[2]!], { misses: NEIGHBOURS_ON_MISS }), [
      strange,
    ]);
  });
});
