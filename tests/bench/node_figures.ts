/** What a node costs that forwards nothing: memory with many peers, processor time when idle. */
import { setTimeout as pause } from "node:timers/promises";
import { putChange } from "../../src/lease/lease_table.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { registryPath } from "../../src/store/embedded_store.ts";
import { RegistryState } from "../../src/store/registry_state.ts";
import { Lab } from "../e2e/lab.ts";
import { networkConfig, node } from "../lease/sample.ts";
import { endProcessesIn, memory_MB, processesIn, processTime_s } from "./processes.ts";
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
/** The start's own work is over by then. */
const SETTLE_MS = 3_000;
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
  const state = new RegistryState(registryPath(stateDir), EVENT_COUNT_MAX, Date.now);
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
    const response = await client.v1.leases.$post({ json });
    if (!response.ok) throw new Error(`reserving ${subnet}: ${await response.text()}`);
  }
}

async function measure(lab: Lab, options: NodeOptions): Promise<Figure[]> {
  const { signal, say } = options;
  say(`a registry with ${PEERS}`);
  feedRegistry(lab.hostDirectory(1));
  await lab.startRegistry(CONFIG);
  await lab.startJoined(2);
  await lab.untilPeers(PEER_COUNT + 1, 1, 2);
  const pids = processesIn(lab.network(2).host);
  await pause(SETTLE_MS, undefined, { signal });

  say(`an idle node, ${options.idle_s} s`);
  const idleFrom_s = processTime_s(pids);
  await pause(options.idle_s * 1000, undefined, { signal });
  const idle_s = processTime_s(pids) - idleFrom_s;
  const memory = [memory_MB(pids, "VmRSS"), memory_MB(pids, "VmHWM"), memory_MB(pids, "RssFile")];

  say(`${CHANGE_COUNT} more hosts, one by one`);
  const changesFrom_s = processTime_s(pids);
  await addHosts(lab, signal);
  await lab.untilPeers(PEER_COUNT + CHANGE_COUNT + 1, 2);
  const changes_s = processTime_s(pids) - changesFrom_s;
  const changes = `${CHANGE_COUNT} hosts that come one by one`;
  const idle = `processor time of an idle node over ${options.idle_s} s, ${PEERS}`;
  return [
    { title: `resident memory, ${PEERS}`, unit: "MB", values: [memory[0]!] },
    { title: "of that, backed by files: the executable", unit: "MB", values: [memory[2]!] },
    { title: "at its highest, since its start", unit: "MB", values: [memory[1]!] },
    { title: `after ${changes}`, unit: "MB", values: [memory_MB(pids, "VmRSS")] },
    { title: `processor time for ${changes}, ${PEERS}`, unit: "s", values: [changes_s] },
    { title: idle, unit: "s", values: [idle_s] },
  ];
}

/** Two hosts, one with the registry, and reservations for thousands that are not there. */
export async function measureNode(options: NodeOptions): Promise<Figure[]> {
  const lab = new Lab(2);
  try {
    return await measure(lab, options);
  } finally {
    await endProcessesIn(...lab.topology.hosts.flatMap(({ host, container }) => [host, container]));
    await lab.close();
  }
}
