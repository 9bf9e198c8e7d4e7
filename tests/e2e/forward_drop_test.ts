/**
 * Hosts whose forward chain drops by default, as Docker's, a hardened iptables or an nftables
 * firewall: the overlay's packets pass, or the host says why they do not.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { type Lab, withLab } from "./lab.ts";

const CONFIG = { Network: "10.210.0.0/16", Backend: { Type: "vxlan" } };
const COMMENT = "selvage: forward the overlay";
const RULES = ["-s", "-d"].map((end) =>
  `-A FORWARD ${end} 10.210.0.0/16 -m comment --comment "${COMMENT}" -j ACCEPT`
);
const TIMEOUT_MS = 20_000;
/** How soon what another changed must be mended. */
const MEND_MS = 1_000;

/** Runs a program on a host; it must succeed. */
function run(lab: Lab, host: number, command: string, ...args: string[]): string {
  const { status, stdout, stderr } = lab.exec(lab.network(host).host, command, ...args);
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${stderr}`);
  return stdout;
}

const iptables = (lab: Lab, host: number, command: string, program = "iptables-nft") =>
  run(lab, host, program, ...command.split(" "));

/** The rules of the chain, without the policy. */
function forwardRules(lab: Lab, host: number): string[] {
  return iptables(lab, host, "-S FORWARD").trim().split("\n").slice(1);
}

function nftChain(lab: Lab, host: number): string {
  return run(lab, host, "nft", "list", "chain", "inet", "site", "forward");
}

async function until(what: string, limit_ms: number, isReached: () => boolean): Promise<void> {
  const end_ms = performance.now() + limit_ms;
  while (!isReached()) {
    assert.ok(performance.now() < end_ms, what);
    await setTimeout(20);
  }
}

/** The first of what the host gives as reasons for not being ready. */
function readyReasons(lab: Lab, host: number): string {
  const { stdout, stderr } = lab.run(host, ["status"]);
  return stdout + stderr;
}

async function startTwo(lab: Lab, flags: readonly string[] = []): Promise<void> {
  await lab.startRegistry(CONFIG, flags);
  await lab.startJoined(2);
  await lab.untilPeers(1, 1, 2);
  for (const host of [1, 2]) await lab.attach(host);
}

describe("a forward chain that drops by default", () => {
  test("of iptables-nft: ours pass by rules at its head, which iptables can list and save", () =>
    withLab(2, async (lab) => {
      iptables(lab, 1, "-P FORWARD DROP");
      iptables(lab, 1, "-A FORWARD -s 192.0.2.0/24 -j DROP");
      const foreign = "-A FORWARD -s 192.0.2.0/24 -j DROP";
      await startTwo(lab);
      assert.deepEqual(forwardRules(lab, 1), [...RULES, foreign]);
      lab.assertPings([1, 2], [2, 1]);
      const check = ["-C", "FORWARD", "-s", "10.210.0.0/16", "-m", "comment", "--comment", COMMENT];
      run(lab, 1, "iptables-nft", ...check, "-j", "ACCEPT");
      const saved = run(lab, 1, "iptables-nft-save");
      assert.ok(RULES.every((rule) => saved.includes(rule)), saved);
      // Somebody loads the saved rules again, which gives ours another form.
      run(lab, 1, "sh", "-c", "iptables-nft-save | iptables-nft-restore");
      lab.assertPings([1, 2]);
      iptables(lab, 1, "-F FORWARD");
      await until("our rules are not put back", MEND_MS, () => forwardRules(lab, 1).length === 2);
      assert.deepEqual(forwardRules(lab, 1), RULES);
      lab.assertPings([1, 2], [2, 1]);
      // What others put before ours is theirs to decide.
      iptables(lab, 1, "-I FORWARD -d 10.210.99.0/24 -j DROP");
      await setTimeout(MEND_MS / 2);
      assert.deepEqual(forwardRules(lab, 1).slice(1), RULES);
      iptables(lab, 1, "-P FORWARD ACCEPT");
      await until("our rules stay", MEND_MS, () => forwardRules(lab, 1).length === 1);
      iptables(lab, 1, "-P FORWARD DROP");
      await until("our rules are missing", MEND_MS, () => forwardRules(lab, 1).length === 3);
      // The next run finds them, and leaves none where it is told to.
      await lab.kill(1);
      await lab.startRegistry(CONFIG, ["--release-on-exit"]);
      assert.equal(forwardRules(lab, 1).length, 3);
      await lab.stop(1);
      assert.deepEqual(forwardRules(lab, 1), ["-A FORWARD -d 10.210.99.0/24 -j DROP"]);
    }));

  test("of an nftables firewall of both families", () =>
    withLab(2, async (lab) => {
      run(lab, 1, "nft", "add table inet site");
      const chain = "{ type filter hook forward priority 10 ; policy drop ; }";
      run(lab, 1, "nft", `add chain inet site forward ${chain}`);
      run(lab, 1, "nft", "add rule inet site forward ct state invalid drop");
      await startTwo(lab);
      lab.assertPings([1, 2], [2, 1]);
      const [, , , ...rules] = nftChain(lab, 1).trim().split("\n").map((line) => line.trim());
      assert.match(rules[0]!, /^ip saddr 10\.210\.0\.0\/16 counter .* accept comment "selvage/);
      assert.match(rules[1]!, /^ip daddr 10\.210\.0\.0\/16 counter .* accept comment "selvage/);
      assert.equal(rules[2], "ct state invalid drop");
      run(lab, 1, "nft", "flush chain inet site forward");
      await until("our rules are not put back", MEND_MS, () => nftChain(lab, 1).includes(COMMENT));
      lab.assertPings([1, 2]);
      assert.deepEqual((await lab.ready(1)).problems, []);
    }));

  test("with --iptables-forward-rules=own it is a problem, with the command that mends it", () =>
    withLab(2, async (lab) => {
      iptables(lab, 1, "-P FORWARD DROP");
      await startTwo(lab, ["--iptables-forward-rules=own"]);
      assert.deepEqual(forwardRules(lab, 1), []);
      assert.ok(!lab.ping(1, lab.containers[1]!, 1));
      const { problems, ready } = await lab.ready(1);
      assert.equal(ready, false);
      const [problem] = problems;
      assert.match(
        problem!,
        /chain ip filter FORWARD drops all packets that none of its rules accepts/,
      );
      assert.match(readyReasons(lab, 1), /iptables -I FORWARD -s 10\.210\.0\.0\/16 -j ACCEPT/);
      // What it says to run mends it.
      const commands = /run: (.*); or let Selvage/.exec(problem!)![1]!;
      run(lab, 1, "sh", "-c", commands.replaceAll("iptables ", "iptables-nft "));
      await lab.until(1, "still a problem", ({ ready }) => ready);
      lab.assertPings([1, 2], [2, 1]);
    }));

  test("of the old iptables is a problem that goes when its command was run", () =>
    withLab(2, async (lab) => {
      iptables(lab, 1, "-P FORWARD DROP", "iptables-legacy");
      await startTwo(lab);
      assert.ok(!lab.ping(1, lab.containers[1]!, 1));
      const { problems, ready } = await lab.ready(1);
      assert.equal(ready, false);
      assert.match(problems.join(), /chain FORWARD of iptables-legacy drops/);
      const commands = /run: (.*)$/.exec(problems[0]!)![1]!;
      run(lab, 1, "sh", "-c", commands);
      // Nor does the kernel report this one.
      const value = "/proc/sys/net/ipv6/conf/selvage.1/accept_ra";
      run(lab, 1, "sh", "-c", `echo 2 >${value}`);
      await until("the packets do not pass", TIMEOUT_MS, () => lab.ping(1, lab.containers[1]!, 1));
      await lab.until(1, "still a problem", ({ ready }) => ready);
      await until(
        "routers are still believed",
        TIMEOUT_MS,
        () => run(lab, 1, "cat", value).trim() === "0",
      );
    }));
});
