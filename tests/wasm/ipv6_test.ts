/** The IPv6 header and the ICMPv6 errors about a packet. */
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import {
  DROP_BAD_TOTAL_LENGTH,
  DROP_BAD_VERSION,
  DROP_TRUNCATED,
  PACKET_SIZE_MAX,
} from "../../wasm/layout.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { fromHex, hex, naiveChecksum, packet, patched } from "./packets.ts";
import { AREA, pure } from "./pure.ts";

const UDP = 17;
const ICMPV6 = 58;
const UNREACHABLE = 1;
const TOO_BIG = 2;
const TIME_EXCEEDED = 3;
const PACKET = AREA;
const SOURCE = AREA + 2 * PACKET_SIZE_MAX;
const PLACE = SOURCE + 64;
const MTU_MIN = 1280;

const on = pure();

interface Parts {
  readonly from?: string;
  readonly to?: string;
  readonly next?: number;
  readonly hopLimit?: number;
  readonly payload?: Uint8Array;
}

function addressBytes(text: string): Uint8Array {
  return IpAddress.parse(text).toBytes();
}

/** A whole packet; UDP from fd00:1::2 to fd00:2::3 with hop limit 64 by default. */
function packet6(parts: Parts = {}): Uint8Array<ArrayBuffer> {
  const payload = parts.payload ?? Uint8Array.from({ length: 16 }, (_, i) => i);
  const length = [payload.length >> 8, payload.length & 0xff];
  return Uint8Array.from([
    ...[0x6b, 0x81, 0x23, 0x45, ...length, parts.next ?? UDP, parts.hopLimit ?? 64],
    ...addressBytes(parts.from ?? "fd00:1::2"),
    ...addressBytes(parts.to ?? "fd00:2::3"),
    ...payload,
  ]);
}

/** The error as RFC 4443 says it, built by concatenation. */
function naiveError(
  bytes: Uint8Array,
  source: Uint8Array,
  type: number,
  code: number,
  word: number,
): Uint8Array {
  const words = [word >>> 24, word >>> 16 & 0xff, word >>> 8 & 0xff, word & 0xff];
  const quoted = bytes.subarray(0, MTU_MIN - 48);
  const message = Uint8Array.from([type, code, 0, 0, ...words, ...quoted]);
  const addresses = [...source, ...bytes.subarray(8, 24)];
  const length = [message.length >> 8, message.length & 0xff];
  const pseudo = [...addresses, 0, 0, ...length, 0, 0, 0, ICMPV6];
  new DataView(message.buffer).setUint16(
    2,
    naiveChecksum(Uint8Array.from([...pseudo, ...message])),
  );
  return Uint8Array.from([0x60, 0, 0, 0, ...length, ICMPV6, 64, ...addresses, ...message]);
}

function built(
  bytes: Uint8Array,
  source: Uint8Array,
  type: number,
  code: number,
  word: number,
): Uint8Array {
  const { shared, functions } = on;
  shared.bytes.set(bytes, PACKET);
  shared.bytes.set(source, SOURCE);
  shared.bytes.fill(0xa5, PLACE, PLACE + MTU_MIN + 16);
  const size = functions.icmpBuild6(PLACE, PACKET, bytes.length, SOURCE, type, code, word);
  const beyond = shared.bytes.slice(PLACE + size, PLACE + MTU_MIN + 16);
  assert.ok(size <= MTU_MIN && beyond.every((byte) => byte === 0xa5), `${size}`);
  assert.equal(hex(shared.bytes.slice(PACKET, PACKET + bytes.length)), hex(bytes));
  return shared.bytes.slice(PLACE, PLACE + size);
}

function mayAnswer(bytes: Uint8Array, type = UNREACHABLE): boolean {
  on.shared.bytes.fill(0xff, PACKET, PACKET + 128);
  on.shared.bytes.set(bytes, PACKET);
  return on.functions.icmpMayAnswer6(PACKET, bytes.length, type) !== 0;
}

