/** Golden bytes are a kernel's (6.18) and nft's (1.0.6). */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { NetlinkDecodeError } from "../../../src/netlink/error.ts";
import { nftTransaction } from "../../../src/netlink/nftables/batch.ts";
import {
  addChainRequest,
  decodeChain,
  getChainRequest,
} from "../../../src/netlink/nftables/chain.ts";
import type { KnownExpression } from "../../../src/netlink/nftables/expression.ts";
import { NFGENMSG_SIZE } from "../../../src/netlink/nftables/layout.ts";
import { notifiedTable } from "../../../src/netlink/nftables/notification.ts";
import {
  addRuleRequest,
  decodeRule,
  listRulesRequest,
} from "../../../src/netlink/nftables/rule.ts";
import {
  addTableRequest,
  decodeTable,
  deleteTableRequest,
  getTableRequest,
} from "../../../src/netlink/nftables/table.ts";
import { embed, hex, toHex, wholeLengths } from "../hex.ts";

const SEEDED = { seed: 20261121, numRuns: 300 };
const T = { family: 4, name: "t" } as const;

const TABLE = hex(`02 00 0002 | 0600 0100 7400 0000 | 0800 0300 00000001
  0c00 0400 0000000000000001 | 0800 0200 00000002`);
const CHAIN = hex(`02 00 0002 | 0600 0100 7400 0000 | 0600 0300 6300 0000
  0c00 0200 0000000000000001 | 1400 0400 0800 0100 00000004 0800 0200 fffffff9
  0800 0500 00000000 | 0800 0700 6e617400 | 0800 0a00 00000001 | 0800 0600 00000002`);

/** `meta mark & 0x4000 == 0x4000 ip daddr != 10.5.0.0/17 masquerade fully-random` */
const MASQUERADE: readonly KnownExpression[] = [
  { type: "meta", register: 1, key: 3 },
  { type: "bitwise", register: 1, mask: hex("00400000"), xor: hex("00000000") },
  { type: "cmp", register: 1, isEqual: true, value: hex("00400000") },
  { type: "payload", register: 1, base: 1, offset: 16, size_bytes: 4 },
  { type: "bitwise", register: 1, mask: hex("ffff8000"), xor: hex("00000000") },
  { type: "cmp", register: 1, isEqual: false, value: hex("0a050000") },
  { type: "masq", flags: 16 },
];

/** The list of MASQUERADE; `n` is the flag of nested attributes, which the kernel leaves out. */
function masqueradeList(n: "00" | "80"): string {
  // The kernel says the operation too; nft, like us, only in the place of its default.
  const op = n === "00" ? "0800 0600 00000000" : "";
  const sizes = n === "00" ? ["6801", "4c00", "3c00"] : ["5801", "4400", "3400"];
  const bitwise = (mask: string) => `
    ${sizes[1]} 01${n} 0c00 0100 6269747769736500 ${sizes[2]} 02${n} 0800 0100 00000001
    0800 0200 00000001 0800 0300 00000004 ${op}
    0c00 04${n} 0800 0100 ${mask} 0c00 05${n} 0800 0100 00000000`;
  const cmp = (op: string, value: string) => `
    2c00 01${n} 0800 0100 636d7000 2000 02${n} 0800 0100 00000001 0800 0200 ${op}
    0c00 03${n} 0800 0100 ${value}`;
  return `${sizes[0]} 04${n}
    2400 01${n} 0900 0100 6d657461 00000000 1400 02${n} 0800 0200 00000003 0800 0100 00000001
    ${bitwise("00400000")} ${cmp("00000000", "00400000")}
    3400 01${n} 0c00 0100 7061796c6f616400 2400 02${n} 0800 0100 00000001 0800 0200 00000001
    0800 0300 00000010 0800 0400 00000004
    ${bitwise("ffff8000")} ${cmp("00000001", "0a050000")}
    1c00 01${n} 0900 0100 6d617371 00000000 0c00 02${n} 0800 0100 00000010`;
}

const RULE = hex(`02 00 0002 | 0600 0100 7400 0000 | 0600 0200 6300 0000
  0c00 0300 0000000000000002 | ${masqueradeList("00")}`);
/** `ip saddr 10.5.0.1 counter return` */
const COUNTED = hex(`02 00 0002 | 0600 0100 7400 0000 | 0600 0200 6300 0000
  0c00 0300 0000000000000003 | 0c00 0600 0000000000000002 | c000 0400
  3400 0100 0c00 0100 7061796c6f616400 2400 0200 0800 0100 00000001 0800 0200 00000001
  0800 0300 0000000c 0800 0400 00000004
  2c00 0100 0800 0100 636d7000 2000 0200 0800 0100 00000001 0800 0200 00000000
  0c00 0300 0800 0100 0a050001
  2c00 0100 0c00 0100 636f756e74657200 1c00 0200 0c00 0100 0000000000000000
  0c00 0200 0000000000000000
  3000 0100 0e00 0100 696d6d656469617465 000000 1c00 0200 0800 0100 00000000
  1000 0200 0c00 0200 0800 0100 fffffffb`);

