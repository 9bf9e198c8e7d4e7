/** Cutting for a path that carries less, against a naive twin and by putting together again. */
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { SEGMENT_COUNT_MAX, SEGMENT_HEADER_SIZE } from "../../wasm/layout.ts";
import { hex, naiveChecksum, packet, type PacketParts, patched, withChecksum } from "./packets.ts";
import { AREA, pure } from "./pure.ts";

const SEED = 791;
const RUNS = 400;
const MORE = 0x2000;
const DONT = 0x4000;
const HEADERS = AREA + 4096;
const PAYLOAD = AREA + 8192;
const PLACE = AREA + 8192 + 65536;

const on = pure();

/** Cuts with the code under test; `apart` bytes of transport header lie with the IPv4 header. */
function cut(bytes: Uint8Array, mtu: number, apart = 0): Uint8Array[] {
  const { shared, functions } = on;
  const headersSize = headerLength(bytes) + apart;
  shared.bytes.fill(0xa5, HEADERS - 64, HEADERS + 256);
  shared.bytes.set(bytes.subarray(0, headersSize), HEADERS);
  shared.bytes.set(bytes.subarray(headersSize), PAYLOAD);
  const rest = bytes.length - headersSize;
  const count = functions.fragmentOpen(HEADERS, headersSize, PAYLOAD, rest, mtu);
  return Array.from({ length: count }, (_, i) => {
    shared.bytes.fill(0xa5, PLACE - 16, PLACE + SEGMENT_HEADER_SIZE + 16);
    const size = functions.fragmentWriteHeaders(PLACE, i);
    const beyond = [
      ...shared.bytes.slice(PLACE - 16, PLACE),
      ...shared.bytes.slice(PLACE + SEGMENT_HEADER_SIZE, PLACE + SEGMENT_HEADER_SIZE + 16),
    ];
    assert.ok(beyond.every((byte) => byte === 0xa5), "only the place is written to");
    const at = functions.fragmentPayloadAt(i);
    return Buffer.concat([
      shared.bytes.slice(PLACE, PLACE + size),
      shared.bytes.slice(at, at + functions.fragmentPayloadSize(i)),
    ]);
  });
}

function headerLength(bytes: Uint8Array): number {
  return (bytes[0]! & 0xf) * 4;
}

function fieldOf(bytes: Uint8Array): number {
  return bytes[6]! << 8 | bytes[7]!;
}

/** The options with the copied flag, padded with zeros to words. */
function naiveOptions(options: Uint8Array): Uint8Array {
  const copied: number[] = [];
  for (let i = 0; i < options.length;) {
    if (options[i] === 0) break;
    const size = options[i] === 1 ? 1 : options[i + 1] ?? 0;
    if (size === 0 || (size === 1 && options[i] !== 1) || i + size > options.length) break;
    if (options[i]! >= 128) copied.push(...options.subarray(i, i + size));
    i += size;
  }
  while (copied.length % 4 > 0) copied.push(0);
  return Uint8Array.from(copied);
}

/** Takes off the data what fits, again and again; none if some fragment could not be. */
function naiveFragments(bytes: Uint8Array, mtu: number, apart: number): Uint8Array[] {
  const field = fieldOf(bytes);
  if ((field & DONT) !== 0) return [];
  const first = bytes.subarray(0, headerLength(bytes));
  const later = Buffer.concat([first.subarray(0, 20), naiveOptions(first.subarray(20))]);
  const data = bytes.subarray(first.length);
  const fragments: Uint8Array[] = [];
  for (let done = 0; done < data.length || fragments.length === 0;) {
    const isFirst = fragments.length === 0;
    const header = isFirst ? first : later;
    const isLast = header.length + data.length - done <= mtu;
    const size = isLast ? data.length - done : Math.floor((mtu - header.length) / 8) * 8;
    if (!isLast && (size < 8 || (isFirst && size < apart))) return [];
    const fragment = Uint8Array.from([...header, ...data.subarray(done, done + size)]);
    const view = new DataView(fragment.buffer);
    fragment[0] = 0x40 + header.length / 4;
    view.setUint16(2, fragment.length);
    const isMore = !isLast || (field & MORE) !== 0;
    view.setUint16(6, (field & 0x8000) | (isMore ? MORE : 0) | (field & 0x1fff) + done / 8);
    fragments.push(withChecksum(fragment));
    done += size;
  }
  return fragments.length > SEGMENT_COUNT_MAX ? [] : fragments;
}

/** Puts the fragments' data together by their offsets; every byte must come once. */
function reassembled(fragments: readonly Uint8Array[]): Uint8Array {
  const base = (fieldOf(fragments[0]!) & 0x1fff) * 8;
  const total = fragments.reduce((sum, one) => sum + one.length - headerLength(one), 0);
  const data = new Uint8Array(total);
  const seen = new Uint8Array(total);
  for (const fragment of fragments) {
    const at = (fieldOf(fragment) & 0x1fff) * 8 - base;
    const part = fragment.subarray(headerLength(fragment));
    data.set(part, at);
    part.forEach((_, i) => seen[at + i]!++);
  }
  assert.ok(seen.every((times) => times === 1), "every byte once");
  return data;
}

function bytesOf(length: number, seed: number): Uint8Array {
  let state = seed;
  return Uint8Array.from({ length }, () => {
    state = Math.imul(state, 1103515245) + 12345 | 0;
    return state >>> 23;
  });
}