describe("the IPv6 header", () => {
  test("what is not one whole packet is refused, and why", () => {
    const whole = packet6();
    const cases: [what: string, bytes: Uint8Array, reason: number][] = [
      ["a whole one", whole, 0],
      ["no payload", packet6({ payload: new Uint8Array() }), 0],
      ["the longest", packet6({ payload: new Uint8Array(65535) }), 0],
      ["nothing", new Uint8Array(), DROP_TRUNCATED],
      ["39 bytes", whole.subarray(0, 39), DROP_TRUNCATED],
      ["version 4", patched(whole, { 0: 0x4b }), DROP_BAD_VERSION],
      ["version 7", patched(whole, { 0: 0x7b }), DROP_BAD_VERSION],
      ["a byte less", whole.subarray(0, 55), DROP_BAD_TOTAL_LENGTH],
      ["a byte more", Uint8Array.from([...whole, 0]), DROP_BAD_TOTAL_LENGTH],
      ["a jumbogram", patched(packet6({ next: 0 }), { 4: 0, 5: 0 }), DROP_BAD_TOTAL_LENGTH],
    ];
    for (const [what, bytes, reason] of cases) {
      on.shared.bytes.set(bytes, PACKET);
      assert.equal(on.functions.ipv6Check(PACKET, bytes.length), reason, what);
    }
  });

  test("the hop limit loses one, and never becomes zero", () => {
    for (const [before, after] of [[255, 254], [2, 1], [1, null], [0, null]] as const) {
      const bytes = packet6({ hopLimit: before });
      on.shared.bytes.set(bytes, PACKET);
      assert.equal(on.functions.ipv6DecrementHopLimit(PACKET) !== 0, after !== null);
      const expected = patched(bytes, { 7: after ?? before });
      assert.equal(hex(on.shared.bytes.slice(PACKET, PACKET + bytes.length)), hex(expected));
    }
  });
});

