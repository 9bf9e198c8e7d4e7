/**
 * Two hosts that publish one address, and so hold one lease: both say so, whatever the backend and
 * wherever the leases are kept. A host that restarts is no second one.
 */
import assert from "node:assert/strict";
import { cpSync } from "node:fs";
import { describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import type { Status } from "../../src/agent/status.ts";
import { ip } from "./dual_stack.ts";
import { type Lab, withLab } from "./lab.ts";
import { LabEtcd } from "./lab_etcd.ts";

const SHARED = "198.18.0.50";
const RIVAL = new RegExp(`another daemon with the public address ${SHARED} publishes our lease`);
/** Longer than a daemon waits before it takes a foreign value for a rival's. */
const SETTLED_MS = 2_500;

/** Gives a host the address, without its answering for it: its own one serves the store. */
function share(lab: Lab, host: number): void {
  ip(lab, lab.network(host).host, `addr add ${SHARED}/32 dev eth0`);
  lab.linkFlags[host] = ["--iface=eth0", `--public-ip=${SHARED}`];
}

const sees = ({ problems, ready }: Status) => !ready && problems.some((one) => RIVAL.test(one));

type Start = (host: number) => Promise<Status>;

/** Starts both; the second has the first one's lease, and each sees the other. */
async function startBoth(lab: Lab, start: Start): Promise<void> {
  for (const host of [2, 3]) share(lab, host);
  const { lease } = await start(2);
  const other = await start(3);
  assert.deepEqual(other.lease!.subnets, lease!.subnets);
  for (const host of [2, 3]) {
    await lab.until(host, "does not see the other", sees);
    assert.match(lab.log(host), RIVAL);
  }
}

/** The same, after a restart of the first one, which is no news. */
async function restartAndStartBoth(lab: Lab, start: Start): Promise<void> {
  await startBoth(lab, async (host) => {
    const started = await start(host);
    if (host !== 2) return started;
    await lab.stop(2);
    await start(2);
    await setTimeout(SETTLED_MS);
    const alone = await lab.ready(2);
    assert.deepEqual([alone.problems, alone.lease!.subnets], [[], started.lease!.subnets]);
    return alone;
  });
}

const OTHERS: readonly Record<string, unknown>[] = [
  { Type: "host-gw" },
  { Type: "vxlan" },
  { Type: "vxlan", Datapath: "userspace" },
  { Type: "alloc" },
];

function inRegistry(
  Backend: Record<string, unknown>,
  run: (lab: Lab, start: Start) => Promise<void> = startBoth,
): Promise<void> {
  return withLab(3, async (lab) => {
    await lab.startRegistry({ Network: "10.210.0.0/16", Backend });
    await run(lab, (host) => lab.startJoined(host));
  });
}

function inEtcd(
  Backend: Record<string, unknown>,
  run: (lab: Lab, start: Start) => Promise<void> = startBoth,
): Promise<void> {
  return withLab(3, async (lab) => {
    const etcd = new LabEtcd(lab);
    try {
      etcd.start();
      await etcd.setConfig({ Network: "10.210.0.0/16", Backend });
      await run(lab, (host) => {
        lab.launch(host, [etcd.flag]);
        return lab.ready(host);
      });
      const [value] = etcd.leases().values();
      assert.match(value!, /"Node":\{"ID":"[0-9a-f]{32}","Run":"[0-9a-f]{32}"\}\}$/);
    } finally {
      await etcd.close();
    }
  });
}

describe("two hosts with one public address, in a registry", () => {
  test("udp, after a restart", () => inRegistry({ Type: "udp" }, restartAndStartBoth));

  // Most of the time they wait, so they do it together.
  test(`${OTHERS.map(({ Type }) => Type).join(", ")}`, async () => {
    await Promise.all(OTHERS.map((Backend) => inRegistry(Backend)));
  });

  test("udp, the second with a copy of the first one's state directory", () =>
    inRegistry({ Type: "udp" }, async (lab, start) => {
      await startBoth(lab, (host) => {
        if (host === 3) {
          const isFile = (path: string) => !path.endsWith(".sock");
          const [from, to] = [lab.hostDirectory(2), lab.hostDirectory(3)];
          cpSync(from, to, { recursive: true, filter: isFile });
        }
        return start(host);
      });
      const { problems } = await lab.until(2, "does not see the other", sees);
      assert.match(problems.join(), /remove node_id from a copied state directory/);
    }));
});

describe("two hosts with one public address, in etcd", () => {
  test("udp, after a restart", () => inEtcd({ Type: "udp" }, restartAndStartBoth));

  test("host-gw, alloc", async () => {
    await Promise.all([inEtcd({ Type: "host-gw" }), inEtcd({ Type: "alloc" })]);
  });
});
