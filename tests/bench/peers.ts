/**
 * How long it takes until thousands of peers are in the kernel's tables, from leases in memory to
 * the dump that shows them all, and again after a restart when nothing has to change.
 */
import { fileURLToPath } from "node:url";
import { NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import { closeNetns, type Netns, withNetns } from "../../ffi/netns.ts";
import { createTestNetns } from "../netns.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { NetlinkConnection } from "../../src/netlink/connection.ts";
import { addAddress, createVeth, getLink, setLink } from "../../src/netlink/rtnetlink.ts";
import { runToEnd } from "./children.ts";
import { OUTER_ADDRESS, OUTER_DEVICE, OUTER_PREFIX_LENGTH, type PeersTime } from "./peers_time.ts";
import type { Figure } from "./results.ts";
import { rotate } from "./statistics.ts";

const CHILD = fileURLToPath(new URL("./peers_child.ts", import.meta.url));
const BUN = "node_modules/@oven/bun-linux-x64/bin/bun";
const TIMEOUT_MS = 120_000;
const FAR_END = "far0";

/** One backend with so many peers, and what it must keep to. */
export interface PeersCase {
  readonly backend: "vxlan" | "host-gw";
  readonly peerCount: number;
  /** From leases to the last route. */
  readonly startMax_ms: number;
  /** After a restart. */
  readonly restartMax_ms: number;
}

export const PEERS_CASES: readonly PeersCase[] = (["vxlan", "host-gw"] as const).flatMap(
  (backend) => [
    { backend, peerCount: 5_000, startMax_ms: 500, restartMax_ms: 300 },
    { backend, peerCount: 50_000, startMax_ms: 6_000, restartMax_ms: 6_000 },
  ],
);

export interface PeersOptions {
  readonly rounds: number;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

/** Gives the namespace an outer interface that reaches all peers directly. */
function addOuterLink(netns: Netns): void {
  const connection = withNetns(netns, () => new NetlinkConnection(new NetlinkRouteSocket()));
  try {
    createVeth(connection, { name: OUTER_DEVICE, peer: { name: FAR_END } });
    for (const name of [FAR_END, OUTER_DEVICE]) {
      setLink(connection, getLink(connection, name)!, { isUp: true });
    }
    addAddress(connection, {
      linkIndex: getLink(connection, OUTER_DEVICE)!.index,
      linkName: OUTER_DEVICE,
      address: IpAddress.parse(OUTER_ADDRESS),
      prefixLength: OUTER_PREFIX_LENGTH,
    });
  } finally {
    connection.close();
  }
}

/** Runs the daemon's part once, in a process of its own, as a start is. */
async function runOnce(
  netns: Netns,
  { backend, peerCount }: PeersCase,
  signal: AbortSignal,
): Promise<PeersTime> {
  const args = [CHILD, backend, String(peerCount)];
  const { status, stdout, stderr } = await runToEnd(netns, BUN, args, {
    timeout_ms: TIMEOUT_MS,
    signal,
  });
  if (status !== 0) throw new Error(`${backend}, ${peerCount} peers: ${stderr.trim()}`);
  return JSON.parse(stdout) as PeersTime;
}

/** A start into empty tables, and a restart. Throws if they wrote too little or too much. */
async function runBoth(one: PeersCase, signal: AbortSignal): Promise<[PeersTime, PeersTime]> {
  const netns = createTestNetns();
  try {
    addOuterLink(netns);
    const start = await runOnce(netns, one, signal);
    const restart = await runOnce(netns, one, signal);
    const name = `${one.backend}, ${one.peerCount} peers`;
    if (start.changeCount < one.peerCount) throw new Error(`${name}: there were some already`);
    if (restart.changeCount > 0) {
      throw new Error(`${name}: a restart with nothing to do made ${restart.changeCount} changes`);
    }
    return [start, restart];
  } finally {
    closeNetns(netns);
  }
}

/** Interleaved rounds of all cases. Rejects if a restart writes anything. */
export async function measurePeers(
  { rounds, signal, say }: PeersOptions,
  cases: readonly PeersCase[] = PEERS_CASES,
): Promise<Figure[]> {
  const all = cases.map((one) => ({ one, starts: [] as PeersTime[], restarts: [] as PeersTime[] }));
  for (let round = 0; round < rounds; round++) {
    for (const { one, starts, restarts } of rotate(all, round)) {
      const [start, restart] = await runBoth(one, signal);
      starts.push(start);
      restarts.push(restart);
      const times = `${start.time_ms.toFixed(0)} ms, restart ${restart.time_ms.toFixed(0)} ms`;
      say(`round ${round + 1}/${rounds}, ${one.backend}, ${one.peerCount} peers: ${times}`);
    }
  }
  return all.flatMap(({ one: { backend, peerCount, startMax_ms, restartMax_ms }, ...times }) => {
    const what = `${backend}, ${peerCount.toLocaleString("en")} peers`;
    const values = (list: readonly PeersTime[]) => list.map(({ time_ms }) => time_ms);
    return [
      {
        title: `${what}, from leases to the last route`,
        unit: "ms",
        values: values(times.starts),
        goal: { max: startMax_ms },
      },
      {
        title: `${what}, after a restart, nothing written`,
        unit: "ms",
        values: values(times.restarts),
        goal: { max: restartMax_ms },
      },
    ];
  });
}