describe("an ICMPv6 error", () => {
  test("golden bytes: no route", () => {
    const bytes = packet6({ payload: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) });
    const header = "60000000 0038 3a 40 fd000001000000000000000000000001 " +
      "fd000001000000000000000000000002";
    // 5a5a: reckoned apart from this code, over the pseudo-header and the message.
    assert.equal(
      hex(built(bytes, addressBytes("fd00:1::1"), UNREACHABLE, 0, 0)),
      hex(fromHex(`${header} 0100 5a5a 00000000 ${hex(bytes)}`)),
    );
  });

  test("equals its naive twin, about packets of every size", () => {
    const source = addressBytes("fd00:ffff:1:2:3:4:5:6");
    const cases = fc.record({
      payload: fc.oneof(
        fc.uint8Array({ maxLength: 100 }),
        fc.uint8Array({ minLength: 1180, maxLength: 1260 }),
        fc.nat(65535).map((size) => new Uint8Array(size).fill(size)),
      ),
      type: fc.constantFrom(UNREACHABLE, TOO_BIG, TIME_EXCEEDED),
      code: fc.nat(255),
      word: fc.oneof(fc.constant(0), fc.nat(0xffffffff)),
    });
    fc.assert(
      fc.property(cases, ({ payload, type, code, word }) => {
        const bytes = packet6({ payload });
        const error = built(bytes, source, type, code, word);
        assert.equal(hex(error), hex(naiveError(bytes, source, type, code, word)));
      }),
      { numRuns: 300, seed: 4443 },
    );
  });

  test("it is never longer than what every link carries", () => {
    const source = addressBytes("fd00::1");
    for (const size of [1231 - 40, 1232 - 40, 1233 - 40, 9000]) {
      const error = built(packet6({ payload: new Uint8Array(size) }), source, TOO_BIG, 0, 1280);
      assert.equal(error.length, Math.min(MTU_MIN, 48 + 40 + size));
    }
  });

  const fragment = (kind: number, offset: number, ...rest: number[]) =>
    Uint8Array.of(kind, 0, offset >> 8, offset & 0xff, 0, 0, 0, 1, ...rest);
  const echo = Uint8Array.of(128, 0, 0, 0, 0, 1, 0, 1);
  const answered: [what: string, bytes: Uint8Array, type?: number][] = [
    ["UDP", packet6()],
    ["TCP", packet6({ next: 6 })],
    ["an echo request", packet6({ next: ICMPV6, payload: echo })],
    ["a type of ICMPv6 that nobody knows", packet6({ next: ICMPV6, payload: Uint8Array.of(200) })],
    ["a first fragment of UDP", packet6({ next: 44, payload: fragment(UDP, 1, 0, 0) })],
    ["a first fragment of an echo", packet6({ next: 44, payload: fragment(ICMPV6, 1, 128) })],
    ["multicast that is too big", packet6({ to: "ff0e::1" }), TOO_BIG],
    ["a source of many zeros", packet6({ from: "::2" })],
    ["a source with the other half zero", packet6({ from: "fd00::" })],
  ];
  for (const [what, bytes, type] of answered) {
    test(`there is one about ${what}`, () => assert.ok(mayAnswer(bytes, type)));
  }

  const silent: [what: string, bytes: Uint8Array, type?: number][] = [
    ["an error", packet6({ next: ICMPV6, payload: Uint8Array.of(1, 0, 0, 0) })],
    ["an error that is too big", packet6({ next: ICMPV6, payload: Uint8Array.of(2) }), TOO_BIG],
    ["the last type of error", packet6({ next: ICMPV6, payload: Uint8Array.of(127) })],
    ["a redirect", packet6({ next: ICMPV6, payload: Uint8Array.of(137) })],
    ["ICMPv6 without a type", packet6({ next: ICMPV6, payload: new Uint8Array() })],
    ["a later fragment", packet6({ next: 44, payload: fragment(UDP, 8, 0, 0) })],
    ["a first fragment of an error", packet6({ next: 44, payload: fragment(ICMPV6, 1, 3) })],
    ["a fragment of no type", packet6({ next: 44, payload: fragment(ICMPV6, 1) })],
    ["a fragment header that is cut", packet6({ next: 44, payload: new Uint8Array(7) })],
    [
      "a fragment in a fragment",
      packet6({ next: 44, payload: fragment(44, 0, ...fragment(17, 0)) }),
    ],
    ["what may be behind options", packet6({ next: 60, payload: new Uint8Array(16) })],
    ["what may be behind hop-by-hop options", packet6({ next: 0, payload: new Uint8Array(16) })],
    ["what may be behind a routing header", packet6({ next: 43, payload: new Uint8Array(16) })],
    ["what may be authenticated", packet6({ next: 51, payload: new Uint8Array(16) })],
    ["multicast", packet6({ to: "ff02::1" })],
    ["multicast whose hop limit is used up", packet6({ to: "ff0e::1" }), TIME_EXCEEDED],
    ["a source of ::", packet6({ from: "::" }), TOO_BIG],
    ["a loopback source", packet6({ from: "::1" }), TOO_BIG],
    ["a multicast source", packet6({ from: "ff02::1" }), TOO_BIG],
  ];
  for (const [what, bytes, type] of silent) {
    test(`there is none about ${what}`, () => assert.ok(!mayAnswer(bytes, type)));
  }
});

test("an ICMPv4 error says the next hop's MTU, at whatever place it is built", () => {
  const { shared, functions } = on;
  const bytes = packet({ payload: new Uint8Array(1400), fragment: 0x4000 });
  shared.bytes.set(bytes, PACKET);
  const size = functions.icmpBuild(PLACE + 2, PACKET, bytes.length, 0x0a000100, 3, 4, 1450);
  const error = shared.bytes.slice(PLACE + 2, PLACE + 2 + size);
  assert.deepEqual([...error.subarray(20, 22)], [3, 4]);
  assert.equal(hex(error.subarray(24, 28)), "000005aa");
  assert.equal(hex(error.subarray(28)), hex(bytes.subarray(0, 28)));
  assert.equal(naiveChecksum(error.subarray(0, 20)), 0);
  assert.equal(naiveChecksum(error.subarray(20)), 0);
});
