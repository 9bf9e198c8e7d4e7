/** Our rules in forward chains of others, in the real kernel; nft and iptables are witnesses. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { describe, test } from "node:test";
import { readLegacyFilter } from "../../ffi/legacy_iptables.ts";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import {
  FORWARD_COMMENT,
  ForwardAccepts,
  listForwardAccepts,
  NO_FORWARDING,
} from "../../src/kernel/forward_accept.ts";
import { IpPrefix } from "../../src/net/ip.ts";
import { withNamespaces } from "../netlink/namespace.ts";
import { connectNftables, nft } from "./nft.ts";

const NETWORKS = ["10.5.0.0/17", "fd05::/33"].map((text) => IpPrefix.parse(text));
const OURS = { networks: NETWORKS, isInserting: true, linkNames: ["selvage.1"] };
const OWN = { ...OURS, isInserting: false };
const DROPPING = "{ type filter hook forward priority 0 ; policy drop ; }";

function withAccepts(body: (accepts: ForwardAccepts, netns: Netns) => void): void {
  withNamespaces(1, ({ netns }) => {
    const legacy = (family: 4 | 6) => withNetns(netns, () => readLegacyFilter(family));
    const accepts = new ForwardAccepts(() => connectNftables(netns), legacy);
    try {
      body(accepts, netns);
    } finally {
      accepts.close();
    }
  });
}

function run(netns: Netns, command: string): string {
  const [program, ...args] = command.split(" ");
  const result = withNetns(netns, () => spawnSync(program!, args, { encoding: "utf8" }));
  assert.equal(result.status, 0, `${command}: ${result.stderr}`);
  return result.stdout;
}

/** The rules of a chain as nft shows them, without what they counted. */
function rulesOf(netns: Netns, chain: string): string[] {
  const lines = nft(netns, `list chain ${chain}`).split("\n").map((line) => line.trim());
  return lines.filter((line) => /^(ip|meta|iif|oif|ct)/.test(line))
    .map((line) => line.replace(/ counter packets \d+ bytes \d+/, ""));
}

