/** A host that was cut off from etcd: it hears at once what it has missed. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import type { Status } from "../../src/agent/status.ts";
import { ChaosHost } from "./chaos_host.ts";
import { CutNetwork } from "./cut_network.ts";
import { EtcdCluster } from "./etcd_cluster.ts";

const WAIT_MAX_MS = 20_000;
const POLL_MS = 10;
/**
 * What was sent to it at the cut is sent again after 0.2 s, 0.6 s, 1.4 s, 3 s and 6.2 s, or a
 * little later: this is just past one of them.
 */
const CUT_MS = 4_000;
const TOLD_MS = 1_500;

async function until(host: ChaosHost, isReached: (status: Status) => boolean): Promise<Status> {
  const end_ms = performance.now() + WAIT_MAX_MS;
  while (true) {
    const status = await host.ask();
    if (status !== null && isReached(status)) return status;
    assert.ok(performance.now() < end_ms, `${host.name}: ${JSON.stringify(status)}\n${host.log}`);
    await pause(POLL_MS);
  }
}

const subnetOf = ({ lease }: Status) => lease?.subnets[0];

test("a host that was cut off hears at once that its subnet is another's", async (t) => {
  const network = new CutNetwork(5);
  const cluster = new EtcdCluster(network);
  const directory = mkdtempSync(join(tmpdir(), "selvage-cut-"));
  const [cut, other] = [4, 5].map((number) =>
    new ChaosHost(network, number, directory, [cluster.endpointsFlag])
  ) as [ChaosHost, ChaosHost];
  try {
    await cluster.setConfig({ Network: "10.210.0.0/16" });
    cut.start();
    const before = subnetOf(await until(cut, ({ phase }) => phase === "ready"));
    cut.cut();
    const end = pause(CUT_MS);
    const key = await cluster.expire(cut.address);
    other.startNewly(key);
    const taken = subnetOf(await until(other, ({ phase }) => phase === "ready"));
    assert.equal(taken, before);
    await end;
    cut.join();
    const start_ms = performance.now();
    const moved = await until(cut, (status) => subnetOf(status) !== before);
    const took_ms = performance.now() - start_ms;
    t.diagnostic(`it was told after ${took_ms.toFixed(0)} ms`);
    assert.ok(took_ms < TOLD_MS, `told after ${took_ms} ms:\n${cut.log}`);
    assert.notEqual(subnetOf(moved), undefined);
    await until(cut, ({ phase }) => phase === "ready");
  } finally {
    await Promise.all([cut.close(), other.close()]);
    await cluster.close();
    network.close();
    rmSync(directory, { recursive: true, force: true });
  }
});
