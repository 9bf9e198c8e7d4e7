/**
 * Two hosts of flannel's go over to Selvage and back, by the commands of the manual. What flanneld
 * left when it ended is made as it was seen on a host of its own (`flannel_leftovers.ts`).
 *
 *     container 1 --- cni0 [ host 1 ] eth0 198.18.0.1 --- switch --- eth0 [ host 2 ] cni0 ---
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import type { Status } from "../../src/agent/status.ts";
import { IpPrefix } from "../../src/net/ip.ts";
import {
  type FlannelHost,
  hostGwCommands,
  HOSTS,
  masqueradeCommands,
  NETWORK,
  runAll,
  vxlanCommands,
  writeSubnetEnv,
} from "./flannel_leftovers.ts";
import { EXECUTABLE, type Lab, withLab } from "./lab.ts";
import { NamespaceShell } from "./namespace_shell.ts";

type Commands = (own: FlannelHost, peer: FlannelHost) => string[];

interface Case {
  readonly type: string;
  readonly mtu_bytes: number;
  /** What flanneld had made for its packets, and leaves. */
  readonly left: Commands;
}

/** Of udp nothing is left: its TUN device goes with flanneld. */
const UDP: Case = { type: "udp", mtu_bytes: 1472, left: () => [] };
const VXLAN: Case = { type: "vxlan", mtu_bytes: 1450, left: vxlanCommands };
const HOST_GW: Case = {
  type: "host-gw",
  mtu_bytes: 1500,
  left: (_own, peer) => hostGwCommands(peer),
};

interface Ground {
  readonly lab: Lab;
  readonly shells: readonly NamespaceShell[];
  /** The two hosts, each with its peer. */
  readonly pairs: readonly (readonly [own: FlannelHost, peer: FlannelHost])[];
}

function clean(lab: Lab, host: number, ...more: string[]): string {
  const directory = lab.hostDirectory(host);
  const { status, stdout, stderr } = lab.exec(
    lab.network(host).host,
    EXECUTABLE.command,
    "clean",
    `--subnet-file=${join(directory, "subnet.env")}`,
    `--api-socket=${join(directory, "api.sock")}`,
    `--state-dir=${directory}`,
    ...more,
  );
  assert.equal(status, 0, `${stdout}${stderr}`);
  return stdout;
}

/** Runs a test with two hosts as flanneld left them, each with a container. */
function withFlannelHosts(
  { left, mtu_bytes }: Case,
  run: (ground: Ground) => Promise<void>,
): Promise<void> {
  return withLab(2, async (lab) => {
    const shells = lab.topology.hosts.map(({ host }) => new NamespaceShell(host));
    const pairs = HOSTS.map((own, i) => [own, HOSTS[1 - i]!] as const);
    try {
      for (const [i, [own, peer]] of pairs.entries()) {
        await runAll(shells[i]!, [...left(own, peer), ...masqueradeCommands(own)]);
        writeSubnetEnv(join(lab.hostDirectory(i + 1), "subnet.env"), own, mtu_bytes);
        const subnet = IpPrefix.parse(`10.210.${own.number}.0/24`);
        const network = lab.network(i + 1);
        lab.containers[i] = await lab.topology.attachContainer(network, subnet, mtu_bytes);
      }
      await run({ lab, shells, pairs });
    } finally {
      await Promise.all(shells.map((shell) => shell.end()));
    }
  });
}

async function launchBoth(
  { lab }: Ground,
  type: string,
  flags: readonly string[] = [],
): Promise<void> {
  lab.launchRegistry({ Network: NETWORK, Backend: { Type: type } }, ["--ip-masq", ...flags]);
  await lab.until(1, "does not answer", () => true);
  lab.launch(2, [`--join=@${await lab.joinFile()}`, "--ip-masq", ...flags]);
}

/** Holds that both run with flannel's subnets and nothing of flannel's is left. */
async function assertTakenOver({ lab, shells, pairs }: Ground): Promise<void> {
  for (const [i, [{ number }]] of pairs.entries()) {
    const { lease, problems } = await lab.ready(i + 1);
    assert.deepEqual([lease?.subnets, problems], [[`10.210.${number}.0/24`], []]);
    const left = await shells[i]!.run("ip -br link; iptables-nft-save; ip route show proto boot");
    assert.doesNotMatch(left, /flannel/i);
    assert.doesNotMatch(left, /^10\.210\./m);
  }
  await lab.untilPeers(1, 1, 2);
  await lab.untilPing(1, 2);
  await lab.untilPing(2, 1);
}

/** Ends Selvage, removes what it left, and starts what flanneld would set up anew. */
async function giveBack({ lab, shells, pairs }: Ground, { left }: Case): Promise<void> {
  for (const [i, [own, peer]] of pairs.entries()) {
    await lab.stop(i + 1);
    clean(lab, i + 1);
    const things = await shells[i]!.run("ip -br link; ip route show proto 83; nft list ruleset");
    assert.doesNotMatch(things, /selvage|^10\.210\..* via /m);
    await runAll(shells[i]!, [...left(own, peer), ...masqueradeCommands(own)]);
  }
}

test("udp: over to Selvage and back", () =>
  withFlannelHosts(UDP, async (ground) => {
    const { lab } = ground;
    for (const host of [1, 2]) clean(lab, host, "--flannel");
    await launchBoth(ground, "udp");
    await assertTakenOver(ground);
    await giveBack(ground, UDP);
  }));

test("host-gw: over to Selvage without a packet lost, and back", () =>
  withFlannelHosts(HOST_GW, async (ground) => {
    const { lab, shells } = ground;
    const ping = lab.startPing(1, 2);
    await ping.flowing();
    // The guard lets in only hosts that have a lease: those that are still flanneld's have none.
    await launchBoth(ground, "host-gw", ["--guard=false"]);
    await lab.ready(1);
    await lab.ready(2);
    await lab.untilPeers(1, 1, 2);
    // Flannel's routes serve, and are flannel's.
    assert.equal(await shells[0]!.run("ip route show type unicast proto 83"), "");
    await ping.flowing();
    const text = clean(lab, 1, "--flannel");
    assert.match(text, /^handed over to the running selvage: route 10\.210\.67\.0\/24 via /m);
    clean(lab, 2, "--flannel");
    await assertTakenOver(ground);
    assert.match(
      await shells[0]!.run("ip route show type unicast proto 83"),
      /^10\.210\.67\.0\/24 via /,
    );
    await ping.flowing();
    assert.deepEqual(await ping.endAndListLost(), []);
    await giveBack(ground, HOST_GW);
    lab.assertPings([1, 2], [2, 1]);
  }));

test("vxlan: flannel's device carries packets until Selvage's stands; and back", () =>
  withFlannelHosts(VXLAN, async (ground) => {
    const { lab } = ground;
    const ping = lab.startPing(1, 2);
    await ping.flowing();
    await launchBoth(ground, "vxlan");
    const isWaiting = ({ waitingFor }: Status) =>
      /in use by device flannel\.1; .*selvage clean --flannel/.test(waitingFor ?? "");
    for (const host of [1, 2]) {
      const { lease } = await lab.until(host, "does not wait", isWaiting);
      assert.equal(lease, null);
    }
    assert.deepEqual(JSON.parse(lab.run(1, ["leases", "list", "--json"]).stdout), []);
    await ping.flowing();
    assert.deepEqual(await ping.endAndListLost(), [], "while flannel's device stands");
    for (const host of [1, 2]) clean(lab, host, "--flannel");
    await assertTakenOver(ground);
    await giveBack(ground, VXLAN);
    lab.assertPings([1, 2], [2, 1]);
  }));
