/**
 * Hosts whose vxlan is of each of flannel's three generations, and one in user space, in one
 * cluster: all of them speak with all others, and what is in their tables is what the generation
 * needs.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout } from "node:timers/promises";
import type { Netns } from "../../ffi/netns.ts";
import { IpAddress, type IpPrefix } from "../../src/net/ip.ts";
import { BarePeer } from "./bare_peer.ts";
import { ip } from "./dual_stack.ts";
import { type Lab, withLab } from "./lab.ts";
import { NamespaceShell } from "./namespace_shell.ts";
import { takeLeases, vxlanLeaseValue } from "./simulated_peers.ts";

const DEVICE = "selvage.1";
const KERNEL_HOSTS = [1, 2, 3] as const;
const HOSTS = [...KERNEL_HOSTS, 4];
/** What each host's network configuration says, by host. */
const BACKENDS: Readonly<Record<number, unknown>> = {
  1: { Type: "vxlan", Generation: 3 },
  2: { Type: "vxlan", Generation: 2 },
  3: { Type: "vxlan", Generation: 1 },
  4: { Type: "vxlan", Datapath: "userspace" },
};
const GENERATION_1_HOST = 3;
/** With the three other hosts each host has so many. */
const PEER_COUNT = 50;
const SIMULATED_COUNT = PEER_COUNT - (HOSTS.length - 1);
/** Containers that each host has to do with, two a peer. */
const CONTAINER_COUNT = 20;

/** No subnets are given out above, so that nobody has those addresses. */
function configOf(host: number) {
  return { Network: "10.210.0.0/16", SubnetMax: "10.210.99.0", Backend: BACKENDS[host] };
}
const NOBODYS = IpAddress.parse("10.210.100.0");

/**
 * A host reads the configuration at its start: the registry gets another before each. Host 1, which
 * has the registry, comes last.
 */
async function startAll(lab: Lab): Promise<void> {
  for (const host of HOSTS.slice(1)) {
    await lab.startRegistry(configOf(host));
    await lab.startJoined(host);
    await lab.stop(1);
  }
  await lab.startRegistry(configOf(1));
  for (const host of HOSTS) await lab.attach(host);
}

interface Tables {
  readonly routes: readonly string[];
  /** Addresses with a MAC. */
  readonly neighbours: readonly string[];
  readonly fdb: readonly string[];
}

/** What is there of our device; what the kernel still asks for, or did in vain, is not counted. */
async function tablesOf(shell: NamespaceShell): Promise<Tables> {
  const text = await shell.run(
    [
      "ip -j route show type unicast proto 83",
      `ip -j -4 neigh show dev ${DEVICE}`,
      `bridge -j fdb show dev ${DEVICE}`,
    ].map((command) => `${command}; echo`).join("\n"),
  );
  const [routes, neighbours, fdb] = text.split("\n").filter((line) => line !== "")
    .map((line) => JSON.parse(line) as { dst: string; lladdr?: string; mac?: string }[]);
  return {
    routes: routes!.map(({ dst }) => dst).sort(),
    neighbours: neighbours!.filter(({ lladdr }) => lladdr !== undefined)
      .map(({ dst }) => dst).sort(),
    fdb: fdb!.map(({ mac, dst }) => `${mac} ${dst}`).sort(),
  };
}

function counts({ routes, neighbours, fdb }: Tables): string {
  return `${routes.length} routes, ${neighbours.length} neighbours, ${fdb.length} FDB entries`;
}

/** How many there must be, by host, when so many containers of so many peers are in use. */
const EXPECTED: Readonly<Record<number, string>> = {
  1: `${PEER_COUNT} routes, ${PEER_COUNT} neighbours, ${PEER_COUNT} FDB entries`,
  2: `1 routes, ${CONTAINER_COUNT} neighbours, ${PEER_COUNT} FDB entries`,
  3: `1 routes, ${CONTAINER_COUNT} neighbours, ${CONTAINER_COUNT / 2} FDB entries`,
};

/** Sends to 20 containers of ten peers, which do not answer, and counts what that leaves. */
async function assertTableSizes(lab: Lab, host: number, subnets: readonly IpPrefix[]) {
  const containers = subnets.slice(0, CONTAINER_COUNT / 2).flatMap(({ address }) =>
    [2n, 3n].map((offset) => address.add(offset))
  );
  const { container, host: netns } = lab.network(host);
  const sender = new NamespaceShell(container);
  const shell = new NamespaceShell(netns);
  try {
    await sender.run(
      containers.map((to) => `ping -n -c 1 -W 1 ${to} >/dev/null &`).join("\n") + "\nwait",
    );
    const tables = await tablesOf(shell);
    assert.equal(counts(tables), EXPECTED[host], `host${host}`);
  } finally {
    await Promise.all([sender.end(), shell.end()]);
  }
}

