import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import {
  formatJoinString,
  type JoinString,
  parseJoinString,
  readJoinArgument,
} from "../../src/registry/join_string.ts";

const SAMPLE: JoinString = {
  addresses: [{ host: "10.0.0.1", port: 8286 }, { host: "fd00::1", port: 1 }],
  token: `0123456789ab.${"A".repeat(43)}`,
  fingerprint: "0f".repeat(32),
};

describe("the join string", () => {
  test("comes back as it was, and no shell takes it apart", () => {
    const text = formatJoinString(SAMPLE);
    assert.match(text, /^selvage1\.[A-Za-z0-9_-]+$/);
    assert.deepEqual(parseJoinString(text), SAMPLE);
    assert.deepEqual(parseJoinString(` ${text}\r\n`), SAMPLE);
  });

  test("is told from other texts, and from a newer one", () => {
    for (const text of ["", "hello", "selvage.abc", "selvage1", "Selvage1.abc", "@", "0.abc"]) {
      assert.throws(() => parseJoinString(text), { message: /^not a join string/ });
    }
    const newer = formatJoinString(SAMPLE).replace("selvage1", "selvage2");
    assert.throws(() => parseJoinString(newer), { code: "unsupported", message: /version 2/ });
  });

  test("cut short, mistyped or pasted with a gap is refused, and not quoted", () => {
    const text = formatJoinString(SAMPLE);
    fc.assert(
      fc.property(fc.integer({ min: 9, max: text.length - 1 }), fc.nat(63), (at, shift) => {
        const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        const typo = alphabet[(alphabet.indexOf(text[at]!) + 1 + shift % 63) % 64]!;
        const damaged = [
          text.slice(0, at),
          text.slice(0, at) + typo + text.slice(at + 1),
          `${text.slice(0, at)} ${text.slice(at)}`,
        ];
        for (const wrong of damaged) {
          const error = { code: "invalid_argument", message: /cut short or mistyped$/ };
          assert.throws(() => parseJoinString(wrong), error);
        }
      }),
      { seed: 11, numRuns: 300 },
    );
  });

  test("with a true checksum but false contents is refused", () => {
    const wrong = [
      { ...SAMPLE, addresses: [] },
      { ...SAMPLE, token: "" },
      { ...SAMPLE, fingerprint: "0F".repeat(32) },
      { ...SAMPLE, addresses: [{ host: "example..org", port: 1 }] },
      { ...SAMPLE, addresses: [{ host: "10.0.0.1", port: 65_536 }] },
    ];
    for (const join of wrong) {
      const parse = () => parseJoinString(formatJoinString(join));
      assert.throws(parse, { code: "invalid_argument", message: /^the join string/ });
    }
  });

  test("can come from a file, whose errors name it", () => {
    const directory = mkdtempSync(join(tmpdir(), "selvage-join-"));
    try {
      const path = join(directory, "join");
      assert.throws(() => readJoinArgument(`@${path}`), {
        code: "not_found",
        message: new RegExp(path),
      });
      writeFileSync(path, `${formatJoinString(SAMPLE)}\n`);
      assert.deepEqual(readJoinArgument(`@${path}`), SAMPLE);
      assert.deepEqual(readJoinArgument(formatJoinString(SAMPLE)), SAMPLE);
      writeFileSync(path, "nonsense");
      assert.throws(() => readJoinArgument(`@${path}`), {
        message: new RegExp(`^${path}: not a join`),
      });
      writeFileSync(path, "x".repeat(70_000));
      assert.throws(() => readJoinArgument(`@${path}`), { code: "too_large" });
      assert.throws(() => readJoinArgument(`@${directory}`), { code: "unavailable" });
      assert.throws(() => readJoinArgument("@"), { code: "invalid_argument" });
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});
