import { test } from "node:test";
import assert from "node:assert/strict";
import fc from "fast-check";
import { ARENA_OFFSET, EGRESS_WORK_OFFSET } from "../../wasm/layout.ts";
import { bench } from "./scripted_io.ts";
import { fromHex, naiveChecksum } from "./packets.ts";

const AT = EGRESS_WORK_OFFSET + ARENA_OFFSET;
const LENGTH_MAX = 9001;

/** Bytes that repeat with no power of two, so that a lane mixed up with another shows. */
function sample(length: number, seed: number): Uint8Array<ArrayBuffer> {
  let state = seed;
  return Uint8Array.from({ length }, () => {
    state = Math.imul(state, 1103515245) + 12345 | 0;
    return state >>> 23;
  });
}

test("checksum equals its naive twin at every length and at odd addresses", async () => {
  const { shared, loops } = await bench();
  const data = sample(LENGTH_MAX + 1, 7);
  for (let length = 0; length <= LENGTH_MAX; length++) {
    // What lies around must not matter: a reader past the end would see it.
    const at = AT + 64 + (length % 17);
    shared.bytes.fill(0xa5, at - 64, at + length + 64);
    shared.bytes.set(data.subarray(0, length), at);
    const expected = naiveChecksum(data.subarray(0, length));
    assert.equal(loops.checksum(at, length), expected, `length ${length}`);
  }
});

test("checksum writes nothing", async () => {
  const { shared, loops } = await bench();
  shared.bytes.fill(0xa5, AT, AT + LENGTH_MAX + 128);
  loops.checksum(AT + 61, LENGTH_MAX);
  const after = shared.bytes.slice(AT, AT + LENGTH_MAX + 128);
  assert.ok(after.every((byte) => byte === 0xa5));
});

test("checksum of the largest packet, all ones, does not overflow", async () => {
  const { shared, loops } = await bench();
  shared.bytes.fill(0xff, AT, AT + 65536);
  assert.equal(loops.checksum(AT, 65535), naiveChecksum(new Uint8Array(65535).fill(0xff)));
  assert.equal(loops.checksum(AT, 65536), 0);
});

test("checksum of a known header", async () => {
  const { shared, loops } = await bench();
  const header = fromHex("4500 0073 0000 4000 4011 0000 c0a8 0001 c0a8 00c7");
  shared.bytes.set(header, AT);
  assert.equal(loops.checksum(AT, header.length), 0xb861);
});

test("the incremental update equals computing anew", async () => {
  const { loops } = await bench();
  const word = fc.integer({ min: 0, max: 0xffff });
  fc.assert(
    fc.property(
      word,
      word,
      fc.uint8Array({ minLength: 18, maxLength: 18 }),
      (before, after, rest) => {
        const bytes = (first: number): Uint8Array =>
          Uint8Array.of(0x45, ...rest, 0, first >> 8, first & 0xff);
        const old = naiveChecksum(bytes(before));
        assert.equal(loops.adjust(old, before, after), naiveChecksum(bytes(after)));
      },
    ),
    { numRuns: 2000, seed: 1624 },
  );
});

test("RFC 1624 section 4: the example where equation 2 goes wrong", async () => {
  const { loops } = await bench();
  assert.equal(loops.adjust(0xdd2f, 0x5555, 0x3285), 0x0000);
});
