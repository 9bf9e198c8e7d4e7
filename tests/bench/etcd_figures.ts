/** What it takes to join a large network that is kept in etcd, and what a node of it needs. */
import { fileURLToPath } from "node:url";
import { setTimeout as pause } from "node:timers/promises";
import type { Netns } from "../../ffi/netns.ts";
import { Lab } from "../e2e/lab.ts";
import { LabEtcd } from "../e2e/lab_etcd.ts";
import { runToEnd } from "./children.ts";
import type { JoinTime } from "./etcd_join.ts";
import { processesIn, sampleMemory_MB } from "./processes.ts";
import type { Figure } from "./results.ts";

const CHILD = fileURLToPath(new URL("./etcd_child.ts", import.meta.url));
const BUN = "node_modules/@oven/bun-linux-x64/bin/bun";
const TIMEOUT_MS = 120_000;
const CALL_COUNT_MAX = 10;
const MEMORY_MAX_MB = 60;
/** When a node has given back what its start took. */
const SETTLE_MS = 10_000;
/** Seconds: signs of life map code that is unmapped again soon after. */
const SAMPLE_COUNT = 30;

/** A network with so many leases, and how soon a node that joins has planned for all of them. */
export interface EtcdCase {
  readonly peerCount: number;
  readonly joinMax_ms: number;
}

export const ETCD_CASES: readonly EtcdCase[] = [
  { peerCount: 5_000, joinMax_ms: 800 },
  { peerCount: 50_000, joinMax_ms: 6_000 },
];

export interface EtcdFigureOptions {
  readonly rounds: number;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
  /** Whether a daemon joins the first network, too, and its memory is watched; by default so. */
  readonly isMemorySampled?: boolean;
}

async function runChild(
  netns: Netns,
  args: readonly string[],
  signal: AbortSignal,
): Promise<string> {
  const limits = { timeout_ms: TIMEOUT_MS, signal };
  const { status, stdout, stderr } = await runToEnd(netns, BUN, [CHILD, ...args], limits);
  if (status !== 0) throw new Error(`etcd, ${args.join(" ")}: ${stderr.trim()}`);
  return stdout;
}

/** The real daemon on its host, settled and idle. */
async function sampleMemory(
  lab: Lab,
  etcd: LabEtcd,
  peerCount: number,
  signal: AbortSignal,
): Promise<number[]> {
  // The machine's resolver may lie in so large a network. Nothing here asks it.
  lab.launch(2, [etcd.flag, "--allow-network-overlap"]);
  await lab.untilPeers(peerCount, 2);
  await pause(SETTLE_MS, undefined, { signal });
  const pids = processesIn(lab.network(2).host);
  const [samples] = await sampleMemory_MB(pids, ["VmRSS"], SAMPLE_COUNT, signal);
  await lab.stop(2);
  return samples!;
}

async function measureCase(
  { peerCount, joinMax_ms }: EtcdCase,
  isMemorySampled: boolean,
  { rounds, signal, say }: EtcdFigureOptions,
): Promise<Figure[]> {
  const peers = `${peerCount.toLocaleString("en")} leases`;
  const lab = new Lab(2);
  const etcd = new LabEtcd(lab);
  try {
    etcd.start();
    say(`an etcd with ${peers}`);
    const { host } = lab.network(2);
    await runChild(lab.network(1).host, ["fill", etcd.url, String(peerCount)], signal);
    const joins: JoinTime[] = [];
    for (let round = 0; round < rounds; round++) {
      say(`a node joins it, round ${round + 1}/${rounds}`);
      joins.push(JSON.parse(await runChild(host, ["join", etcd.url, String(peerCount)], signal)));
    }
    const figures: Figure[] = [{
      title: `joining ${peers} in etcd: from start to the last peer planned`,
      unit: "ms",
      values: joins.map(({ time_ms }) => time_ms),
      goal: { max: joinMax_ms },
    }, {
      title: `joining ${peers} in etcd: calls`,
      unit: "calls",
      values: joins.map(({ callCount }) => callCount),
      ...(peerCount > 5_000 ? {} : { goal: { max: CALL_COUNT_MAX } }),
    }];
    if (!isMemorySampled) return figures;
    say("its memory");
    const values = await sampleMemory(lab, etcd, peerCount, signal);
    const title = `resident memory over etcd, ${peers}, settled`;
    return [...figures, { title, unit: "MB", values, goal: { max: MEMORY_MAX_MB } }];
  } finally {
    await etcd.close();
    await lab.close();
  }
}

/** All cases, one after the other; the first with the daemon's memory. */
export async function measureEtcd(
  options: EtcdFigureOptions,
  cases: readonly EtcdCase[] = ETCD_CASES,
): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [i, one] of cases.entries()) {
    options.signal.throwIfAborted();
    const isMemorySampled = i === 0 && (options.isMemorySampled ?? true);
    figures.push(...await measureCase(one, isMemorySampled, options));
  }
  return figures;
}