/** The numbers of those of three requests that were not answered. */
async function lostOfThree(from: Netns, to: IpAddress): Promise<number[]> {
  const shell = new NamespaceShell(from);
  // One at a time: see `Lab.assertPings`.
  const text = await shell.run(
    `for i in 1 2 3; do ping -n -c 1 -W 2 ${to} >/dev/null && echo "$i answered"; done`,
  );
  await shell.end();
  return [1, 2, 3].filter((number) => !text.includes(`${number} answered`));
}

async function assertAllPings(lab: Lab): Promise<void> {
  const pairs = HOSTS.flatMap((from) =>
    HOSTS.filter((to) => to !== from).map((to) => [from, to] as const)
  );
  await Promise.all(pairs.map(async ([from, to]) => {
    const lost = await lostOfThree(lab.network(from).container, lab.containers[to - 1]!);
    // A frame whose VTEP is not known yet is what this generation asks with.
    const allowed = from === GENERATION_1_HOST ? [1] : [];
    const unexpected = lost.filter((number) => !allowed.includes(number));
    assert.deepEqual(unexpected, [], `host${from} to host${to} lost ${lost}`);
  }));
}

/** Without pages of files, such as code that has not run for long and was let go of. */
function anonymousBytes(pid: number): number {
  const [, size] = /^RssAnon:\s*(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))!;
  return Number(size) * 1024;
}

const FLOOD_COUNT = 4_000;
const FLOOD_AT_ONCE = 100;
const FLOOD_PERIOD_MS = 40;
const MEMORY_GROWTH_BYTES_MAX = 8 * 2 ** 20;
const NEW_CONTAINER_COUNT = 10;

/** Sends to thousands of addresses that nobody has. */
async function flood(lab: Lab, host: number): Promise<void> {
  const sender = new BarePeer(lab.network(host).container, lab.containers[host - 1]!, 9);
  for (let i = 0; i < FLOOD_COUNT; i++) {
    sender.send(NOBODYS.add(BigInt(i)), 9, new Uint8Array(8));
    if (i % FLOOD_AT_ONCE === FLOOD_AT_ONCE - 1) await setTimeout(FLOOD_PERIOD_MS);
  }
  sender.close();
}

/**
 * While the kernel asks for thousands that nobody is, containers of a real peer that nobody had to
 * do with before are found; and nothing is left of the rest.
 */
async function assertFloodIsHarmless(lab: Lab, host: number): Promise<void> {
  const shell = new NamespaceShell(lab.network(host).host);
  // The kernel's table of neighbours is one for all namespaces: what asks in vain must not stay.
  await shell.run(`echo 20 >/proc/sys/net/ipv4/neigh/${DEVICE}/retrans_time_ms`);
  const target = lab.network(1).container;
  const first = lab.containers[0]!.add(BigInt(host * NEW_CONTAINER_COUNT));
  const addresses = Array.from({ length: NEW_CONTAINER_COUNT }, (_, i) => first.add(BigInt(i)));
  for (const address of addresses) ip(lab, target, `addr add ${address}/24 dev eth0`);
  const before = await tablesOf(shell);
  const { pid } = lab.host(host);
  const memoryBefore_bytes = anonymousBytes(pid);
  const ping = lab.startPing(host, 1);
  const flooded = flood(lab, host);
  for (const address of addresses) {
    assert.deepEqual(await lostOfThree(lab.network(host).container, address), [], `${address}`);
  }
  await flooded;
  assert.deepEqual(await ping.endAndListLost(), []);
  const after = await tablesOf(shell);
  const added = addresses.map(String);
  assert.deepEqual(after, { ...before, neighbours: [...before.neighbours, ...added].sort() });
  const growth_bytes = anonymousBytes(pid) - memoryBefore_bytes;
  assert.ok(growth_bytes < MEMORY_GROWTH_BYTES_MAX, `${growth_bytes} bytes more`);
  await shell.end();
}

test("one cluster of all generations and user space", () =>
  withLab(4, async (lab) => {
    await startAll(lab);
    const values = Array.from({ length: SIMULATED_COUNT }, (_, i) =>
      vxlanLeaseValue(`198.18.0.${100 + i}`, `02:00:00:00:00:${(16 + i).toString(16)}`));
    const subnets = await takeLeases(lab, values);
    await lab.untilPeers(PEER_COUNT, ...HOSTS);
    await Promise.all(KERNEL_HOSTS.map((host) =>
      assertTableSizes(lab, host, subnets)
    ));
    await assertAllPings(lab);
    for (const host of [2, GENERATION_1_HOST]) await assertFloodIsHarmless(lab, host);
    for (const host of HOSTS) {
      const { problems, skippedPeers } = await lab.ready(host);
      assert.deepEqual([problems, skippedPeers], [[], []], `host${host}`);
    }
  }));
