/**
 * Leases whose public address is no other host's, as a faulty or foreign writer puts them into
 * etcd: each is left out and the status says why, whatever the backend, and the rest is served.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Status } from "../../src/agent/status.ts";
import { all, ip } from "./dual_stack.ts";
import { type Lab, withLab } from "./lab.ts";
import { LabEtcd } from "./lab_etcd.ts";

const BACKENDS = [
  { Type: "udp" },
  { Type: "vxlan", Datapath: "kernel" },
  { Type: "host-gw" },
];
/** On the link of host 2, which no host has. */
const GOOD = "198.18.0.200";
const BAD: readonly (readonly [address: string, reason: RegExp])[] = [
  ["198.18.0.255", /is the broadcast address of eth0/],
  ["224.0.0.5", /multicast/],
  ["127.0.0.1", /loopback/],
  ["255.255.255.255", /broadcast or reserved/],
  ["192.168.78.1", /is this host's own/],
];
/** Host 2's own: without an end, such a lease is a reservation for host 2. */
const OWN = "198.18.0.2";
/** An address that host 2 gets when it runs already. */
const LATE = "198.18.0.77";

async function leavesOut(lab: Lab, etcd: LabEtcd, Backend: Record<string, unknown>): Promise<void> {
  etcd.start();
  // The leases below are outside of what hosts get.
  await etcd.setConfig({ Network: "10.210.0.0/16", SubnetMax: "10.210.99.0", Backend });
  const { host } = lab.network(2);
  all(lab, host, [
    "link set lo up",
    "addr add 192.168.78.1/32 dev lo",
  ]);
  lab.launch(2, [etcd.flag]);
  await lab.ready(2);
  const addresses = [...BAD.map(([address]) => address), LATE, GOOD, OWN];
  for (const [i, PublicIP] of addresses.entries()) {
    const BackendData = { VNI: 1, VtepMAC: `02:00:00:00:07:${10 + i}` };
    const isVxlan = Backend["Type"] === "vxlan";
    etcd.putLease(`10.210.${200 + i}.0-24`, {
      PublicIP,
      PublicIPv6: null,
      BackendType: Backend["Type"],
      ...(isVxlan ? { BackendData } : {}),
    });
  }
  const reasonFor = (status: Status, i: number) =>
    status.skippedPeers.find(({ key }) => key === `10.210.${200 + i}.0-24`)?.reason ?? "";
  const late = BAD.length;
  await lab.until(
    2,
    "does not have all leases",
    (status) => status.peers.length === addresses.length - 1 && reasonFor(status, late) === "",
  );
  ip(lab, host, `addr add ${LATE}/24 dev eth0`);
  const status = await lab.until(
    2,
    "does not see its new address",
    (status) => reasonFor(status, late) !== "",
  );
  for (const [i, [, reason]] of [...BAD, [LATE, /is this host's own/] as const].entries()) {
    assert.match(reasonFor(status, i), reason);
  }
  assert.equal(status.skippedPeers.length, BAD.length + 1);
  const own = `10.210.${200 + addresses.indexOf(OWN)}.0/24 is reserved for this host`;
  assert.ok(status.notices.some((notice) => notice.startsWith(own)), status.notices.join("\n"));
  assert.match(lab.run(2, ["status"]).stdout, /^Skipped 10\.210\.200\.0-24: .* broadcast address/m);
}

test("a peer whose public address is no other host's is left out with the reason", async () => {
  await Promise.all(BACKENDS.map((Backend) =>
    withLab(2, async (lab) => {
      const etcd = new LabEtcd(lab);
      try {
        await leavesOut(lab, etcd, Backend);
      } finally {
        await etcd.close();
      }
    })
  ));
});
