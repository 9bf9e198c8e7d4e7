import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { checkedJson, JSON_DEPTH_MAX, parseJson } from "../../src/net/checked.ts";

describe("a check of JSON", () => {
  const schema = z.object({ a: z.object({ b: z.number() }) });

  test("gives the value, or says what is wrong where", () => {
    assert.deepEqual(checkedJson(schema, '{"a":{"b":1}}', "f"), { a: { b: 1 } });
    const rows: [string, RegExp][] = [
      ["{", /^f: not JSON/],
      ["{}", /^f: a: /],
      ['{"a":{"b":"x"}}', /^f: a\.b: /],
      ["5", /^f: [^.]*object/],
    ];
    for (const [text, message] of rows) {
      const error = { code: "invalid_argument", message };
      assert.throws(() => checkedJson(schema, text, "f"), error, text);
    }
  });

  test("quotes nothing of a text of another kind, which may hold a secret", () => {
    for (const text of ["selvage1.c2VjcmV0", "secret", "1234secret", '"secret', "-----BEGIN"]) {
      const message = "f: not JSON: it begins with neither { nor [";
      assert.throws(() => parseJson(text, "f"), { code: "invalid_argument", message });
    }
    assert.throws(() => parseJson("[1 x", "f"), { message: /line 1, column 4.*found "x"/ });
    assert.throws(() => parseJson(" ", "f"), { message: /the text ends/ });
  });

  test("refuses a text that nests too deep before it is parsed", () => {
    const nested = (open: string, close: string, depth: number) =>
      open.repeat(depth) + "1" + close.repeat(depth);
    const message = `body: arrays and objects nest deeper than ${JSON_DEPTH_MAX} levels`;
    for (const [open, close] of [["[", "]"], ['{"a":', "}"], ['[{"a":', "}]"]] as const) {
      const error = { code: "invalid_argument", message };
      assert.throws(() => parseJson(nested(open, close, 28_000), "body"), error);
      assert.throws(() => parseJson(open.repeat(28_000), "body"), error);
    }
    assert.throws(() => parseJson(nested("[", "]", JSON_DEPTH_MAX + 1), "body"), { message });
    parseJson(nested("[", "]", JSON_DEPTH_MAX), "body");
    // Brackets in strings, and one after the other, are no depth.
    parseJson(JSON.stringify(["[{".repeat(1_000), '\\"['.repeat(1_000)]), "body");
    parseJson(`[${"[],{},".repeat(10_000)}1]`, "body");
  });
});
