import assert from "node:assert/strict";
import { test } from "node:test";
import { hostNeeds } from "../../src/agent/host_needs.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { leaseOf } from "../backend/sample.ts";

const CONFIG = parseNetworkConfig(
  JSON.stringify({ Network: "10.210.0.0/16", EnableIPv6: true, IPv6Network: "fc00::/48" }),
  "test",
);
const LEASE = leaseOf("10.210.5.0-24&fc00:0:0:5::-64", ["192.0.2.1"], "vxlan");

test("forwarding of every family, and a firewall table of each where rules are asked for", () => {
  const options = { isMasqFullyRandom: true, forwardRules: false, blackholeRoute: false };
  const { sysctls, firewallTables, blackholes } = hostNeeds(CONFIG, LEASE, {
    ...options,
    ipMasq: true,
    setsSysctls: false,
  });
  assert.deepEqual(sysctls, [
    { path: "net/ipv4/ip_forward", value: "1", isSet: false },
    { path: "net/ipv6/conf/all/forwarding", value: "1", isSet: false },
  ]);
  assert.deepEqual(firewallTables.map(({ family }) => family), [4, 6]);
  assert.deepEqual(blackholes, []);
  const none = hostNeeds(CONFIG, LEASE, { ...options, ipMasq: false, setsSysctls: true });
  assert.deepEqual(none.firewallTables, []);
  assert.deepEqual(none.sysctls.map(({ isSet }) => isSet), [true, true]);
});

test("a blackhole for each of the own subnets, where that is asked for", () => {
  const options = { isMasqFullyRandom: true, forwardRules: false, ipMasq: false };
  const needs = hostNeeds(CONFIG, LEASE, { ...options, setsSysctls: true, blackholeRoute: true });
  assert.deepEqual(needs.blackholes.map(({ destination }) => `${destination}`), [
    "10.210.5.0/24",
    "fc00:0:0:5::/64",
  ]);
});
