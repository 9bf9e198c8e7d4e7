import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { answerMiss } from "../../src/kernel/miss_answer.ts";
import { addressOfVtep, vtepOfAddress } from "../../src/kernel/miss_table.ts";
import type { MissTable } from "../../src/kernel/state.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import {
  decodeFdbEntry,
  decodeNeighbour,
  type Miss,
  NUD_REACHABLE,
  RTM_NEWNEIGH,
} from "../../src/netlink/neighbour.ts";

const ip = (text: string) => IpAddress.parse(text);
const macOf = (n: number) => MacAddress.parse(`02:00:00:00:00:${`${n}`.padStart(2, "0")}`);

/** Peers with 10.5.N.0/24 behind VTEP N at 192.0.2.N. */
function tableOf(numbers: readonly number[], isFdbOnMiss = true): MissTable {
  const peers = numbers.map((n) => ({
    subnet: IpPrefix.parse(`10.5.${n}.0/24`),
    vtepMac: macOf(n),
    address: ip(`192.0.2.${n}`),
  }));
  return { linkName: "selvage.1", isFdbOnMiss, peers };
}

const TABLE = tableOf([1, 2, 9]);

describe("a table of who is asked for", () => {
  test("finds the VTEP of every address of a subnet and of none beside it", () => {
    const found = (address: string) => vtepOfAddress(TABLE, ip(address))?.toString();
    for (const n of [1, 2, 9]) {
      for (const last of [0, 1, 254, 255]) assert.equal(found(`10.5.${n}.${last}`), `${macOf(n)}`);
    }
    for (
      const none of ["10.5.0.255", "10.5.3.0", "10.5.8.255", "10.5.10.0", "0.0.0.0", "fd05::1"]
    ) {
      assert.equal(found(none), undefined, none);
    }
    assert.equal(vtepOfAddress(tableOf([]), ip("10.5.1.1")), undefined);
  });

  test("finds where a VTEP is", () => {
    assert.equal(`${addressOfVtep(TABLE, macOf(2))}`, "192.0.2.2");
    assert.equal(addressOfVtep(TABLE, macOf(3)), undefined);
    assert.equal(addressOfVtep(tableOf([]), macOf(2)), undefined);
  });

  test("answers as looking through all peers does", () => {
    const numbers = fc.uniqueArray(fc.integer({ min: 0, max: 40 }));
    fc.assert(
      fc.property(numbers, fc.nat(45), fc.nat(255), (numbers, third, last) => {
        const table = tableOf(numbers.sort((a, b) => a - b));
        const address = ip(`10.5.${third}.${last}`);
        const expected = table.peers.find(({ subnet }) => subnet.contains(address));
        assert.equal(vtepOfAddress(table, address), expected?.vtepMac);
        const byMac = table.peers.find(({ vtepMac }) => vtepMac.equals(macOf(third)));
        assert.equal(addressOfVtep(table, macOf(third)), byMac?.address);
      }),
      { seed: 83, numRuns: 300 },
    );
  });
});

describe("the answer to what the kernel asks for", () => {
  const asked = (address: string | null, macAddress: MacAddress | null = null): Miss => ({
    linkIndex: 9,
    address: address === null ? null : ip(address),
    macAddress,
  });

  test("to an address: a neighbour that ages, in place of what is there", () => {
    for (const table of [TABLE, tableOf([1, 2, 9], false)]) {
      const request = answerMiss(asked("10.5.2.77"), table)!;
      assert.deepEqual([request.type, request.flags], [RTM_NEWNEIGH, 0x500]);
      assert.deepEqual(decodeNeighbour(request.payload), {
        linkIndex: 9,
        state: NUD_REACHABLE,
        address: ip("10.5.2.77"),
        macAddress: macOf(2),
      });
    }
  });

  test("to a MAC: an FDB entry that ages, where they are made on demand", () => {
    const request = answerMiss(asked(null, macOf(9)), TABLE)!;
    assert.deepEqual([request.type, request.flags], [RTM_NEWNEIGH, 0x500]);
    const entry = decodeFdbEntry(request.payload)!;
    assert.deepEqual([entry.linkIndex, entry.state], [9, NUD_REACHABLE]);
    assert.deepEqual([`${entry.macAddress}`, `${entry.address}`], [`${macOf(9)}`, "192.0.2.9"]);
    assert.equal(answerMiss(asked(null, macOf(9)), tableOf([9], false)), null);
  });

  test("to what nobody has: nothing", () => {
    for (
      const miss of [
        asked("10.5.3.1"),
        asked("203.0.113.1"),
        asked("fd05::1"),
        asked(null, macOf(3)),
        asked(null, MacAddress.parse("ff:ff:ff:ff:ff:ff")),
        asked(null),
      ]
    ) assert.equal(answerMiss(miss, TABLE), null);
  });
});
