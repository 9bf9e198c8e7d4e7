import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { IpAddress } from "../../src/net/ip.ts";
import { Attributes, parseAttributes, PayloadWriter } from "../../src/netlink/attribute.ts";
import { NetlinkDecodeError } from "../../src/netlink/error.ts";
import { embed, hex, toHex } from "./hex.ts";

/** Text "ab", a u32, a nested attribute with a u8 of 9 in it. */
const GOLDEN = hex("0700 0300 616200 00 | 0800 0400 dc050000 | 0c00 1280 0500 0100 09 000000");

describe("netlink attributes", () => {
  test("golden bytes in", () => {
    const attributes = Attributes.parse(embed(GOLDEN), "test");
    assert.equal(attributes.text(3), "ab");
    assert.equal(attributes.u32(4), 1500);
    assert.equal(attributes.nested(18)?.u8(1), 9);
    for (const absent of [attributes.text(1), attributes.u8(1), attributes.u32(1)]) {
      assert.equal(absent, undefined);
    }
    assert.equal(attributes.bytes(1), undefined);
    assert.equal(attributes.address(1, 4), undefined);
    assert.equal(attributes.nested(1), undefined);
  });

  test("golden bytes out: padding is written, nothing is written after it", () => {
    const buffer = new Uint8Array(GOLDEN.length + 4).fill(0xa5);
    const writer = new PayloadWriter(buffer);
    writer.attributeText(3, "ab").attributeU32(4, 1500);
    writer.nested(18 | 0x8000, () => writer.attribute(1, hex("09")));
    assert.equal(toHex(writer.finish()), toHex(GOLDEN));
    assert.equal(toHex(buffer.subarray(GOLDEN.length)), "a5 a5 a5 a5");
  });

  test("numbers in network byte order, negative ones too", () => {
    const writer = new PayloadWriter().u16be(0x0102).u16(0).attributeU32be(5, -7);
    const bytes = hex("0102 0000 | 0800 0500 fffffff9");
    assert.equal(toHex(writer.finish()), toHex(bytes));
    const attributes = Attributes.parse(bytes.subarray(4), "test");
    assert.equal(attributes.u32be(5), 0xfffffff9);
    assert.equal(attributes.u32be(6), undefined);
    assert.throws(
      () => Attributes.parse(hex("06000500 0102"), "test").u32be(5),
      NetlinkDecodeError,
    );
  });

  test("a list keeps all of one type, in their order", () => {
    const list = parseAttributes(hex("05000180 01000000 05000100 02000000"), "test");
    assert.deepEqual(list, [{ type: 1, value: hex("01") }, { type: 1, value: hex("02") }]);
  });

  test("a buffer that is too small is refused", () => {
    for (let length = 0; length < 12; length++) {
      const writer = new PayloadWriter(new Uint8Array(length));
      const address = IpAddress.parse("10.0.0.1");
      assert.throws(() => writer.u32(1).attributeAddress(1, address), RangeError);
    }
  });

  test("of several attributes of one type the last counts, as in the kernel", () => {
    assert.equal(Attributes.parse(hex("05000100 01000000 05000100 02000000"), "test").u8(1), 2);
  });

  test("text ends at its NUL, or with its attribute", () => {
    assert.equal(Attributes.parse(hex("08000100 61006200"), "test").text(1), "a");
    assert.equal(Attributes.parse(hex("06000100 6162 0000"), "test").text(1), "ab");
    assert.equal(Attributes.parse(hex("04000100"), "test").text(1), "");
  });

  test("truncated at every length: refused, or it ends between two attributes", () => {
    const ends = [0, 7, 8, 16];
    for (let length = 0; length < GOLDEN.length; length++) {
      const parse = () => Attributes.parse(GOLDEN.slice(0, length), "test");
      if (ends.includes(length)) parse();
      else assert.throws(parse, NetlinkDecodeError, `${length}`);
    }
  });

  test("lengths that lie are refused, and the error names the place", () => {
    for (const length of [0, 3, GOLDEN.length + 1, 0xffff]) {
      const bytes = GOLDEN.slice();
      new DataView(bytes.buffer).setUint16(0, length, true);
      assert.throws(() => Attributes.parse(bytes, "test"), /test: attribute 3 has a length/);
    }
    const inner = GOLDEN.slice();
    inner[20] = 9;
    assert.throws(
      () => Attributes.parse(inner, "test").nested(18),
      /test, attribute 18: attribute 1/,
    );
  });

  test("a value of the wrong size is refused", () => {
    const attributes = Attributes.parse(hex("07000100 010203 00"), "test");
    for (const read of [() => attributes.u8(1), () => attributes.u32(1)]) {
      assert.throws(read, /test: attribute 1 has 3 bytes/);
    }
    for (const family of [4, 6] as const) {
      assert.throws(() => attributes.address(1, family), NetlinkDecodeError);
    }
  });
});
