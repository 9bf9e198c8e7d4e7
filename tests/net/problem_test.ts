import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { type ErrorCode, SelvageError } from "../../src/errors.ts";
import { problemResponse, readProblem } from "../../src/net/problem.ts";

describe("a problem", () => {
  test("carries every error there and back", async () => {
    const codes: [ErrorCode, number][] = [
      ["invalid_argument", 400],
      ["unauthorized", 401],
      ["forbidden", 403],
      ["not_found", 404],
      ["config_missing", 404],
      ["conflict", 409],
      ["lease_lost", 409],
      ["too_large", 413],
      ["internal", 500],
      ["permission", 500],
      ["unsupported", 501],
      ["unavailable", 503],
      ["out_of_subnets", 507],
    ];
    for (const [code, status] of codes) {
      const error = new SelvageError(code, `it is "${code}"`, { hint: "Do better." });
      const response = problemResponse(error);
      assert.equal(response.status, status);
      assert.equal(response.headers.get("content-type"), "application/problem+json");
      assert.equal(response.headers.has("www-authenticate"), status === 401);
      const text = await response.text();
      const read = readProblem(status, text);
      assert.deepEqual([read.code, read.message, read.hint], [code, error.message, "Do better."]);
      const { type, title, status: inner } = JSON.parse(text);
      assert.equal(type, `urn:selvage:problem:${code}`);
      assert.equal(inner, status);
      assert.ok(title.length > 0);
    }
  });

  test("may have another status than the usual one", async () => {
    const response = problemResponse(new SelvageError("not_found", "gone"), 410);
    assert.equal(response.status, 410);
    assert.equal((await response.json()).status, 410);
  });

  test("tells nothing of a defect's text", async () => {
    const response = problemResponse(new Error("secret"));
    assert.equal(response.status, 500);
    assert.equal((await response.text()).includes("secret"), false);
  });

  test("that is none is read as what its status says", () => {
    const rows: [number, string, ErrorCode, RegExp][] = [
      [502, "<html>Bad gateway</html>", "unavailable", /HTTP status 502: "<html>/],
      [404, "", "not_found", /^HTTP status 404$/],
      [401, "[]", "unauthorized", /401/],
      [418, "null", "internal", /418/],
      [400, '{"code":"no_such_code","detail":"x"}', "invalid_argument", /400/],
      [400, '{"code":"toString","detail":"x"}', "invalid_argument", /400/],
      [400, '{"code":"conflict","detail":5}', "invalid_argument", /400/],
      [400, '{"code":"conflict","detail":"x","hint":5}', "conflict", /^x$/],
    ];
    for (const [status, body, code, message] of rows) {
      const error = readProblem(status, body);
      assert.equal(error.code, code, body);
      assert.match(error.message, message);
    }
    assert.ok(readProblem(500, "x".repeat(100_000)).message.length < 300);
  });
});
