/** An etcd that is away for long: what a node says, how often it asks, and how it ends. */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:net";
import { test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { openEtcd } from "../../src/etcd/client/open_etcd.ts";
import { EtcdStore } from "../../src/etcd/etcd_store.ts";
import { nodeNumber } from "../lease/sample.ts";
import { FakeClock, Follower, rejectsWith } from "../store/harness.ts";
import { eventually } from "./harness.ts";
import { withEtcd } from "./lab.ts";
import { RealNetwork } from "./real_network.ts";
import { silentEndpoint } from "./silent_endpoint.ts";

const TEN_MINUTES_MS = 10 * 60_000;
/** The back-off has come to its end before this. */
const SETTLE_MS = 4_000;
const WINDOW_MS = 8_000;
/** A try each half second at the most. */
const ATTEMPTS_PER_MINUTE_MAX = 120;

/** Takes the place of a dead server: each try to connect is noted, and broken off. */
class Ruin {
  readonly attempts_ms: number[] = [];
  readonly #server: Server = createServer((socket) => {
    this.attempts_ms.push(performance.now());
    socket.on("error", () => {});
    socket.destroy();
  });

  async listen(port: number): Promise<void> {
    this.#server.listen(port, "127.0.0.1");
    await new Promise((resolve) => this.#server.once("listening", resolve));
  }

  async close(): Promise<void> {
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function assertJitter(times_ms: readonly number[]): void {
  const gaps_ms = times_ms.slice(1).map((time_ms, i) => time_ms - times_ms[i]!);
  assert.ok(gaps_ms.length >= 5, `${gaps_ms.length + 1} attempts`);
  const spread_ms = Math.max(...gaps_ms) - Math.min(...gaps_ms);
  assert.ok(spread_ms > 50, `all ${gaps_ms.length} waits within ${spread_ms} ms`);
}

test("ten minutes without etcd are told, asked about seldom, and end by themselves", (t) =>
  withEtcd({}, async (lab) => {
    const network = new RealNetwork(lab);
    const clock = new FakeClock();
    const [node, other] = [network.store({ clock }), network.store()];
    await other.setConfig('{"Network":"10.5.0.0/16"}', "test");
    const held = await node.acquire({ attributes: nodeNumber(1), previousSubnets: [] });
    const follower = new Follower(node);
    await follower.until(({ table }) => table.size === 1);
    const ruin = new Ruin();
    const mute = await silentEndpoint();
    const deaf = new EtcdStore({
      etcd: openEtcd({ ...lab.clientOptions, endpoints: [`http://${mute.address}`] }),
      prefix: "/none",
    });
    const waiting = new Follower(deaf);
    try {
      clock.advance(60_000);
      const lost_ms = clock.now_ms();
      await lab.killAll();
      await ruin.listen(Number(new URL(lab.members[0]!.endpoint).port));
      await eventually(() => !node.state().connected);
      clock.advance(TEN_MINUTES_MS);
      await pause(SETTLE_MS);
      const [before, muteBefore] = [ruin.attempts_ms.length, mute.acceptedCount];
      const start_ms = performance.now();
      await pause(WINDOW_MS);
      const took_ms = performance.now() - start_ms;
      const perMinute = 60_000 / took_ms;
      const attempts_ms = ruin.attempts_ms.slice(before);
      const rate = attempts_ms.length * perMinute;
      const muteRate = (mute.acceptedCount - muteBefore) * perMinute;
      t.diagnostic(
        `attempts a minute: ${rate.toFixed(0)} refused, ${muteRate.toFixed(0)} unanswered`,
      );
      assert.ok(rate <= ATTEMPTS_PER_MINUTE_MAX, `${rate} attempts a minute`);
      assert.ok(muteRate <= ATTEMPTS_PER_MINUTE_MAX, `${muteRate} unanswered attempts a minute`);
      assertJitter(attempts_ms);
      const state = node.state();
      assert.equal(state.connected, false);
      assert.equal(state.since_ms, lost_ms);
      assert.ok(state.lastError?.includes(lab.members[0]!.endpoint), String(state.lastError));
      assert.ok(deaf.state().lastError?.includes(mute.address), String(deaf.state().lastError));
      await rejectsWith("unavailable", node.renew(held));
      assert.equal(follower.table.size, 1);

      await ruin.close();
      await lab.restartAll();
      await other.acquire({ attributes: nodeNumber(2), previousSubnets: [] });
      await follower.until(({ table }) => table.size === 2);
      await eventually(() => node.state().connected);
      assert.equal(node.state().since_ms, lost_ms + TEN_MINUTES_MS);
      await node.renew(held);
      assert.equal(node.state().lastError, null);
    } finally {
      await Promise.all([follower.stop(), waiting.stop()]);
      await Promise.all([network.close(), deaf.close()]);
      await mute.close();
      await ruin.close().catch(() => {});
    }
  }));
