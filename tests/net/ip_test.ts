import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { isIP } from "node:net";
import fc from "fast-check";
import { bitsOf, type Family, IpAddress, IpPrefix, ofFamily } from "../../src/net/ip.ts";

const SEED = 4291;

const family = fc.constantFrom<Family>(4, 6);

/** Addresses with many zero bytes, so that runs of zero groups are common. */
const address = family.chain((family) =>
  fc.array(fc.oneof(fc.constant(0), fc.constant(255), fc.nat(255)), {
    minLength: bitsOf(family) / 8,
    maxLength: bitsOf(family) / 8,
  })
).map((bytes) => IpAddress.fromBytes(Uint8Array.from(bytes)));

const prefix = address.chain((address) =>
  fc.nat(bitsOf(address.family)).map((length) => IpPrefix.of(address, length))
);

function check<T extends [unknown, ...unknown[]]>(property: fc.IProperty<T>): void {
  fc.assert(property, { seed: SEED, numRuns: 500 });
}

describe("an address", () => {
  test("is written as RFC 5952 says", () => {
    const rows: [string, string][] = [
      // Section 4.1: no leading zeros.
      ["2001:0db8::0001", "2001:db8::1"],
      ["2001:db8:0000:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
      // Section 4.2.1: as short as can be.
      ["2001:db8:0:0:0:0:2:1", "2001:db8::2:1"],
      // Section 4.2.2: one zero group alone is not shortened.
      ["2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
      // Section 4.2.3: the longest run, and of equals the first.
      ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
      ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
      // Section 4.3: lower case.
      ["2001:DB8::ABCD", "2001:db8::abcd"],
      ["0:0:0:0:0:0:0:0", "::"],
      ["0:0:0:0:0:0:0:1", "::1"],
      ["1:0:0:0:0:0:0:0", "1::"],
      ["0:0:1:1:1:1:1:1", "::1:1:1:1:1:1"],
      ["1:1:1:1:1:1:0:0", "1:1:1:1:1:1::"],
      ["::ffff:192.0.2.1", "::ffff:c000:201"],
      ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
      ["1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"],
      ["0.0.0.0", "0.0.0.0"],
      ["255.255.255.255", "255.255.255.255"],
      ["10.5.0.1", "10.5.0.1"],
    ];
    for (const [text, expected] of rows) {
      assert.equal(IpAddress.parse(text).toString(), expected, text);
      assert.equal(JSON.stringify([IpAddress.parse(text)]), `["${expected}"]`);
    }
  });

  test("is read strictly", () => {
    const wrong = [
      "",
      " ",
      "1",
      "1.2.3",
      "1.2.3.4.5",
      "1..2.3",
      ".1.2.3",
      "1.2.3.",
      "01.2.3.4",
      "010.0.0.1",
      "0x10.1.1.1",
      "1.2.3.256",
      "1.2.3.1000",
      "1.2.3.-4",
      "+1.2.3.4",
      "1.2.3.4 ",
      " 1.2.3.4",
      "1.2.3.4\n",
      "1e1.2.3.4",
      "１.2.3.4",
      "1,2,3,4",
      ":",
      ":::",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "1::2::3",
      "1:2:3:4:5:6:7:8::",
      "::1:2:3:4:5:6:7:8",
      "1:2:3:4::5:6:7:8",
      "12345::",
      "g::",
      ":1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:",
      "fe80::1%eth0",
      "[::1]",
      "::1.2.3",
      "::01.2.3.4",
      "::1.2.3.4:5",
      "1.2.3.4::",
      "1:2:3:4:5:6:7:1.2.3.4",
      "::-1",
      "::0x1",
      "localhost",
    ];
    for (const text of wrong) {
      assert.equal(IpAddress.tryParse(text), null, JSON.stringify(text));
      const error = { code: "invalid_argument", message: /^here "/ };
      assert.throws(() => IpAddress.parse(text, "here"), error, JSON.stringify(text));
    }
  });

  test(`comes back from text, bytes and number, and other parsers read it (seed ${SEED})`, () => {
    check(fc.property(address, (address) => {
      assert.ok(IpAddress.parse(address.toString()).equals(address));
      assert.ok(IpAddress.fromBytes(address.toBytes()).equals(address));
      assert.ok(IpAddress.of(address.family, address.value).equals(address));
      assert.equal(isIP(address.toString()), address.family);
      const groups = [...address.toBytes()].map((byte) => byte.toString(16).padStart(2, "0"));
      if (address.family === 6) {
        const long = groups.join("").match(/.{4}/g)!.join(":");
        assert.ok(IpAddress.parse(long).equals(address));
        assert.ok(IpAddress.parse(long.toUpperCase()).equals(address));
        // The URL standard's serializer follows RFC 5952 too.
        assert.equal(new URL(`http://[${long}]/`).hostname, `[${address}]`);
      } else {
        assert.equal(BigInt(address.toUint32()), address.value);
      }
    }));
  });

  test(`that random text is, every other strict parser takes too (seed ${SEED})`, () => {
    const text = fc.string({ unit: fc.constantFrom(..."0012af:::..%x "), maxLength: 24 });
    check(fc.property(text, (text) => {
      const address = IpAddress.tryParse(text);
      const zoned = text.includes("%");
      assert.equal(address?.family ?? 0, zoned ? 0 : isIP(text), JSON.stringify(text));
    }));
  });

  test("is ordered, added to and kept in its bounds", () => {
    const texts = ["0.0.0.0", "9.0.0.0", "10.0.0.0", "255.0.0.0", "::", "::1", "fd00::"];
    const sorted = [...texts].reverse().map((text) => IpAddress.parse(text));
    sorted.sort((a, b) => a.compare(b));
    assert.deepEqual(sorted.map(String), texts);
    assert.equal(String(IpAddress.parse("10.0.0.255").add(1n)), "10.0.1.0");
    assert.equal(String(IpAddress.parse("fd00::ffff").add(1n)), "fd00::1:0");
    assert.throws(() => IpAddress.parse("255.255.255.255").add(1n));
    assert.throws(() => IpAddress.parse("::").add(-1n));
    assert.throws(() => IpAddress.of(4, 1n << 32n));
    assert.throws(() => IpAddress.parse("::1").toUint32());
    for (const size of [0, 3, 5, 15, 17]) {
      assert.throws(() => IpAddress.fromBytes(new Uint8Array(size)), { code: "invalid_argument" });
    }
    assert.equal(IpAddress.parse("0.0.0.1").equals(IpAddress.parse("::1")), false);
  });

  test("knows what it is for", () => {
    const rows: [
      string,
      "isLoopback" | "isUnspecified" | "isLinkLocal" | "isMulticast",
      boolean,
    ][] = [
      ["127.0.0.1", "isLoopback", true],
      ["127.255.255.255", "isLoopback", true],
      ["128.0.0.1", "isLoopback", false],
      ["::1", "isLoopback", true],
      ["::2", "isLoopback", false],
      ["0.0.0.0", "isUnspecified", true],
      ["::", "isUnspecified", true],
      ["0.0.0.1", "isUnspecified", false],
      ["169.254.0.0", "isLinkLocal", true],
      ["169.255.0.0", "isLinkLocal", false],
      ["fe80::1", "isLinkLocal", true],
      ["febf::1", "isLinkLocal", true],
      ["fec0::1", "isLinkLocal", false],
      ["224.0.0.1", "isMulticast", true],
      ["239.255.255.255", "isMulticast", true],
      ["240.0.0.0", "isMulticast", false],
      ["ff02::1", "isMulticast", true],
      ["fe00::1", "isMulticast", false],
    ];
    for (const [text, is, expected] of rows) {
      assert.equal(IpAddress.parse(text)[is](), expected, `${text} ${is}`);
    }
  });
});

describe("a prefix", () => {
  test("is read strictly, its host bits cleared", () => {
    const rows: [string, string][] = [
      ["10.5.7.9/16", "10.5.0.0/16"],
      ["10.5.7.9/32", "10.5.7.9/32"],
      ["10.5.7.9/0", "0.0.0.0/0"],
      ["fd00:5::1/48", "fd00:5::/48"],
      ["fd00::1/128", "fd00::1/128"],
      ["fd00::1/0", "::/0"],
    ];
    for (const [text, expected] of rows) {
      assert.equal(IpPrefix.parse(text).toString(), expected);
      assert.equal(JSON.stringify(IpPrefix.parse(text)), `"${expected}"`);
    }
    const wrong = [
      "",
      "/",
      "10.5.0.0",
      "10.5.0.0/",
      "/16",
      "10.5.0.0/33",
      "::/129",
      "10.5.0.0/016",
    ];
    wrong.push("10.5.0.0/-1", "10.5.0.0/1.5", "10.5.0.0/16/16", " 10.5.0.0/16", "10.5.0.0/16 ");
    wrong.push(
      "10.5.0/16",
      "10.5.0.0/255.255.0.0",
      "fd00::%1/64",
      "10.5.0.0/1e1",
      "10.5.0.0/99999",
    );
    for (const text of wrong) {
      const quoted = JSON.stringify(text).replace(/[/.\\"]/g, "\\$&");
      const message = new RegExp(`^here ${quoted}: `);
      const error = { code: "invalid_argument", message };
      assert.throws(() => IpPrefix.parse(text, "here"), error, text);
    }
    for (const length of [-1, 33, 1.5, NaN]) {
      assert.throws(() => IpPrefix.of(IpAddress.parse("10.0.0.0"), length));
    }
  });

  test(`holds exactly its addresses (seed ${SEED})`, () => {
    check(fc.property(prefix, address, (prefix, address) => {
      assert.ok(IpPrefix.parse(prefix.toString()).equals(prefix));
      assert.ok(prefix.contains(prefix.address) && prefix.contains(prefix.last));
      assert.equal(prefix.last.value - prefix.address.value + 1n, prefix.size);
      assert.equal(
        prefix.contains(address),
        prefix.family === address.family &&
          IpPrefix.of(address, prefix.length).equals(prefix),
      );
      if (prefix.address.value > 0n) {
        assert.equal(prefix.contains(prefix.address.add(-1n)), false);
      }
      if (prefix.last.value < (1n << BigInt(bitsOf(prefix.family))) - 1n) {
        assert.equal(prefix.contains(prefix.last.add(1n)), false);
      }
    }));
  });

  test(`overlaps another just if they share an address (seed ${SEED})`, () => {
    const near = fc.tuple(prefix, fc.nat(), fc.boolean(), prefix).map(
      ([one, length, isNear, other]): [IpPrefix, IpPrefix] => [
        one,
        isNear ? IpPrefix.of(one.last, length % (bitsOf(one.family) + 1)) : other,
      ],
    );
    check(fc.property(near, ([one, other]) => {
      const share = one.family === other.family &&
        one.address.value <= other.last.value && other.address.value <= one.last.value;
      assert.equal(one.overlaps(other), share);
      assert.equal(other.overlaps(one), share);
      const inside = share && one.address.value <= other.address.value &&
        other.last.value <= one.last.value;
      assert.equal(one.containsPrefix(other), inside);
      assert.equal(one.compare(other) === 0, one.equals(other));
      assert.equal(Math.sign(one.compare(other)), -Math.sign(other.compare(one)) + 0);
    }));
  });

  test("is found by its family", () => {
    const list = [IpPrefix.parse("10.0.0.0/8"), IpPrefix.parse("fd00::/8")];
    assert.equal(ofFamily(list, 4), list[0]);
    assert.equal(ofFamily(list, 6), list[1]);
    assert.equal(ofFamily(list.slice(1), 4), undefined);
  });
});
