import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import type { Ground } from "./ground.ts";
import { measureLatency } from "./latency.ts";
import { kernelVxlan } from "./paths/kernel_vxlan.ts";
import { foreignPath } from "./paths/path.ts";
import { plain } from "./paths/plain.ts";
import { hostGw, kernelVxlanOfOurs } from "./paths/selvage.ts";
import { processesIn } from "./processes.ts";

const NEVER = new AbortController().signal;

for (const candidate of [plain, kernelVxlan, hostGw, kernelVxlanOfOurs]) {
  test(`${candidate.title}: requests from one container are answered by the other`, async () => {
    assert.equal(candidate.obstacle(), null);
    const path = await candidate.setUp(NEVER);
    try {
      const { p50_us, p99_us } = await measureLatency(path, 100, NEVER);
      assert.ok(p50_us > 0 && p50_us <= p99_us, `p50 ${p50_us}, p99 ${p99_us}`);
      assert.deepEqual(processesIn(...path.hosts.map(({ container }) => container)), []);
    } finally {
      await path.close();
    }
  });
}

/** A path whose set-up does this; gives the ground it was built on, too. */
function pathOf(build: (ground: Ground) => Promise<void>) {
  const made: Ground[] = [];
  const path = foreignPath({
    id: "test",
    title: "test",
    note: "for this test",
    packages: {},
    mtu_bytes: 1400,
    build: (ground) => {
      made.push(ground);
      return build(ground);
    },
  });
  return { path, made };
}

test("a daemon that gives up is a reason with its last words, and nothing is left", async () => {
  const { path, made } = pathOf(async (ground) => {
    ground.start(1, "sh", "-c", "echo no such cipher >&2; exit 3");
    await ground.device(1, "tunnel0");
  });
  const reason = /^Error: sh ended with 3 \(host1-sh\.log: no such cipher\)$/;
  await assert.rejects(path.setUp(NEVER), reason);
  assert.equal(existsSync(made[0]!.directory), false);
});

test("a command that fails is a reason", async () => {
  const { path } = pathOf((ground) => {
    return Promise.resolve(ground.ip(1, "link", "set", "nothing0", "up"));
  });
  await assert.rejects(path.setUp(NEVER), /ip link set nothing0 up: Cannot find device/);
});

test("an interruption ends the set-up, and the daemons with it", async () => {
  const ending = new AbortController();
  const { path, made } = pathOf(async (ground) => {
    ground.start(2, "sleep", "600");
    ending.abort(new Error("interrupted"));
    await ground.device(2, "tunnel0");
  });
  await assert.rejects(path.setUp(ending.signal), /interrupted/);
  assert.equal(existsSync(made[0]!.directory), false);
});
