/** The guard's tables against the real kernel and a foreign hand (nft), in a fresh namespace. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Netns } from "../../ffi/netns.ts";
import type { Backend, PlanInput } from "../../src/backend/backend.ts";
import { hostGwBackend } from "../../src/backend/host_gw.ts";
import { ipipBackend } from "../../src/backend/ipip.ts";
import { planGuard } from "../../src/backend/guard/plan_guard.ts";
import { udpBackend } from "../../src/backend/udp.ts";
import { vxlanBackend } from "../../src/backend/vxlan.ts";
import type { Firewall } from "../../src/kernel/firewall.ts";
import type { DesiredTable } from "../../src/kernel/firewall_state.ts";
import type { Lease } from "../../src/lease/lease.ts";
import { configOf, DUAL, inputOf, leaseOf, MACS } from "../backend/sample.ts";
import { withNamespaces } from "../netlink/namespace.ts";
import { getGeneration } from "../../src/netlink/nftables/nftables.ts";
import { connectNftables, nft, withFirewall } from "./nft.ts";

const NOTHING_DONE = { changeCount: 0, problems: [] };

/** What a node with this backend and these peers guards. */
function guardOf(
  backend: Backend,
  peers: readonly Lease[],
  network: Record<string, unknown> = {},
  options: Record<string, unknown> = {},
): DesiredTable[] {
  const input: PlanInput = inputOf(configOf({ Type: backend.type, ...options }, network), peers);
  const plan = backend.plan(input);
  return planGuard({
    ...input,
    served: plan.served,
    tunnels: backend.tunnels(input.config, input.link, MACS),
    links: plan.kernel.links,
    isDirect: backend.isDirect?.(input.config) ?? false,
    linkIndexes: new Map(),
    trustsUnderlay: false,
    allowsOutsideSources: false,
    uid: 0,
  });
}

const mac = (n: number) => `02:00:00:01:${hexByte(n >>> 8)}:${hexByte(n & 0xff)}`;
const hexByte = (n: number) => n.toString(16).padStart(2, "0");

/** The peer with this number, 1 at least, in both families. */
function peer(n: number, type: string): Lease {
  const group = n.toString(16);
  return leaseOf(
    `10.${128 + (n >>> 8)}.${n & 0xff}.0-24&fc00:0:0:${(0x1000 + n).toString(16)}::-64`,
    [`172.16.${n >>> 8}.${n & 0xff}`, `2001:db8:1::${group}`],
    type,
    { 4: { VNI: 1, VtepMAC: mac(n) }, 6: { VNI: 1, VtepMAC: mac(n) } },
  );
}

const peers = (count: number, type: string) =>
  Array.from({ length: count }, (_, i) => peer(i + 1, type));

const WIDE = { Network: "10.128.0.0/9" };

function withGuard(body: (netns: Netns, firewall: Firewall) => void): void {
  withNamespaces(1, ({ netns }) => withFirewall(netns, (firewall) => body(netns, firewall)));
}

/** A listing that nft could not load again would cost a host all its rules at the next boot. */
function assertReloads(netns: Netns): void {
  const listing = nft(netns, "list ruleset");
  nft(netns, `flush ruleset\n${listing}`);
  assert.match(nft(netns, "list ruleset"), /guard_(outside_tunnel|source_not_own)/);
}

const CASES: readonly (readonly [string, DesiredTable[]])[] = [
  ["vxlan, both families", guardOf(vxlanBackend, peers(3, "vxlan"), { ...WIDE, ...DUAL })],
  [
    "vxlan with DirectRouting",
    guardOf(vxlanBackend, peers(3, "vxlan"), WIDE, { DirectRouting: true }),
  ],
  ["ipip", guardOf(ipipBackend, peers(3, "ipip"), WIDE)],
  ["udp", guardOf(udpBackend, peers(3, "udp"), WIDE)],
  ["host-gw", guardOf(hostGwBackend, [], { ...WIDE, ...DUAL })],
];

