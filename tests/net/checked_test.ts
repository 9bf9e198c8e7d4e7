import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { z } from "zod";
import { checkedJson } from "../../src/net/checked.ts";

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
});
