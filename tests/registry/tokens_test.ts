import { afterEach, beforeEach, describe, test } from "node:test";
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bearerToken } from "../../src/net/bearer_token.ts";
import { TOKEN_COUNT_MAX, tokensPath, TokenStore } from "../../src/registry/tokens.ts";

describe("tokens", () => {
  let parent: string;
  let path: string;
  let tokens: TokenStore;
  beforeEach(() => {
    parent = mkdtempSync(join(tmpdir(), "selvage-tokens-"));
    path = tokensPath(join(parent, "state"));
    tokens = new TokenStore(path, () => 1234);
  });
  afterEach(() => {
    tokens.close();
    rmSync(parent, { recursive: true });
  });

  test("are good for their scope until they are revoked", () => {
    const join = tokens.create("join", "rack 3");
    const api = tokens.create("api");
    assert.equal(tokens.verify(join.token), "join");
    assert.equal(tokens.verify(api.token), "api");
    assert.deepEqual(tokens.identify(join.token), { id: join.info.id, scope: "join" });
    const listed = tokens.list();
    assert.equal(listed.length, 2);
    assert.deepEqual(listed.find(({ id }) => id === join.info.id), {
      id: join.info.id,
      scope: "join",
      description: "rack 3",
      created_ms: 1234,
    });
    const revoked: string[] = [];
    tokens.onRevoke((id) => revoked.push(id));
    tokens.revoke(join.info.id);
    assert.deepEqual(revoked, [join.info.id]);
    assert.equal(tokens.verify(join.token), null);
    assert.equal(tokens.exists(join.info.id), false);
    assert.equal(tokens.verify(api.token), "api");
    assert.throws(() => tokens.revoke(join.info.id), { code: "not_found" });
  });

  test("of another form, id or secret are none", () => {
    const { token, info } = tokens.create("join");
    const other = tokens.create("join").token;
    const wrong = [
      "",
      info.id,
      `${info.id}.`,
      token.slice(0, -1),
      `${token}A`,
      `${info.id}.${other.split(".")[1]}`,
      `${token.slice(0, -2)}${token.at(-2) === "A" ? "B" : "A"}${token.at(-1)}`,
      token.toUpperCase(),
      ` ${token}`,
      `' OR 1=1 --.${"A".repeat(43)}`,
    ];
    for (const text of wrong) assert.equal(tokens.verify(text), null, text);
  });

  test("leave no secret in the file, which is its owner's alone", () => {
    const { token } = tokens.create("join");
    const secret = token.split(".")[1]!;
    tokens.close();
    const bytes = readFileSync(path);
    assert.equal(bytes.includes(secret), false);
    assert.equal(bytes.includes(Buffer.from(secret, "base64url")), false);
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });

  test("make no file by being looked for", () => {
    assert.equal(tokens.verify(`${"0".repeat(12)}.${"A".repeat(43)}`), null);
    assert.deepEqual(tokens.list(), []);
    assert.equal(tokens.exists("0".repeat(12)), false);
    assert.throws(() => tokens.revoke("0".repeat(12)), { code: "not_found" });
    assert.equal(existsSync(join(parent, "state")), false);
  });

  test("are seen by every process that has the file open", () => {
    const other = new TokenStore(path);
    const { token, info } = tokens.create("api");
    assert.equal(other.verify(token), "api");
    other.revoke(info.id);
    assert.equal(tokens.verify(token), null);
    other.close();
  });

  test("are bounded in number and in length of their description", () => {
    assert.throws(() => tokens.create("join", "x".repeat(201)), { code: "invalid_argument" });
    for (let i = 0; i < TOKEN_COUNT_MAX; i++) tokens.create("api");
    assert.throws(() => tokens.create("api"), { code: "too_large" });
  });

  test("are read from the header", () => {
    assert.equal(bearerToken("Bearer abc.DEF-_"), "abc.DEF-_");
    assert.equal(bearerToken("bearer  abc "), "abc");
    const none = [undefined, null, "", "Bearer", "Bearer ", "Basic abc", "Bearer a b", "abc"];
    for (const header of none) assert.equal(bearerToken(header), null, String(header));
    assert.equal(bearerToken(`Bearer ${"x".repeat(257)}`), null);
  });
});