describe("the guard's tables", () => {
  for (const [name, desired] of CASES) {
    test(`of ${name} are as planned, then nothing is written, and all is removed`, () => {
      withGuard((netns, firewall) => {
        assert.ok(desired.length > 0);
        const { changeCount, problems } = firewall.reconcile(desired);
        assert.deepEqual([problems, firewall.guardFault], [[], null]);
        assert.ok(changeCount >= desired.length);
        assert.deepEqual(firewall.reconcile(desired), NOTHING_DONE);
        assertReloads(netns);
        // nft writes some rules otherwise than we do, with the same meaning.
        assert.deepEqual(firewall.reconcile(desired).problems, []);
        withFirewall(netns, (afterRestart) => {
          assert.deepEqual(afterRestart.reconcile(desired), NOTHING_DONE);
        });
        firewall.reconcile([]);
        assert.equal(nft(netns, "list ruleset"), "");
      });
    });
  }
});

/** How many times the kernel's nftables have been changed. */
function generationOf(netns: Netns): number {
  const connection = connectNftables(netns);
  try {
    return getGeneration(connection);
  } finally {
    connection.close();
  }
}

function elementsOf(netns: Netns, set: string): string[] {
  const listing = nft(netns, `list set ip selvage-guard ${set}`);
  const elements = /elements = \{([^}]*)\}/.exec(listing)?.[1] ?? "";
  return elements.split(",").map((text) => text.trim()).filter((text) => text !== "").sort();
}

