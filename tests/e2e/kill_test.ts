/**
 * The agent killed and started again where the kernel forwards: the packets do not notice, and of
 * what was right nothing is written again.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { KernelWitness } from "./kernel_witness.ts";
import { type Lab, withLab } from "./lab.ts";

const NETWORK = "10.210.0.0/16";
const CONFIGS: readonly [name: string, backend: unknown][] = [
  ["vxlan", { Type: "vxlan" }],
  ["vxlan of generation 2", { Type: "vxlan", Generation: 2 }],
  ["vxlan of generation 1", { Type: "vxlan", Generation: 1 }],
  ["host-gw", { Type: "host-gw" }],
];

async function restart(lab: Lab, host: number, config: unknown): Promise<void> {
  if (host === 1) await lab.startRegistry(config);
  else await lab.startJoined(host);
  await lab.untilPeers(1, host);
}

describe("kill -9 and a new start while a ping runs", () => {
  for (const [name, backend] of CONFIGS) {
    test(name, () =>
      withLab(2, async (lab) => {
        const config = { Network: NETWORK, Backend: backend };
        const witnesses = [1, 2].map((host) => new KernelWitness(lab.network(host).host));
        await lab.startRegistry(config);
        await lab.startJoined(2);
        await lab.untilPeers(1, 1, 2);
        for (const witness of witnesses) assert.notDeepEqual(witness.writes(), []);
        await lab.attach(1);
        await lab.attach(2);
        // The first packet of a pair is generation 1's to lose.
        await lab.untilPing(1, 2);
        const ping = lab.startPing(1, 2);
        await ping.flowing();
        for (const host of [2, 1]) {
          const witness = witnesses[host - 1]!;
          await lab.kill(host);
          await ping.flowing(30);
          witness.writes();
          await restart(lab, host, config);
          await ping.flowing(30);
          assert.deepEqual(witness.writes(), [], `host${host}`);
        }
        assert.deepEqual(await ping.endAndListLost(), []);
        for (const witness of witnesses) witness.close();
      }));
  }
});