/** One rule with one expression of this name and data. */
function single(name: string, data: string): Uint8Array {
  const part = (type: string, bytes: Uint8Array) =>
    hex(`${(bytes.length + 4).toString(16).padStart(2, "0")}00 ${type}00 ${toHex(bytes)}`);
  const text = [...name, "\0"].map((c) => c.charCodeAt(0).toString(16).padStart(2, "0")).join("");
  const pad = "00".repeat((4 - ((name.length + 1) % 4)) % 4);
  const head = hex(`${(name.length + 5).toString(16).padStart(2, "0")}00 0100 ${text} ${pad}`);
  const element = part("01", new Uint8Array([...head, ...part("02", hex(data))]));
  return new Uint8Array([
    ...hex("02000002 0600 0100 7400 0000 0600 0200 6300 0000"),
    ...part("04", element),
  ]);
}

describe("nftables messages in", () => {
  test("a table", () => {
    assert.deepEqual(decodeTable(embed(TABLE)), { ...T, flags: 2, useCount: 1 });
    assert.equal(decodeTable(hex("07 00 0002 0600 0100 7400 0000")), null, "of family bridge");
  });

  test("a chain; its priority is signed", () => {
    assert.deepEqual(decodeChain(embed(CHAIN)), {
      table: T,
      name: "c",
      type: "nat",
      hook: 4,
      priority: -7,
      policy: 0,
      flags: 0,
    });
    const plain = hex("0a 00 0002 | 0600 0100 7400 0000 | 0600 0300 6300 0000");
    const { hook, policy, table } = decodeChain(plain)!;
    assert.deepEqual({ hook, policy, table }, {
      hook: null,
      policy: 1,
      table: { family: 6, name: "t" },
    });
    assert.equal(decodeChain(hex("07 00 0000")), null, "of family bridge");
  });

  test("a rule, with its expressions in their order", () => {
    assert.deepEqual(decodeRule(embed(RULE)), {
      table: T,
      chainName: "c",
      handle: hex("00000000 00000002"),
      comment: "",
      expressions: MASQUERADE,
    });
    assert.deepEqual(decodeRule(embed(COUNTED))!.expressions, [
      { type: "payload", register: 1, base: 1, offset: 12, size_bytes: 4 },
      { type: "cmp", register: 1, isEqual: true, value: hex("0a050001") },
      { type: "counter", packetCount: 0 },
      { type: "verdict", code: -5 },
    ]);
    assert.equal(decodeRule(hex("00 00 0000")), null);
  });

  test("what looks like ours and does something else is none of ours", () => {
    const others = {
      "meta without a register": ["meta", "0800 0200 00000003"],
      "payload that writes": [
        "payload",
        "0800 0500 00000001 0800 0200 00000001 0800 0300 00000010 0800 0400 00000004",
      ],
      "bitwise that shifts": [
        "bitwise",
        "0800 0100 00000001 0800 0200 00000001 0800 0600 00000001 0c00 0400 0800 0100 00000001" +
        "0c00 0500 0800 0100 00000000",
      ],
      "bitwise into another register": [
        "bitwise",
        "0800 0100 00000001 0800 0200 00000002 0c00 0400 0800 0100 00000001" +
        "0c00 0500 0800 0100 00000000",
      ],
      "cmp less than": [
        "cmp",
        "0800 0100 00000001 0800 0200 00000002 0c00 0300 0800 0100 00000001",
      ],
      "immediate into a register": ["immediate", "0800 0100 00000001 0c00 0200 0800 0100 00000001"],
      "masq to chosen ports": ["masq", "0800 0200 00000001 0800 0300 00000002"],
      "a name of Object's": ["constructor", ""],
    } as const;
    for (const [what, [name, data]] of Object.entries(others)) {
      assert.deepEqual(
        decodeRule(single(name, data))!.expressions,
        [{ type: "other", name }],
        what,
      );
    }
  });

  test("a jump, and a comment as iptables-nft and as nft write it", () => {
    const jump = "0800 0100 00000000 1800 0200 1400 0200 0800 0100 fffffffd 0600 0200 6300 0000";
    const { expressions } = decodeRule(single("immediate", jump))!;
    assert.deepEqual(expressions, [{ type: "jump", chainName: "c" }]);
    const comment = "0c00 0100 636f6d6d656e7400 0700 0300 686900 00";
    assert.equal(decodeRule(single("match", comment))!.comment, "hi");
    const start = "02 00 0002 | 0600 0100 7400 0000 | 0600 0200 6300 0000";
    // An entry of another type stands before it.
    const own = hex(`${start} | 0c00 0700 0101 07 0003 6f6b00`);
    assert.equal(decodeRule(own)!.comment, "ok");
    const cut = hex(`${start} | 0600 0700 0009 0000`);
    assert.equal(decodeRule(cut)!.comment, "");
  });

  test("truncated at every length: refused, or it ends between two attributes", () => {
    const cases = [
      { bytes: TABLE, decode: decodeTable, first_bytes: 10 },
      { bytes: CHAIN, decode: decodeChain, first_bytes: 18 },
      { bytes: RULE, decode: decodeRule, first_bytes: 18 },
      { bytes: COUNTED, decode: decodeRule, first_bytes: 18 },
    ] as const;
    for (const { bytes, decode, first_bytes } of cases) {
      const lengths = wholeLengths(bytes, NFGENMSG_SIZE);
      for (let length = 0; length < bytes.length; length++) {
        const cut = () => decode(bytes.slice(0, length));
        if (lengths.has(length) && length >= first_bytes) assert.ok(cut(), `${length}`);
        else assert.throws(cut, NetlinkDecodeError, `${length}`);
      }
    }
  });

  test("lengths that lie and any bytes are read or refused", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(TABLE, CHAIN, RULE, COUNTED),
        fc.nat(),
        fc.nat(255),
        fc.uint8Array(),
        (golden, place, value, noise) => {
          const changed = golden.slice();
          changed[place % changed.length] = value;
          for (const bytes of [changed, noise]) {
            for (const decode of [decodeTable, decodeChain, decodeRule]) {
              try {
                decode(bytes);
              } catch (error) {
                assert.ok(error instanceof NetlinkDecodeError, String(error));
              }
            }
          }
        },
      ),
      SEEDED,
    );
  });
});

