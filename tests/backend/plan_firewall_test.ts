import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { planFirewall } from "../../src/backend/plan_firewall.ts";
import type { DesiredChain, FirewallMatch } from "../../src/kernel/firewall_state.ts";
import { IpPrefix } from "../../src/net/ip.ts";

const BOTH = {
  networks: ["10.5.0.0/16", "fd05::/32"].map((text) => IpPrefix.parse(text)),
  subnets: ["10.5.1.0/24", "fd05:0:1::/64"].map((text) => IpPrefix.parse(text)),
  ipMasq: true,
  isFullyRandom: true,
  forwardRules: true,
};

function matchText(match: FirewallMatch): string {
  if (match.type === "mark") return `mark ${match.value}/${match.mask}`;
  assert.ok(match.type === "source" || match.type === "destination");
  return `${match.type}${match.isInside ? "" : " not"} ${match.prefix}`;
}

function chainTexts({ rules }: DesiredChain): string[] {
  return rules.map(({ matches, verdict }) => {
    const random = verdict.type === "masquerade" && verdict.isFullyRandom ? " random" : "";
    return `${matches.map(matchText).join(", ")}: ${verdict.type}${random}`;
  });
}

describe("the firewall's plan", () => {
  test("has flannel's rules in flannel's order, for each family", () => {
    const tables = planFirewall(BOTH);
    assert.deepEqual(tables.map(({ family }) => family), [4, 6]);
    const [v4, v6] = tables.map(({ chains }) => chains.map(chainTexts));
    assert.deepEqual(v4, [[
      "mark 16384/16384: return",
      "source 10.5.1.0/24, destination 10.5.0.0/16: return",
      "source 10.5.0.0/16, destination 10.5.1.0/24: return",
      "source not 10.5.0.0/16, destination 10.5.1.0/24: return",
      "source 10.5.0.0/16, destination not 224.0.0.0/4: masquerade random",
      "source not 10.5.0.0/16, destination 10.5.0.0/16: masquerade random",
    ], [
      "source 10.5.0.0/16: accept",
      "destination 10.5.0.0/16: accept",
    ]]);
    assert.deepEqual(v6, [[
      "mark 16384/16384: return",
      "source fd05:0:1::/64, destination fd05::/32: return",
      "source fd05::/32, destination fd05:0:1::/64: return",
      "source not fd05::/32, destination fd05:0:1::/64: return",
      "source fd05::/32, destination not ff00::/8: masquerade random",
      "source not fd05::/32, destination fd05::/32: masquerade random",
    ], [
      "source fd05::/32: accept",
      "destination fd05::/32: accept",
    ]]);
    assert.deepEqual(tables[0]!.chains.map(({ name, hook }) => [name, hook]), [
      ["postrouting", "nat postrouting"],
      ["forward", "filter forward"],
    ]);
  });

  test("leaves out what is switched off", () => {
    const names = (change: Partial<typeof BOTH>) =>
      planFirewall({ ...BOTH, ...change }).map(({ chains }) => chains.map(({ name }) => name));
    assert.deepEqual(names({ ipMasq: false }), [["forward"], ["forward"]]);
    assert.deepEqual(names({ forwardRules: false }), [["postrouting"], ["postrouting"]]);
    assert.deepEqual(names({ ipMasq: false, forwardRules: false }), []);
  });

  test("has no table for a family without a network or a subnet", () => {
    const families = (change: Partial<typeof BOTH>) =>
      planFirewall({ ...BOTH, ...change }).map(({ family }) => family);
    assert.deepEqual(families({ networks: BOTH.networks.slice(0, 1) }), [4]);
    assert.deepEqual(families({ subnets: BOTH.subnets.slice(1) }), [6]);
    assert.deepEqual(families({ subnets: [] }), []);
  });

  test("ports are kept where that is asked for", () => {
    const [table] = planFirewall({ ...BOTH, isFullyRandom: false });
    const verdicts = table!.chains[0]!.rules.map(({ verdict }) => verdict);
    assert.deepEqual(
      verdicts.slice(4),
      Array(2).fill({ type: "masquerade", isFullyRandom: false }),
    );
  });
});