describe("the guard's sets", () => {
  const PEER_COUNT = 5_000;
  const many = peers(PEER_COUNT, "vxlan");

  test("hold thousands of peers, and change element by element", () => {
    withGuard((netns, firewall) => {
      const before = guardOf(vxlanBackend, many, WIDE);
      const start_ms = performance.now();
      assert.deepEqual(firewall.reconcile(before).problems, []);
      const first_ms = performance.now() - start_ms;
      assert.ok(first_ms < 5_000, `${first_ms} ms`);
      assert.equal(elementsOf(netns, "hosts").length, PEER_COUNT);
      assert.equal(elementsOf(netns, "sources_24").length, PEER_COUNT);
      assert.deepEqual(firewall.reconcile(before), NOTHING_DONE);
      // One peer goes, and another comes: one transaction, and no rule is touched.
      const generation = generationOf(netns);
      nft(netns, "add rule ip selvage-guard input counter accept");
      const handle = /counter packets 0 bytes 0 accept # handle (\d+)/.exec(
        nft(netns, "list chain ip selvage-guard input", "-a"),
      )![1];
      nft(netns, `delete rule ip selvage-guard input handle ${handle}`);
      const after = guardOf(vxlanBackend, [...many.slice(1), peer(PEER_COUNT + 1, "vxlan")], WIDE);
      assert.deepEqual(firewall.reconcile(after), { changeCount: 1, problems: [] });
      assert.equal(generationOf(netns), generation + 3);
      const hosts = elementsOf(netns, "hosts");
      assert.equal(hosts.length, PEER_COUNT);
      assert.ok(!hosts.includes("172.16.0.1") && hosts.includes("172.16.19.137"));
      assert.deepEqual(firewall.reconcile(after), NOTHING_DONE);
    });
  });

  test("keep what an earlier run knew until the peers are known", () => {
    withGuard((netns, firewall) => {
      firewall.reconcile(guardOf(vxlanBackend, peers(3, "vxlan"), WIDE));
      withFirewall(netns, (restarted) => {
        const nobody = guardOf(vxlanBackend, [peer(4, "vxlan")], WIDE);
        assert.deepEqual(restarted.reconcile(nobody, true), { changeCount: 1, problems: [] });
        assert.equal(elementsOf(netns, "hosts").length, 4);
        assert.deepEqual(restarted.reconcile(nobody, true), NOTHING_DONE);
        restarted.reconcile(nobody);
        assert.deepEqual(elementsOf(netns, "hosts"), ["172.16.0.4"]);
      });
    });
  });

  test("a subnet of another length gets a set, without the others' being made anew", () => {
    withGuard((netns, firewall) => {
      const three = peers(3, "vxlan");
      firewall.reconcile(guardOf(vxlanBackend, three, WIDE));
      const wide = leaseOf("10.192.0.0-20", ["172.16.9.9"], "vxlan", { 4: { VtepMAC: mac(9) } });
      const desired = guardOf(vxlanBackend, [...three, wide], WIDE);
      assert.deepEqual(firewall.reconcile(desired).problems, []);
      assert.deepEqual(elementsOf(netns, "sources_20").length, 1);
      assert.match(nft(netns, "list chain ip selvage-guard tunnel"), /@sources_20 accept/);
      firewall.reconcile(guardOf(vxlanBackend, three, WIDE));
      assert.doesNotMatch(nft(netns, "list ruleset"), /sources_20/);
      assert.equal(elementsOf(netns, "sources_24").length, 3);
    });
  });

  test("whatever a foreign hand does is mended, counters are let count", () => {
    withGuard((netns, firewall) => {
      const desired = guardOf(vxlanBackend, peers(3, "vxlan"), WIDE);
      firewall.reconcile(desired);
      const right = nft(netns, "list table ip selvage-guard");
      const hands = [
        "delete table ip selvage-guard",
        "flush ruleset",
        "flush chain ip selvage-guard tunnel",
        "flush chain ip selvage-guard input",
        "insert rule ip selvage-guard input accept",
        "insert rule ip selvage-guard tunnel accept",
        "add element ip selvage-guard hosts { 203.0.113.66 }",
        "add element ip selvage-guard hosts { 203.0.113.66, 203.0.113.67 }\n" +
        "delete element ip selvage-guard hosts { 172.16.0.2 }",
        "flush set ip selvage-guard sources_24",
        "add set ip selvage-guard mine { type ipv4_addr; }",
        "add chain ip selvage-guard mine",
        "add counter ip selvage-guard mine",
        "add chain ip selvage-guard mine { type filter hook input priority -5; policy drop; }",
        "table ip selvage-guard { flags dormant; }",
        "flush table ip selvage-guard\ndelete set ip selvage-guard sources_24\n" +
        "add set ip selvage-guard sources_24 { type ipv4_addr; }",
      ];
      for (const hand of hands) {
        nft(netns, hand);
        const { changeCount, problems } = firewall.reconcile(desired);
        assert.deepEqual(problems, [], hand);
        assert.ok(changeCount > 0, `not noticed: ${hand}`);
        assert.equal(nft(netns, "list table ip selvage-guard"), right, hand);
        assert.deepEqual(firewall.reconcile(desired), NOTHING_DONE, hand);
      }
    });
  });

  test("are let alone in tables of other names and families", () => {
    withGuard((netns, firewall) => {
      nft(netns, "add table inet selvage-guard\nadd table ip selvage-guard2");
      const before = nft(netns, "list ruleset");
      firewall.reconcile(guardOf(vxlanBackend, peers(3, "vxlan"), WIDE));
      firewall.reconcile([]);
      assert.equal(nft(netns, "list ruleset"), before);
    });
  });
});

test("a kernel without fib gets the plainer chains; one that lacks more is told of", () => {
  withGuard((netns, firewall) => {
    const [table] = guardOf(vxlanBackend, peers(3, "vxlan"), WIDE);
    // A chain that no kernel takes stands for one that this kernel does not.
    const impossible = [...table!.chains, {
      name: "impossible",
      hook: null,
      rules: [{ matches: [], verdict: { type: "jump", chainName: "nowhere" } as const }],
    }];
    const desired = [{ ...table!, chains: impossible }];
    assert.deepEqual(firewall.reconcile(desired).problems, []);
    assert.equal(firewall.guardFault, null);
    assert.match(nft(netns, "list chain ip selvage-guard forwarded"), / iif 2 accept/);
    assert.deepEqual(firewall.reconcile(desired), NOTHING_DONE);
    const worse = [{ ...table!, chains: impossible, plainerChains: impossible }];
    withFirewall(netns, (other) => {
      assert.deepEqual(other.reconcile(worse).problems, []);
      assert.match(other.guardFault!, /so the tunnel is not guarded: local users.*--guard=false/);
    });
  });
});
