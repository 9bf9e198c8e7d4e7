import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { findJsonFault } from "../../src/net/json_fault.ts";
import { seededRandom } from "../lease/sample.ts";

const SEED = 4711;
const ROUNDS = 20_000;

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

describe("the place where a text is not JSON", () => {
  const rows: [text: string, line: number, column: number, why: string][] = [
    ["", 1, 1, "expected a value, the text ends"],
    ["{", 1, 2, 'expected a key in double quotes or "}", the text ends'],
    ['{"a": 1,\n}', 2, 1, 'expected a key in double quotes, found "}"'],
    ['{\n  "a": 1\n  "b": 2\n}', 3, 3, 'expected "," or "}", found "\\"b\\": 2"'],
    ["[1, 2,]", 1, 7, 'expected a value, found "]"'],
    ["[1 2]", 1, 4, 'expected "," or "]", found "2]"'],
    ["{'a': 1}", 1, 2, 'expected a key in double quotes or "}", found "\'a\': 1}"'],
    ["// why\n{}", 1, 1, 'expected a value, found "// why"'],
    ['{"a" 1}', 1, 6, 'expected ":", found "1}"'],
    ["{} {}", 1, 4, 'expected the end of the text, found "{}"'],
    ['{"a": tru}', 1, 7, 'expected a value, found "tru}"'],
    ['{"a": 010}', 1, 7, 'expected a value, found "010}"'],
    ['{"a": "x\ny"}', 1, 7, 'expected a value, found "\\"x"'],
    ["[".repeat(100_000), 1, 100_001, 'expected a value or "]", the text ends'],
  ];
  for (const [text, line, column, why] of rows) {
    test(JSON.stringify(text.slice(0, 30)), () => {
      assert.deepEqual(findJsonFault(text), { line, column, why });
    });
  }

  test(`is found for every text that a parser refuses, and no other (seed ${SEED})`, () => {
    const random = seededRandom(SEED);
    const whole =
      '{"Network": "10.5.0.0/16", "n": [1, -2.5e3, true, null, {"a\\u00e9": []}], "s": ""}';
    const parts = [...'{}[]",:\\ \n0e-+.x', "true", "nul", '"k"', "1", "\\u12"];
    let faultCount = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const at = Math.floor(random() * (whole.length + 1));
      const cut = Math.floor(random() * 4);
      const put = parts[Math.floor(random() * parts.length)]!;
      const text = whole.slice(0, at) + put + whole.slice(at + cut);
      const fault = findJsonFault(text);
      assert.equal(fault === null, isJson(text), JSON.stringify(text));
      if (fault !== null) faultCount++;
    }
    assert.ok(faultCount > ROUNDS / 4 && faultCount < ROUNDS, `${faultCount} faults`);
  });
});
