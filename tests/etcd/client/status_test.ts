import assert from "node:assert/strict";
import { test } from "node:test";
import { tokenLifetime_ms } from "../../../src/etcd/client/authentication.ts";
import { keyAfter, prefixEnd, prefixRange, toBytes } from "../../../src/etcd/client/calls.ts";
import { connectReason } from "../../../src/etcd/client/connect_reason.ts";
import { parseEndpoint } from "../../../src/etcd/client/endpoint.ts";
import { CompactedError } from "../../../src/etcd/client/error.ts";
import {
  judgeCancelReason,
  type Judgement,
  judgeStatus,
  StatusError,
} from "../../../src/etcd/client/status.ts";

/** In one word: the code of the error, or where to go. */
function brief(judgement: Judgement): string {
  if (judgement.next === "stop") return judgement.error.code;
  return judgement.next === "elsewhere" ? `elsewhere, done: ${judgement.isDone}` : judgement.next;
}

const STATUSES: readonly [code: number, details: string, meaning: string][] = [
  [16, "etcdserver: invalid auth token", "authenticate"],
  [3, "etcdserver: revision of auth store is old", "authenticate"],
  [3, "etcdserver: user name is empty", "authenticate"],
  [3, "etcdserver: authentication failed, invalid user ID or password", "unauthorized"],
  [3, "etcdserver: request is too large", "too_large"],
  [3, "etcdserver: too many operations in txn request", "too_large"],
  [3, "etcdserver: key is not provided", "invalid_argument"],
  [7, "etcdserver: permission denied", "forbidden"],
  [5, "etcdserver: requested lease not found", "not_found"],
  [8, "etcdserver: mvcc: database space exceeded", "store_full"],
  [8, "grpc: received message larger than max (3 vs. 2)", "too_large"],
  [8, "etcdserver: too many requests", "elsewhere, done: no"],
  [14, "etcdserver: no leader", "elsewhere, done: no"],
  [14, "No connection established. Last error: connect ECONNREFUSED", "elsewhere, done: no"],
  [14, "etcdserver: request timed out", "elsewhere, done: unknown"],
  [14, "etcdserver: leader changed", "elsewhere, done: unknown"],
  [14, "Connection dropped", "elsewhere, done: unknown"],
  [14, "", "elsewhere, done: unknown"],
  [4, "Deadline exceeded", "elsewhere, done: unknown"],
  [1, "context canceled", "elsewhere, done: unknown"],
  [12, "unknown service etcdserverpb.KV", "elsewhere, done: no"],
  [2, "raft proposal dropped", "elsewhere, done: unknown"],
  [15, "etcdserver: corrupt cluster", "elsewhere, done: unknown"],
];

for (const [code, details, meaning] of STATUSES) {
  test(`status ${code} ${JSON.stringify(details)} means ${meaning}`, () => {
    assert.equal(brief(judgeStatus(new StatusError(code, details))), meaning);
  });
}

test("a full database is told as such, with what to do", () => {
  const judgement = judgeStatus(new StatusError(8, "etcdserver: mvcc: database space exceeded"));
  assert.ok(judgement.next === "stop");
  assert.match(judgement.error.message, /its database is full \(mvcc: database space exceeded\)/);
  assert.match(judgement.error.hint, /[Cc]ompact.*defrag.*disarm/);
});

test("a user without permission is told what it takes, to read and to write", () => {
  const judgement = judgeStatus(new StatusError(7, "etcdserver: permission denied"));
  assert.ok(judgement.next === "stop");
  assert.match(judgement.error.message, /may not do this \(permission denied\)/);
  assert.match(
    judgement.error.hint,
    /read permission for the prefix, and for commands that change something write permission/,
  );
});

test("history that is gone is a CompactedError", () => {
  const text = "etcdserver: mvcc: required revision has been compacted";
  const judgement = judgeStatus(new StatusError(11, text));
  assert.ok(judgement.next === "stop" && judgement.error instanceof CompactedError);
});

test("a watch's cancel reason is read as the status it would be", () => {
  const prefixed = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
  assert.equal(brief(judgeCancelReason(prefixed)), "forbidden");
  assert.equal(brief(judgeCancelReason("etcdserver: invalid auth token")), "authenticate");
  assert.equal(brief(judgeCancelReason("something new")), "elsewhere, done: unknown");
});

test("a prefix ends before the first key that does not have it", () => {
  assert.deepEqual([...prefixEnd("/a/")], [...toBytes("/a0")]);
  assert.deepEqual([...prefixEnd("")], [0], "0 is without end");
  assert.deepEqual([...prefixRange("").key], [0], "there is no empty key");
  // U+00FF is c3 bf.
  assert.deepEqual([...prefixEnd("ÿ")], [0xc3, 0xc0]);
  assert.deepEqual([...keyAfter(toBytes("a"))], [0x61, 0]);
});

test("a token that says when it ends is known to, and no other", () => {
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const token = (claims: unknown) => `${part({ alg: "ES256" })}.${part(claims)}.signature`;
  assert.equal(tokenLifetime_ms(token({ exp: 1_060 }), 1_000_000), 60_000);
  assert.equal(tokenLifetime_ms(token({ exp: 940 }), 1_000_000), null, "the clock is wrong");
  assert.equal(tokenLifetime_ms(token({ exp: "soon" }), 1_000_000), null);
  assert.equal(tokenLifetime_ms(token(null), 1_000_000), null);
  assert.equal(tokenLifetime_ms("bWgrPAx.17", 1_000_000), null);
  assert.equal(tokenLifetime_ms("a.b.c", 1_000_000), null);
});

test("what gRPC says of a failed connection is shown bare where we have no words", () => {
  const details = "No connection established. Last error: Error: odd (2026-01-01T00:00:00.000Z)";
  const reason = connectReason(parseEndpoint("http://a:1", false), details, null);
  assert.equal(reason.message, "Error: odd");
});
