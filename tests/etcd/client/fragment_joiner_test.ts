import assert from "node:assert/strict";
import { test } from "node:test";
import { toBytes } from "../../../src/etcd/client/calls.ts";
import { FragmentJoiner } from "../../../src/etcd/client/fragment_joiner.ts";
import { WatchResponse } from "../../../src/etcd/client/generated/rpc.ts";

/** A response with one event of each of these revisions. */
function response(revisions: readonly number[], fragment: boolean, valueSize = 1): WatchResponse {
  const value = new Uint8Array(valueSize);
  const events = revisions.map((revision) => {
    return { kv: { key: toBytes("/a"), value, modRevision: BigInt(revision) } };
  });
  return WatchResponse.fromPartial({ events, fragment });
}

function revisionsOf(joiner: FragmentJoiner, one: WatchResponse): number[] | null {
  return joiner.add(one)?.map(({ entry }) => Number(entry.modRevision)) ?? null;
}

test("fragments come out as one batch, with the last of them", () => {
  const joiner = new FragmentJoiner();
  assert.deepEqual(revisionsOf(joiner, response([1], false)), [1]);
  assert.equal(revisionsOf(joiner, response([2, 2], true)), null);
  assert.equal(revisionsOf(joiner, response([2, 3], true)), null);
  assert.deepEqual(revisionsOf(joiner, response([3], false)), [2, 2, 2, 3, 3]);
  assert.deepEqual(revisionsOf(joiner, response([], false)), []);
});

test("what is very large comes out earlier, but never in the middle of a revision", () => {
  const joiner = new FragmentJoiner();
  const large = 5 * 1024 * 1024;
  assert.equal(revisionsOf(joiner, response([1, 2], true, large)), null);
  assert.deepEqual(revisionsOf(joiner, response([3, 4], true, large)), [1, 2, 3]);
  // The rest of revision 4 comes yet; with more of it there is nothing whole to give.
  assert.equal(revisionsOf(joiner, response([4, 4, 4], true, large)), null);
  assert.deepEqual(revisionsOf(joiner, response([5], true, large)), [4, 4, 4, 4]);
  assert.deepEqual(revisionsOf(joiner, response([5, 6], false, large)), [5, 5, 6]);
});