describe("nftables messages out", () => {
  test("tables", () => {
    const payload = "02 00 0000 | 0600 0100 7400 0000";
    const requests = [getTableRequest(T), addTableRequest(T), deleteTableRequest(T)];
    for (const [i, request] of requests.entries()) {
      assert.equal(toHex(request.payload), toHex(hex(payload)));
      assert.equal(request.type, [0xa01, 0xa00, 0xa02][i]);
      assert.equal(request.flags, [0, 0x400, 0][i]);
      assert.equal(request.object, "ip t");
    }
    const six = getTableRequest({ family: 6, name: "t" });
    assert.equal(toHex(six.payload), toHex(hex("0a 00 0000 | 0600 0100 7400 0000")));
    assert.equal(six.object, "ip6 t");
  });

  test("chains", () => {
    const chain = { table: T, name: "c", type: "nat", hook: 4, priority: -7, policy: 0, flags: 0 };
    const added = addChainRequest(chain);
    assert.equal(
      toHex(added.payload),
      toHex(hex(`02 00 0000 | 0600 0100 7400 0000 | 0600 0300 6300 0000
        1400 0480 0800 0100 00000004 0800 0200 fffffff9
        0800 0500 00000000 | 0800 0700 6e617400`)),
    );
    assert.equal(`${added.operation}: ${added.object}`, "add firewall chain of type nat: ip t c");
    assert.deepEqual([added.type, added.flags], [0xa03, 0x600]);
    assert.equal(
      toHex(getChainRequest(T, "c").payload),
      toHex(hex("02 00 0000 | 0600 0100 7400 0000 | 0600 0300 6300 0000")),
    );
    assert.deepEqual(decodeChain(added.payload), chain);
  });

  test("rules", () => {
    const added = addRuleRequest(T, "c", MASQUERADE, 5);
    assert.equal(
      toHex(added.payload),
      toHex(hex(`02 00 0000 | 0600 0100 7400 0000 | 0600 0200 6300 0000
        ${masqueradeList("80")}`)),
    );
    assert.deepEqual([added.type, added.flags], [0xa06, 0xc00]);
    assert.equal(`${added.operation} ${added.object}`, "add firewall rule 5 to ip t c");
    assert.equal(
      toHex(listRulesRequest(T).payload),
      toHex(hex("02 00 0000 | 0600 0100 7400 0000")),
    );
    const verdicts: KnownExpression[] = [{ type: "verdict", code: -5 }, { type: "masq", flags: 0 }];
    const { payload } = addRuleRequest(T, "c", verdicts, 1);
    assert.deepEqual(decodeRule(payload)!.expressions, verdicts);
  });

  test("a batch's edges name the subsystem", () => {
    const { begin, requests, end } = nftTransaction("replace", "it", [addTableRequest(T)]);
    for (const [edge, type] of [[begin, 0x10], [end, 0x11]] as const) {
      assert.equal(toHex(edge.payload), "00 00 00 0a");
      assert.deepEqual([edge.type, edge.flags], [type, 0]);
    }
    assert.equal(requests.length, 1);
  });
});

describe("a notification", () => {
  const notify = (type: number, payload: Uint8Array) =>
    notifiedTable({ type, flags: 0, sequence: 0, portId: 0, payload });

  test("tells its table, whatever changed in it", () => {
    for (const [type, payload] of [[0xa00, TABLE], [0xa05, CHAIN], [0xa08, RULE]] as const) {
      assert.deepEqual(notify(type, embed(payload)), T);
    }
  });

  test("of another family, of a transaction's end, or of no table has none", () => {
    assert.equal(notify(0xa00, hex("07 00 0002 0600 0100 7400 0000")), null);
    assert.equal(notify(0xa0f, hex("00 00 0002 0800 0100 00000007")), null);
    assert.equal(notify(0x018, TABLE), null);
    assert.equal(notify(0xa00, hex("02 00 0002")), null);
    assert.throws(() => notify(0xa00, hex("02 00")), NetlinkDecodeError);
  });
});
