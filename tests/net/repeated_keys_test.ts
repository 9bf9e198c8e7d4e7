import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { repeatedKeys } from "../../src/net/repeated_keys.ts";

const CASES: readonly [text: string, keys: string[]][] = [
  ['{"a":1,"b":{"a":2},"c":[{"a":3},{"a":4}]}', []],
  ['{"a":1,"a":2}', ["a"]],
  ['{"Network":1,"network":2,"NETWORK":3}', ["network", "NETWORK"]],
  ['{"Port":1,"Backend":{"Port":1,"VNI":2,"port":3},"VNI":4}', ["Backend.port"]],
  ['{"a":{"b":{"c":1}},"d":[0,{"e":1,"e":1}],"a":0}', ["d.e", "a"]],
  // Values, and what looks like keys in texts.
  ['{"a":"a","b":["a","a","b"]}', []],
  ['{"a":"{\\"a\\":1,\\"a\\":2}","b":":","c":"\\\\"}', []],
  ['{"a":1, "\\u0061" : 2}', ["a"]],
  ["[[],{}]", []],
];

describe("keys that are there twice", () => {
  for (const [text, keys] of CASES) {
    test(text, () => {
      JSON.parse(text);
      assert.deepEqual(repeatedKeys(text), keys);
    });
  }
});