function assertCut(bytes: Uint8Array, mtu: number, apart: number): number {
  const fragments = cut(bytes, mtu, apart);
  const where = `mtu ${mtu}, ${apart} apart, ${hex(bytes.subarray(0, headerLength(bytes)))}`;
  const expected = naiveFragments(bytes, mtu, apart);
  assert.deepEqual(fragments.map(hex), expected.map(hex), where);
  if (fragments.length === 0) return 0;
  assert.equal(hex(reassembled(fragments)), hex(bytes.subarray(headerLength(bytes))), where);
  for (const fragment of fragments) {
    assert.ok(fragment.length <= mtu, where);
    assert.equal(naiveChecksum(fragment.subarray(0, headerLength(fragment))), 0, where);
  }
  return fragments.length;
}

/** Options as they may come: whole ones of either kind, no-operations, an end, and garbage. */
const option = fc.oneof(
  fc.constant([1]),
  fc.constant([0]),
  fc.tuple(fc.nat(255), fc.integer({ min: 2, max: 12 }))
    .map(([kind, size]) => [kind, size, ...Array.from({ length: size - 2 }, (_, i) => i + kind)]),
  fc.array(fc.nat(255), { minLength: 1, maxLength: 4 }),
);
const optionBytes = fc.array(option, { maxLength: 6 }).map((parts) => {
  const bytes = parts.flat().slice(0, 40);
  while (bytes.length % 4 > 0) bytes.push(1);
  return Uint8Array.from(bytes);
});

const cuttable = fc.record({
  options: fc.oneof(fc.constant(new Uint8Array()), optionBytes),
  fragment: fc.oneof(fc.constant(0), fc.constantFrom(MORE, 0x8000, DONT, 5, MORE | 7)),
  size: fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: 1000, max: 65_400 })),
  mtu: fc.oneof(fc.integer({ min: 20, max: 200 }), fc.integer({ min: 1000, max: 9000 })),
  apart: fc.constantFrom(0, 8, 20, 32, 60),
  seed: fc.nat(),
});

describe("fragments", () => {
  test("equal the naive twin's, and together they are the packet's data", () => {
    let fragmentCount = 0;
    fc.assert(
      fc.property(cuttable, ({ options, fragment, size, mtu, apart, seed }) => {
        const payload = bytesOf(Math.max(size, apart), seed);
        fragmentCount += assertCut(packet({ options, fragment, payload }), mtu, apart);
      }),
      { numRuns: RUNS, seed: SEED },
    );
    assert.ok(fragmentCount > RUNS, `${fragmentCount}`);
  });

  test("every size around the edges, of headers of every kind", () => {
    const kinds: [parts: PacketParts, apart: number][] = [
      [{}, 0],
      [{}, 8],
      [{}, 20],
      [{ options: Uint8Array.of(1, 1, 1, 0) }, 8],
      [{ options: Uint8Array.of(0x94, 4, 0, 0) }, 8],
      [{ fragment: MORE | 100 }, 0],
    ];
    for (const [parts, apart] of kinds) {
      for (const mtu of [68, 69, 75, 76]) {
        for (let size = apart; size <= 160; size++) {
          assertCut(packet({ ...parts, payload: bytesOf(size, size) }), mtu, apart);
        }
      }
    }
  });

  test("RFC 791, section 3.2: the example of 472 bytes for a path of 280", () => {
    const bytes = packet({ payload: bytesOf(452, 1) });
    const fragments = cut(bytes, 280);
    assert.deepEqual(fragments.map((one) => [one.length, fieldOf(one)]), [[276, MORE], [216, 32]]);
  });

  test("only the options with the copied flag are in later fragments, padded", () => {
    const options = Uint8Array.of(7, 7, 4, 0, 0, 0, 0, 1, 0x82, 3, 9, 0);
    const [first, later] = cut(packet({ options, payload: bytesOf(100, 3) }), 100);
    assert.equal(hex(first!.subarray(20, 32)), hex(options));
    assert.equal(hex(later!.subarray(20, 24)), "82030900");
    assert.equal(headerLength(later!), 24);
  });

  test("what must not be cut, or cannot be, is not", () => {
    const big = packet({ payload: bytesOf(1400, 2) });
    const cases: [what: string, bytes: Uint8Array, mtu: number, apart: number, count: number][] = [
      ["DF", packet({ payload: bytesOf(1400, 2), fragment: DONT }), 1000, 0, 0],
      ["no room for 8 bytes", big, 27, 0, 0],
      ["a transport header that would be cut", big, 20 + 20, 24, 0],
      ["a mtu of 0", big, 0, 0, 0],
      ["a mtu below 0", big, -100, 20, 0],
      ["64 fragments", packet({ payload: bytesOf(64 * 48, 2) }), 68, 0, 64],
      ["65 fragments", packet({ payload: bytesOf(64 * 48 + 1, 2) }), 68, 0, 0],
      ["one that ends at 65535", packet({ payload: bytesOf(1407, 1), fragment: 8016 }), 900, 0, 2],
      ["one that ends behind", packet({ payload: bytesOf(1408, 1), fragment: 8016 }), 900, 0, 0],
      ["headers that have no room", big, 1000, 109, 0],
    ];
    for (const [what, bytes, mtu, apart, count] of cases) {
      assert.equal(cut(bytes, mtu, apart).length, count, what);
    }
  });

  test("the packet stays as it is", () => {
    const bytes = patched(packet({ payload: bytesOf(3000, 8), fragment: MORE }), { 1: 0xb8 });
    cut(bytes, 576, 20);
    assert.equal(hex(on.shared.bytes.slice(HEADERS, HEADERS + 40)), hex(bytes.subarray(0, 40)));
    const payload = on.shared.bytes.slice(PAYLOAD, PAYLOAD + 2980);
    assert.equal(hex(payload), hex(bytes.subarray(40)));
  });
});
