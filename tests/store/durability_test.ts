import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { EmbeddedStore, registryPath } from "../../src/store/embedded_store.ts";
import { leaseKey } from "../../src/lease/lease.ts";
import { seededRandom } from "../lease/sample.ts";
import { spawnModule } from "./child.ts";

const SEED = 909;
const ROUNDS = 5;

/** Lets a child acquire leases, kills it after `count` of them, gives all it printed. */
async function acquireUntilKilled(path: string, first: number, count: number): Promise<string[]> {
  const child = spawnModule(new URL("./acquirer_child.ts", import.meta.url), [path, String(first)]);
  let text = "";
  let lineCount = 0;
  child.stdout.setEncoding("utf8");
  child.stdout.on("data", (chunk: string) => {
    text += chunk;
    lineCount += chunk.split("\n").length - 1;
    if (lineCount >= count) child.kill("SIGKILL");
  });
  const signal = await new Promise((resolve) => child.once("close", (_, name) => resolve(name)));
  assert.equal(signal, "SIGKILL", "the child ended by itself");
  // The last line may be cut where the kill hit; it was then not acknowledged.
  return text.split("\n").slice(0, -1);
}

describe("the embedded store", () => {
  test(`loses nothing acknowledged when it is killed (seed ${SEED})`, async () => {
    const parent = mkdtempSync(join(tmpdir(), "selvage-durability-"));
    const path = registryPath(join(parent, "state"));
    const random = seededRandom(SEED);
    const acknowledged = new Set<string>();
    try {
      for (let round = 0; round < ROUNDS; round++) {
        const count = 1 + Math.floor(random() * 150);
        const keys = await acquireUntilKilled(path, round * 20_000, count);
        assert.ok(keys.length >= count);
        for (const key of keys) {
          assert.equal(acknowledged.has(key), false, `${key} was given out twice`);
          acknowledged.add(key);
        }
        const store = new EmbeddedStore({ path });
        const held = new Set((await store.list()).map((lease) => leaseKey(lease.subnets)));
        await store.close();
        for (const key of acknowledged) assert.ok(held.has(key), `${key} is lost (round ${round})`);
      }
    } finally {
      rmSync(parent, { recursive: true });
    }
  });
});
