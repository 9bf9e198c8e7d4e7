/** VXLAN from user space, end to end: between two hosts of ours, and with a kernel's VXLAN. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Status } from "../../src/agent/status.ts";
import { parseLeaseKey } from "../../src/lease/lease.ts";
import { type Family, IpPrefix } from "../../src/net/ip.ts";
import { assertPings, assertTransfer, attachV6, type End, giveOuterV6 } from "./dual_stack.ts";
import { KernelVtep } from "./kernel_vtep.ts";
import { type Lab, UNDER_DENO, withLab } from "./lab.ts";

const TRANSFER_BYTES = 16 * 2 ** 20;
const MTU_BYTES = { 4: 1450, 6: 1430 } as const;
const V4 = { Network: "10.210.0.0/16", Backend: { Type: "vxlan", Datapath: "userspace" } };
const DUAL = { ...V4, EnableIPv6: true, IPv6Network: "fc00::/48" };

/** The container of a host that runs selvage, by each of its addresses. */
async function attach(lab: Lab, host: number): Promise<End[]> {
  const address = await lab.attach(host);
  const [, v6] = (await lab.ready(host)).lease!.subnets;
  const ends = [{ host, address }];
  if (v6 !== undefined) ends.push({ host, address: attachV6(lab, host, IpPrefix.parse(v6)) });
  return ends;
}

/** Pings with the largest packets and sends, both ways and in each family. */
async function assertTraffic(lab: Lab, ones: End[], others: End[]): Promise<void> {
  assert.equal(ones.length, others.length);
  // A container has one MTU for both families.
  const size_bytes = Math.min(...ones.map(({ address }) => MTU_BYTES[address.family]));
  for (const [i, one] of ones.entries()) {
    const other = others[i]!;
    for (const [from, to] of [[one, other], [other, one]] as const) {
      assertPings(lab, from, to, size_bytes);
      await assertTransfer(lab, from, to, TRANSFER_BYTES);
    }
  }
}

async function statusOf(lab: Lab, host: number): Promise<Status> {
  return (await lab.host(host).status())!;
}

/** What a healthy network never drops. */
function assertNothingLost({ dataPlane, skippedPeers, problems }: Status): void {
  assert.deepEqual([skippedPeers, problems], [[], []]);
  const lost = Object.entries(dataPlane!.drops)
    .filter(([reason, count]) => count > 0 && reason.startsWith("ingress_"));
  assert.deepEqual(lost, []);
}

async function startTwo(lab: Lab, config: typeof V4, flags: readonly string[]): Promise<void> {
  if (config === DUAL) [1, 2].forEach((host) => giveOuterV6(lab, host));
  await lab.startRegistry(config, flags);
  await lab.startJoined(2, flags);
  await lab.untilPeers(1, 1, 2);
}

describe("two hosts of ours", () => {
  const kinds = [["IPv4", V4, 1], ["both families", DUAL, 2]] as const;
  for (const [name, config, familyCount] of kinds) {
    for (const workers of [1, 2]) {
      test(`${name}, --workers=${workers}`, () =>
        withLab(2, async (lab) => {
          await startTwo(lab, config, [`--workers=${workers}`]);
          const [ones, others] = [await attach(lab, 1), await attach(lab, 2)];
          assert.equal(ones.length, familyCount);
          await assertTraffic(lab, ones, others);
          for (const host of [1, 2]) {
            const status = await statusOf(lab, host);
            assertNothingLost(status);
            assert.equal(status.dataPlane!.queueCount, workers);
            assert.equal(status.backend!.tunnels.length, familyCount);
          }
        }));
    }
  }

  test("the same sources under Deno", () =>
    withLab(2, async (lab) => {
      await startTwo(lab, DUAL, []);
      await assertTraffic(lab, await attach(lab, 1), await attach(lab, 2));
    }, UNDER_DENO));
});

describe("a host of ours and one whose VXLAN is the kernel's", () => {
  const kinds: [string, typeof V4, Family[]][] = [
    ["IPv4", V4, [4]],
    ["both families", DUAL, [4, 6]],
  ];
  for (const [name, config, families] of kinds) {
    test(name, () =>
      withLab(2, async (lab) => {
        if (config === DUAL) [1, 2].forEach((host) => giveOuterV6(lab, host));
        await lab.startRegistry(config);
        const key = await KernelVtep.join(lab, 2, families);
        await lab.untilPeers(1, 1);
        const ones = await attach(lab, 1);
        const [v4, v6] = parseLeaseKey(key);
        const mtu_bytes = v6 === undefined ? MTU_BYTES[4] : MTU_BYTES[6];
        const address = await lab.topology.attachContainer(lab.network(2), v4!, mtu_bytes);
        const others = [{ host: 2, address }];
        if (v6 !== undefined) others.push({ host: 2, address: attachV6(lab, 2, v6) });
        await assertTraffic(lab, ones, others);
        const status = await statusOf(lab, 1);
        assertNothingLost(status);
        assert.equal(status.peers[0]!.key, key);
        assert.ok(status.peers[0]!.receivedBytes > TRANSFER_BYTES);
      }));
  }
});

test("a restarted host has the VTEP addresses it had, and another make of host finds them", () =>
  withLab(2, async (lab) => {
    const vteps = (status: Status) => status.backend!.tunnels.map(({ vtepMac }) => vtepMac);
    await lab.startRegistry(V4);
    const before = vteps(await lab.startJoined(2));
    const published = async () => {
      const { leases } = await (await lab.host(1).client.v1.leases.$get()).json();
      const own = leases.find(({ publicAddresses }) =>
        publicAddresses.includes(`${lab.network(2).outerAddress}`)
      );
      return own!.backendData;
    };
    assert.deepEqual(await published(), { 4: { VNI: 1, VtepMAC: before[0] } });
    await lab.stop(2);
    assert.deepEqual(vteps(await lab.startJoined(2)), before);
    await lab.untilPeers(1, 1, 2);
    assert.deepEqual(await published(), { 4: { VNI: 1, VtepMAC: before[0] } });
  }));

test("what the datapath does not do is refused at the start, by name and with what to do", () =>
  withLab(1, async (lab) => {
    const start = lab.startRegistry({
      ...V4,
      Backend: { Type: "vxlan", Datapath: "userspace", DirectRouting: true },
    });
    await assert.rejects(start, /selvage run ended/);
    assert.match(lab.log(1), /Backend\.DirectRouting is not for the userspace datapath/);
    assert.match(lab.log(1), /Leave DirectRouting out/);
  }));
