/** Peers that have a lease and nothing else. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { resolve } from "node:path";
import { spawnInNetns } from "../../src/demo/child.ts";
import { parseLeaseKey } from "../../src/lease/lease.ts";
import type { IpPrefix } from "../../src/net/ip.ts";
import type { Lab } from "./lab.ts";

const LEASE_CHILD = resolve("tests/e2e/lease_child.ts");

/** What flannel's vxlan backend writes of a host into its lease. */
export function vxlanLeaseValue(publicAddress: string, macAddress: string): string {
  return JSON.stringify({
    PublicIP: publicAddress,
    PublicIPv6: null,
    BackendType: "vxlan",
    BackendData: { VNI: 1, VtepMAC: macAddress },
  });
}

/** Takes a lease for each of these values in the lab's registry; their subnets, in that order. */
export async function takeLeases(lab: Lab, values: readonly string[]): Promise<IpPrefix[]> {
  const args = ["run", "-A", LEASE_CHILD, await lab.joinFile(), ...values];
  const { host: netns } = lab.network(1);
  const child = spawnInNetns(netns, process.execPath, args, ["ignore", "pipe", "inherit"]);
  let text = "";
  child.stdout!.setEncoding("utf8").on("data", (part: string) => text += part);
  await once(child, "close");
  const lines = text.trim().split("\n");
  assert.equal(lines.length, values.length, "not all leases were had");
  return lines.map((line) => parseLeaseKey((JSON.parse(line) as { key: string }).key)[0]!);
}
