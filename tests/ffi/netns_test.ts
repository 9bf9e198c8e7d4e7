import assert from "node:assert/strict";
import { readFileSync, readlinkSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { closeNetns, createNetns, withNetns } from "../../ffi/netns.ts";

const here = (): string => readlinkSync("/proc/thread-self/ns/net");

function deviceNames(): string[] {
  const lines = readFileSync("/proc/thread-self/net/dev", "utf8").trim().split("\n").slice(2);
  return lines.map((line) => line.split(":")[0]!.trim());
}

test("a new namespace has a loopback alone, and the caller stays where it was", () => {
  const before = here();
  const netns = createNetns();
  try {
    assert.equal(here(), before);
    withNetns(netns, () => {
      assert.notEqual(here(), before);
      assert.ok(deviceNames().includes("lo"));
      assert.ok(!deviceNames().some((name) => name.startsWith("eth")));
    });
    assert.equal(here(), before);
  } finally {
    closeNetns(netns);
  }
});

test("the caller is back also when the function throws", () => {
  const before = here();
  const netns = createNetns();
  try {
    assert.throws(() =>
      withNetns(netns, () => {
        throw new Error("boom");
      }), /boom/);
    assert.equal(here(), before);
  } finally {
    closeNetns(netns);
  }
});

test("a process is born in the namespace it was started in", () => {
  const netns = createNetns();
  try {
    const inside = withNetns(netns, here);
    const child = withNetns(netns, () => spawnSync("readlink", ["/proc/self/ns/net"]));
    assert.equal(child.stdout.toString().trim(), inside);
  } finally {
    closeNetns(netns);
  }
});
