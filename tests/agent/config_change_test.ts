import assert from "node:assert/strict";
import { test } from "node:test";
import { type ConfigChange, judgeConfigChange } from "../../src/agent/config_change.ts";
import { vxlanBackend } from "../../src/backend/vxlan.ts";
import type { NetworkConfig } from "../../src/config/network_config.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";

const config = (changes: Record<string, unknown>) =>
  parseNetworkConfig(
    JSON.stringify({ Network: "10.5.0.0/16", Backend: { Type: "vxlan", VNI: 1 }, ...changes }),
    "test",
  );
const before = config({});
const judge = (from: NetworkConfig, to: NetworkConfig): ConfigChange =>
  judgeConfigChange(from, to, vxlanBackend.optionNames);

test("the same configuration in other words is no change", () => {
  assert.deepEqual(judge(before, config({ EnableIPv4: true })), { kind: "none" });
});

test("which subnets are given out waits for the next start, unless more has changed", () => {
  const ranges = { SubnetLen: 25, SubnetMin: "10.5.8.0", SubnetMax: "10.5.255.0" };
  const what = "SubnetLen 24 → 25, SubnetMin 10.5.1.0 → 10.5.8.0";
  assert.deepEqual(judge(before, config(ranges)), { kind: "later", what });
  const Backend = { Type: "vxlan", VNI: 2 };
  assert.deepEqual(judge(before, config({ ...ranges, Backend })), {
    kind: "obeyed",
    what: `${what}, VNI 1 → 2`,
  });
});

test("the backend's options are obeyed, each named", () => {
  const after = config({ Backend: { Type: "VXLAN", VNI: 7, Port: 4789 } });
  assert.deepEqual(judge(before, after), {
    kind: "obeyed",
    what: "VNI 1 → 7, Port unset → 4789",
  });
  assert.deepEqual(judge(after, before), {
    kind: "obeyed",
    what: "VNI 7 → 1, Port 4789 → unset",
  });
});

test("an option that the backend does not have is no change", () => {
  const after = config({ Backend: { Type: "vxlan", VNI: 1, Prot: 1 } });
  assert.deepEqual(judge(before, after), { kind: "none" });
});

test("how a host fills its own tables waits for its next start, unless more has changed", () => {
  const local = { Type: "vxlan", VNI: 1, Generation: 2 };
  assert.deepEqual(judge(before, config({ Backend: local })), {
    kind: "later",
    what: "Generation unset → 2",
  });
  assert.deepEqual(judge(before, config({ Backend: { ...local, VNI: 2 } })), {
    kind: "obeyed",
    what: "VNI 1 → 2, Generation unset → 2",
  });
});

test("another network, family or backend needs a new start", () => {
  assert.deepEqual(judge(before, config({ Network: "10.6.0.0/16" })), {
    kind: "refused",
    what: "the network 10.6.0.0/16 in place of 10.5.0.0/16",
  });
  const dual = config({ EnableIPv6: true, IPv6Network: "fd00:5::/48" });
  assert.deepEqual(judge(before, dual), {
    kind: "refused",
    what: "the network 10.5.0.0/16 and fd00:5::/48 in place of 10.5.0.0/16",
  });
  assert.deepEqual(judge(before, config({ Backend: { Type: "host-gw" } })), {
    kind: "refused",
    what: "the backend host-gw in place of vxlan",
  });
});
