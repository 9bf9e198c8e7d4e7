/** What etcd says, held against a host. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { probeEtcd } from "../../src/check/etcd.ts";
import type { EtcdAnswer } from "../../src/check/options.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import type { Lease } from "../../src/lease/lease.ts";
import { leaseOf, LINK } from "../backend/sample.ts";

/** Of four subnets three are given out: the network's own address is not in them. */
const CONFIG = parseNetworkConfig('{"Network":"10.5.0.0/22","Backend":{"Type":"vxlan"}}', "test");

function lease(key: string, address: string): Lease {
  return { ...leaseOf(key, [address], "vxlan"), expiry_ms: undefined };
}

const OTHERS = ["10.5.1.0-24", "10.5.2.0-24"].map((key, i) => lease(key, `203.0.113.${i}`));

function answer(leases: readonly Lease[], problem: EtcdAnswer["problem"] = null): EtcdAnswer {
  return { endpoints: "http://192.0.2.9", configKey: "config", configText: "", leases, problem };
}

test("a host gets a subnet while one is free, or is its own already", () => {
  assert.equal(probeEtcd(answer(OTHERS), CONFIG, LINK).problem, null);
  const own = lease("10.5.3.0-24", String(LINK.publicAddresses[0]));
  assert.equal(probeEtcd(answer([...OTHERS, own]), CONFIG, LINK).problem, null);
});

test("none is free: with the figures, and what to do", () => {
  const full = answer([...OTHERS, lease("10.5.3.0-24", "203.0.113.9")]);
  const { problem } = probeEtcd(full, CONFIG, LINK);
  assert.match(problem!.why, /^all 3 subnets of length \/24 .* are taken$/);
  assert.match(problem!.hint, /Revoke leases/);
  assert.equal(probeEtcd(full, CONFIG, null).problem, null);
  assert.equal(probeEtcd(full, null, LINK).problem, null);
});

test("what etcd itself said goes first", () => {
  const problem = { why: "no leader", hint: "Wait." };
  assert.deepEqual(probeEtcd(answer(OTHERS, problem), CONFIG, LINK).problem, problem);
});
