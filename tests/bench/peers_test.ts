import assert from "node:assert/strict";
import { test } from "node:test";
import { measurePeers, type PeersCase } from "./peers.ts";

const NEVER = new AbortController().signal;

test("peers get into the tables of a kernel, and a restart finds them there", async () => {
  const cases = (["vxlan", "host-gw"] as const).map((backend): PeersCase => ({
    backend,
    peerCount: 40,
    startMax_ms: 500,
    restartMax_ms: 300,
  }));
  const said: string[] = [];
  const say = (text: string) => said.push(text);
  const figures = await measurePeers({ rounds: 2, signal: NEVER, say }, cases);
  assert.deepEqual(figures.map(({ title }) => title), [
    "vxlan, 40 peers, from leases to the last route",
    "vxlan, 40 peers, after a restart, nothing written",
    "host-gw, 40 peers, from leases to the last route",
    "host-gw, 40 peers, after a restart, nothing written",
  ]);
  for (const { title, values } of figures) {
    assert.ok(values.length === 2 && values.every((one) => one > 0), `${title}: ${values}`);
  }
  // Each round begins with another.
  assert.deepEqual(said.map((text) => /, (.*), 40 peers/.exec(text)![1]), [
    "vxlan",
    "host-gw",
    "host-gw",
    "vxlan",
  ]);
});