describe("our rules in forward chains that drop by default", () => {
  test("stand at the head of each, by the family that it sees, and nowhere else", () => {
    withAccepts((accepts, netns) => {
      run(netns, "ip6tables-nft -P FORWARD DROP");
      run(netns, "iptables-nft -A FORWARD -s 192.0.2.1 -j DROP");
      nft(netns, `add table inet site; add chain inet site forward ${DROPPING}`);
      nft(netns, "add rule inet site forward ct state established accept");
      assert.deepEqual(accepts.reconcile(OURS), { changeCount: 2, problems: [] });
      const comment = `accept comment "${FORWARD_COMMENT}"`;
      assert.deepEqual(rulesOf(netns, "inet site forward"), [
        `ip saddr 10.5.0.0/17 ${comment}`,
        `ip daddr 10.5.0.0/17 ${comment}`,
        `ip6 saddr fd05::/33 ${comment}`,
        `ip6 daddr fd05::/33 ${comment}`,
        "ct state established accept",
      ]);
      assert.match(run(netns, "ip6tables-nft -S FORWARD"), /-A FORWARD -s fd05::\/33 -m comment/);
      assert.doesNotMatch(run(netns, "iptables-nft -S FORWARD"), /selvage/);
      assert.deepEqual(accepts.reconcile(OURS), { changeCount: 0, problems: [] });
      const connection = connectNftables(netns);
      assert.equal(listForwardAccepts(connection).length, 6);
      assert.deepEqual(accepts.reconcile(NO_FORWARDING), { changeCount: 2, problems: [] });
      assert.equal(listForwardAccepts(connection).length, 0);
      connection.close();
      assert.deepEqual(rulesOf(netns, "inet site forward"), ["ct state established accept"]);
    });
  });

  test("are put right when one of them was deleted or another network is desired", () => {
    withAccepts((accepts, netns) => {
      run(netns, "iptables-nft -P FORWARD DROP");
      accepts.reconcile(OURS);
      run(netns, "iptables-nft -D FORWARD 1");
      assert.equal(accepts.reconcile(OURS).changeCount, 1);
      const other = { ...OURS, networks: [IpPrefix.parse("10.6.0.0/16")] };
      assert.equal(accepts.reconcile(other).changeCount, 1);
      assert.deepEqual(
        run(netns, "iptables-nft -S FORWARD").trim().split("\n").map((line) => line.slice(0, 26)),
        ["-P FORWARD DROP", "-A FORWARD -s 10.6.0.0/16 ", "-A FORWARD -d 10.6.0.0/16 "],
      );
    });
  });

  test("where we are to leave them alone, rules of others that accept are enough", () => {
    const accepting = [
      ["ip saddr 10.0.0.0/8 accept", "ip daddr 10.5.0.0/17 counter accept"],
      ["ip saddr 10.5.0.0/16 accept", 'oifname "selvage.1" accept'],
      ['iifname "selvage.1" accept', 'oifname "selvage.1" accept comment "mine"'],
    ];
    const lacking = [
      ["ip saddr 10.5.0.0/17 accept"],
      ["ip saddr 10.5.0.0/18 accept", "ip daddr 10.5.0.0/17 accept"],
      ["ip saddr 10.5.0.0/17 drop", "ip daddr 10.5.0.0/17 accept"],
      ["ip saddr 10.5.0.0/17 tcp dport 80 accept", "ip daddr 10.5.0.0/17 accept"],
      ['iifname "selvage.*" accept', 'oifname "selvage.9" accept'],
    ];
    const judge = (rules: readonly string[]) => {
      let problems: readonly string[] = [];
      withAccepts((accepts, netns) => {
        nft(netns, `add table ip site; add chain ip site forward ${DROPPING}`);
        for (const rule of rules) nft(netns, `add rule ip site forward ${rule}`);
        problems = accepts.reconcile(OWN).problems;
        assert.deepEqual(rulesOf(netns, "ip site forward").length, rules.length);
      });
      return problems;
    };
    for (const rules of accepting) assert.deepEqual(judge(rules), [], rules.join());
    for (const rules of lacking) {
      const [problem] = judge(rules);
      assert.match(
        problem ?? "",
        /nft insert rule ip site forward ip saddr 10\.5\.0\.0\/17 accept/,
      );
    }
  });

  test("of the old iptables, both families: a problem until rules of others accept", () => {
    withAccepts((accepts, netns) => {
      for (const program of ["iptables-legacy", "ip6tables-legacy"]) {
        run(netns, `${program} -P FORWARD DROP`);
        run(netns, `${program} -A FORWARD -p tcp -j ACCEPT`);
      }
      const { problems } = accepts.reconcile(OURS);
      assert.equal(problems.length, 2);
      assert.match(problems[0]!, /run: iptables-legacy -I FORWARD -s 10\.5\.0\.0\/17 -j ACCEPT; /);
      for (const problem of problems) {
        for (const command of /run: (.*)$/.exec(problem)![1]!.split("; ")) run(netns, command);
      }
      assert.deepEqual(accepts.reconcile(OURS).problems, []);
      for (const program of ["iptables-legacy", "ip6tables-legacy"]) {
        run(netns, `${program} -F FORWARD`);
        run(netns, `${program} -N OVERLAY`);
        run(netns, `${program} -A FORWARD -j OVERLAY`);
        run(netns, `${program} -A OVERLAY -i selvage.1 -m comment --comment mine -j ACCEPT`);
        assert.ok(accepts.reconcile(OURS).problems.length > 0);
        run(netns, `${program} -A OVERLAY -o selvage.1 -j ACCEPT`);
      }
      assert.deepEqual(accepts.reconcile(OURS).problems, []);
    });
  });
});
