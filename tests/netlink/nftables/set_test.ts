/** Golden bytes are nft's (1.0.6). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { keyTypeof, plainSet } from "../../../src/netlink/nftables/set.ts";
import { hex } from "../hex.ts";

test("a set whose keys are bytes of the packet says so as nft does", () => {
  // `typeof ip saddr . @th,336,32`, `typeof ip6 saddr . @th,304,128`, `typeof @th,336,32`
  const golden = (header: string, field: string, offset: string, size: string) =>
    hex(`00 04 00000000 | 03 46 00 04 0d000000 01 3e
      00 14 00 04 07000000 01 0c 00 04 ${header} 01 04 ${field}
      01 26 00 04 07000000 01 1e 00 04 00000000 01 04 00000000 02 04 03000000
      03 04 ${offset} 04 04 ${size}`);
  const v4 = { offset_bytes: 42, size_bytes: 4 };
  assert.deepEqual(
    keyTypeof(["ipv4_addr", v4]),
    golden("0c000000", "0b000000", "50010000", "20000000"),
  );
  assert.deepEqual(
    keyTypeof(["ipv6_addr", { offset_bytes: 38, size_bytes: 16 }]),
    golden("0d000000", "08000000", "30010000", "80000000"),
  );
  assert.deepEqual(keyTypeof(["ipv4_addr"]), new Uint8Array(), "it has a name for these");
  assert.deepEqual(plainSet("s", ["ipv4_addr", v4]), {
    name: "s",
    keyType: 0x1c4,
    keySize_bytes: 8,
    flags: 0,
  });
});
