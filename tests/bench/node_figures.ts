/** What a node costs that forwards nothing: memory with many peers, processor time when idle. */
import { copyFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { putChange } from "../../src/lease/lease_table.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { registryPath } from "../../src/store/embedded_store.ts";
import { RegistryState } from "../../src/store/registry_state.ts";
import { EXECUTABLE, Lab } from "../e2e/lab.ts";
import { networkConfig, node } from "../lease/sample.ts";
import {
  endProcessesIn,
  memory_MB,
  processesIn,
  processTime_s,
  sampleMemory_MB,
} from "./processes.ts";
import type { Figure } from "./results.ts";

const PEER_COUNT = 5_000;
/** Hosts that come one by one while the node runs. */
const CHANGE_COUNT = 200;
const NETWORK = IpPrefix.parse("10.0.0.0/8");
/** The real hosts get their subnets from the upper part, so the reservations are free of them. */
const CONFIG = { Network: NETWORK.toString(), SubnetLen: 24, SubnetMin: "10.128.0.0" };
/** RFC 6598's shared addresses, for hosts that are not there. */
const FIRST_PUBLIC_ADDRESS = IpAddress.parse("100.64.0.1");
const EVENT_COUNT_MAX = 10_000;
/** A node has given back by then what its start took: it does so after 5 s. */
const SETTLE_MS = 8_000;
/** Within this time the registry's last changes have come to the node. */
const ARRIVAL_MS = 1_000;
/** Seconds, two signs of life among them: each maps code that is unmapped again soon after. */
const SAMPLE_COUNT = 30;
const POLL_MS = 50;
const READY_TIMEOUT_MS = 30_000;
/** The machine's resolver may lie in so large a network. Nothing here asks it. */
const FLAGS = ["--allow-network-overlap"];
const PEERS = `${PEER_COUNT.toLocaleString("en")} peers`;

export interface NodeOptions {
  readonly idle_s: number;
  readonly signal: AbortSignal;
  readonly say: (text: string) => void;
}

/** The subnet and the public address of a host that is not there. */
function absentHost(number: number): { subnet: IpPrefix; publicAddress: string } {
  return {
    subnet: IpPrefix.of(NETWORK.address.add(BigInt(number + 1) << 8n), 24),
    publicAddress: FIRST_PUBLIC_ADDRESS.add(BigInt(number)).toString(),
  };
}

/** Makes a registry in which thousands of hosts have a reservation already. */
function feedRegistry(stateDir: string): void {
  const state = new RegistryState(registryPath(stateDir), EVENT_COUNT_MAX);
  try {
    state.setConfig(networkConfig(CONFIG));
    state.apply(Array.from({ length: PEER_COUNT }, (_, number) => {
      const { subnet, publicAddress } = absentHost(number);
      return putChange({ ...node(publicAddress), subnets: [subnet], expiry_ms: null });
    }));
  } finally {
    state.close();
  }
}

/** Reserves subnets for more hosts, one after the other, over the first host's API. */
async function addHosts(lab: Lab, signal: AbortSignal): Promise<void> {
  const { client } = lab.host(1);
  for (let number = PEER_COUNT; number < PEER_COUNT + CHANGE_COUNT; number++) {
    signal.throwIfAborted();
    const { subnet, publicAddress } = absentHost(number);
    const json = { subnets: [subnet.toString()], publicAddresses: [publicAddress] };
    const response = await client.v1.leases.$post({ json, query: {} });
    if (!response.ok) throw new Error(`reserving ${subnet}: ${await response.text()}`);
  }
}

/** Asked in a way that costs the node next to nothing, unlike its status. */
async function untilReady(lab: Lab, host: number, signal: AbortSignal): Promise<void> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(READY_TIMEOUT_MS)]);
  while (true) {
    const response = await lab.host(host).client.readyz.$get().catch(() => null);
    if (response?.ok) return;
    await pause(POLL_MS, undefined, { signal: deadline });
  }
}

async function measure(lab: Lab, options: NodeOptions): Promise<Figure[]> {
  const { signal, say } = options;
  say(`a registry with ${PEERS}`);
  feedRegistry(lab.hostDirectory(1));
  await lab.startRegistry(CONFIG, FLAGS);
  // The registry runs from another file than the node: a real host runs one process alone, which
  // shares no page of its executable with another.
  lab.launch(2, [`--join=@${await lab.joinFile()}`, ...FLAGS], EXECUTABLE);
  await untilReady(lab, 2, signal);
  await lab.untilPeers(PEER_COUNT + 1, 1);
  await pause(ARRIVAL_MS, undefined, { signal });
  const pids = processesIn(lab.network(2).host);
  const joined_MB = memory_MB(pids, "VmRSS");
  await pause(SETTLE_MS, undefined, { signal });

  say(`an idle node, ${options.idle_s} s`);
  const idleFrom_s = processTime_s(pids);
  await pause(options.idle_s * 1000, undefined, { signal });
  const idle_s = processTime_s(pids) - idleFrom_s;
  const fields = ["VmRSS", "RssFile"] as const;
  const [settled_MB, ofFiles_MB] = await sampleMemory_MB(pids, fields, SAMPLE_COUNT, signal);
  const highest_MB = memory_MB(pids, "VmHWM");
  // Only now, since an answer with thousands of peers costs memory of its own.
  await lab.untilPeers(PEER_COUNT + 1, 2);
  await pause(SETTLE_MS, undefined, { signal });

  say(`${CHANGE_COUNT} more hosts, one by one`);
  const changesFrom_s = processTime_s(pids);
  await addHosts(lab, signal);
  await lab.untilPeers(PEER_COUNT + CHANGE_COUNT + 1, 1);
  await pause(ARRIVAL_MS, undefined, { signal });
  const changes_s = processTime_s(pids) - changesFrom_s;
  const changed_MB = memory_MB(pids, "VmRSS");
  await lab.untilPeers(PEER_COUNT + CHANGE_COUNT + 1, 2);
  const changes = `${CHANGE_COUNT} hosts that come one by one`;
  const idle = `processor time of an idle node over ${options.idle_s} s, ${PEERS}`;
  return [
    { title: `resident memory, ${PEERS}, just after the join`, unit: "MB", values: [joined_MB] },
    { title: `resident memory, ${PEERS}, settled`, unit: "MB", values: settled_MB! },
    { title: "of that, backed by files: the executable", unit: "MB", values: ofFiles_MB! },
    { title: "at its highest, since its start", unit: "MB", values: [highest_MB] },
    { title: `after ${changes}`, unit: "MB", values: [changed_MB] },
    { title: `processor time for ${changes}, ${PEERS}`, unit: "s", values: [changes_s] },
    { title: idle, unit: "s", values: [idle_s] },
  ];
}

/** Two hosts, one with the registry, and reservations for thousands that are not there. */
export async function measureNode(options: NodeOptions): Promise<Figure[]> {
  const directory = mkdtempSync(join(tmpdir(), "selvage-bench-"));
  const registry = join(directory, "selvage");
  copyFileSync(EXECUTABLE.command, registry);
  const lab = new Lab(2, { command: registry, args: [] });
  try {
    return await measure(lab, options);
  } finally {
    await endProcessesIn(...lab.topology.hosts.flatMap(({ host, container }) => [host, container]));
    await lab.close();
    rmSync(directory, { recursive: true, force: true });
  }
}
