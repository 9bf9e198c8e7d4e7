import assert from "node:assert/strict";
import { test } from "node:test";
import { hostNeeds, unreachableAddresses } from "../../src/agent/host_needs.ts";
import { ANY_HOST, selectBackend } from "../../src/backend/select.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { leaseOf } from "../backend/sample.ts";

const networkOf = (text: object) => {
  const config = parseNetworkConfig(JSON.stringify(text), "test");
  return { config, backend: selectBackend(config, ANY_HOST) };
};
const DUAL = { Network: "10.210.0.0/16", EnableIPv6: true, IPv6Network: "fc00::/48" };
const NETWORK = networkOf({ ...DUAL, Backend: { Type: "alloc" } });
const LEASE = leaseOf("10.210.5.0-24&fc00:0:0:5::-64", ["192.0.2.1"], "vxlan");

test("forwarding of every family, and a firewall table of each where rules are asked for", () => {
  const options = {
    isMasqFullyRandom: true,
    forwardRules: false,
    blackholeRoute: false,
    allowsNetworkOverlap: false,
  };
  const { sysctls, firewallTables, blackholes } = hostNeeds(NETWORK, LEASE, {
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
  const none = hostNeeds(NETWORK, LEASE, { ...options, ipMasq: false, setsSysctls: true });
  assert.deepEqual(none.firewallTables, []);
  assert.deepEqual(none.sysctls.map(({ isSet }) => isSet), [true, true]);
});

test("a blackhole for each of the own subnets, where that is asked for", () => {
  const options = {
    isMasqFullyRandom: true,
    forwardRules: false,
    ipMasq: false,
    allowsNetworkOverlap: false,
  };
  const needs = hostNeeds(NETWORK, LEASE, { ...options, setsSysctls: true, blackholeRoute: true });
  assert.deepEqual(needs.blackholes.map(({ destination }) => `${destination}`), [
    "10.210.5.0/24",
    "fc00:0:0:5::/64",
  ]);
});

test("the overlay's addresses are unreachable where no better route leads to them", () => {
  const v4 = { Network: "10.210.0.0/16" };
  const shared = {
    Network: "10.0.0.0/8",
    SubnetLen: 20,
    SubnetMin: "10.10.0.0",
    SubnetMax: "10.99.0.0",
  };
  // Of a network that others share only what subnets are leased from.
  const leased = ["10.10.0.0/15", "10.12.0.0/14", "10.16.0.0/12", "10.32.0.0/11", "10.64.0.0/11"];
  const kernel = { Type: "vxlan", Datapath: "kernel" };
  const cases = [
    [{ ...v4, Backend: { Type: "udp" } }, false, ["10.210.0.0/16"]],
    [{ ...DUAL, Backend: kernel }, false, ["10.210.0.0/16", "fc00::/48"]],
    [{ ...v4, Backend: { ...kernel, Generation: 2 } }, true, ["10.210.0.0/16"]],
    [{ ...shared, Backend: { Type: "host-gw" } }, true, []],
    [{ ...v4, Backend: { Type: "alloc" } }, false, []],
  ] as const;
  for (const [text, allowsNetworkOverlap, expected] of cases) {
    const all = unreachableAddresses(networkOf(text), { allowsNetworkOverlap });
    assert.deepEqual(all.map(({ destination }) => `${destination}`), expected);
    assert.ok(all.every(({ isAnswered }) => isAnswered));
  }
  const of = unreachableAddresses(
    networkOf({ ...shared, Backend: { Type: "host-gw" } }),
    { allowsNetworkOverlap: false },
  ).map(({ destination }) => `${destination}`);
  assert.deepEqual(of.slice(0, 4), leased.slice(0, 4));
  assert.ok(!of.includes("10.0.0.0/8"));
});
