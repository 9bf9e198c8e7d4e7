import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { MacAddress } from "../../src/net/mac_address.ts";

describe("MacAddress", () => {
  test("each form of Go's parser is the same address", () => {
    for (const text of ["EA:18:5c:b2:85:27", "ea-18-5C-b2-85-27", "ea18.5cb2.8527"]) {
      assert.equal(`${MacAddress.parse(text)}`, "ea:18:5c:b2:85:27");
    }
    assert.equal(JSON.stringify(MacAddress.parse("00:00:00:00:00:01")), '"00:00:00:00:00:01"');
  });

  const BAD = [
    "",
    "ea:18:5c:b2:85",
    "ea:18:5c:b2:85:27:00",
    "ea:18:5c-b2:85:27",
    "e:18:5c:b2:85:27",
    "eg:18:5c:b2:85:27",
    "ea185cb28527",
    "ea:18:5c:b2:85:27\n",
    // InfiniBand's and EUI-64, which Go takes too.
    "02:00:5e:10:00:00:00:01",
  ];
  for (const text of BAD) {
    test(`refused: ${JSON.stringify(text)}`, () => {
      assert.equal(MacAddress.tryParse(text), null);
      assert.throws(() => MacAddress.parse(text, "VtepMAC"), /VtepMAC .*: not six bytes/);
    });
  }

  test("bytes come out as they went in, through the text too", () => {
    const six = fc.uint8Array({ minLength: 6, maxLength: 6 });
    fc.assert(
      fc.property(six, (bytes) => {
        const mac = MacAddress.fromBytes(bytes);
        assert.deepEqual([...mac.toBytes()], [...bytes]);
        assert.ok(MacAddress.parse(`${mac}`).equals(mac));
        const isZero = bytes.every((byte) => byte === 0);
        assert.equal(mac.isUnicast(), bytes[0]! % 2 === 0 && !isZero);
      }),
      { seed: 1, examples: [[new Uint8Array(6)], [new Uint8Array(6).fill(255)]] },
    );
    assert.throws(() => MacAddress.fromBytes(new Uint8Array(5)), /of 5 bytes/);
  });

  test("a random one is a station's, locally administered, and another each time", () => {
    const all = Array.from({ length: 64 }, () => MacAddress.random());
    assert.equal(new Set(all.map(String)).size, all.length);
    for (const mac of all) {
      assert.ok(mac.isUnicast());
      assert.equal(mac.toBytes()[0]! & 0x02, 0x02);
    }
    // The other bits of the first byte are random too.
    assert.ok(new Set(all.map((mac) => mac.toBytes()[0])).size > 8);
  });
});
