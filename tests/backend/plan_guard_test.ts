/** The guard's plan: which rules and which elements, for each backend. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { allocBackend } from "../../src/backend/alloc.ts";
import type { Backend } from "../../src/backend/backend.ts";
import { extensionBackend } from "../../src/backend/extension.ts";
import { hostGwBackend } from "../../src/backend/host_gw.ts";
import { ipipBackend } from "../../src/backend/ipip.ts";
import { planFirewall } from "../../src/backend/plan_firewall.ts";
import type { GuardInput } from "../../src/backend/guard/input.ts";
import { joinForwardChains, planGuard } from "../../src/backend/guard/plan_guard.ts";
import { udpBackend } from "../../src/backend/udp.ts";
import { vxlanBackend } from "../../src/backend/vxlan.ts";
import { userspaceVxlanBackend } from "../../src/backend/vxlan_userspace.ts";
import { type DesiredTable, setElementBytes } from "../../src/kernel/firewall_state.ts";
import type { Lease } from "../../src/lease/lease.ts";
import { IpPrefix } from "../../src/net/ip.ts";
import { configOf, DUAL, inputOf, leaseOf, LINK, MACS } from "./sample.ts";

const vtep = (last: string) => ({ 4: { VNI: 1, VtepMAC: `02:00:00:00:01:${last}` } });

function plan(
  backend: Backend,
  peers: readonly Lease[],
  changes: Partial<GuardInput> = {},
  options: Record<string, unknown> = {},
  network: Record<string, unknown> = {},
): DesiredTable[] {
  const input = inputOf(configOf({ Type: backend.type, ...options }, network), peers);
  const { served, kernel } = backend.plan(input);
  return planGuard({
    ...input,
    served,
    tunnels: backend.tunnels(input.config, LINK, MACS),
    links: kernel.links,
    isDirect: backend.isDirect?.(input.config) ?? false,
    linkIndexes: new Map(),
    trustsUnderlay: false,
    allowsOutsideSources: false,
    uid: 0,
    ...changes,
  });
}

/** Addresses in the elements of a set, IPv4's, one after another. */
function elements(table: DesiredTable | undefined, name: string): string[] | undefined {
  const set = table?.sets.find((one) => one.name === name);
  return set && [...set.elements].map(setElementBytes).map((bytes) => {
    const quads = Array.from(
      { length: bytes.length / 4 },
      (_, i) => bytes.subarray(4 * i, 4 * i + 4),
    );
    return quads.map((quad) => quad.join(".")).join(" ");
  });
}

const chainNames = (table: DesiredTable | undefined) => table?.chains.map(({ name }) => name);

describe("what is guarded", () => {
  const cases: readonly (readonly [Backend, string[]])[] = [
    [vxlanBackend, ["tunnel", "forwarded", "subnet", "input", "forward", "users", "output"]],
    [ipipBackend, [
      "tunnel",
      "forwarded",
      "subnet",
      "input",
      "forward",
      "users",
      "output",
      "prerouting",
    ]],
    [udpBackend, ["forwarded", "subnet", "input", "forward", "users", "output"]],
    [userspaceVxlanBackend, ["forwarded", "subnet", "input", "forward", "users", "output"]],
    [hostGwBackend, ["direct", "direct_input", "subnet", "input", "forward"]],
  ];
  for (const [backend, chains] of cases) {
    test(`${backend.type}: ${chains.join(", ")}`, () => {
      assert.deepEqual(plan(backend, []).map(chainNames), [chains]);
    });
  }

  test("packets from and to the tunnel's device pass first, if all go by it", () => {
    const forward = (backend: Backend, changes: Partial<GuardInput>) =>
      plan(backend, [], changes)[0]!.chains.find(({ name }) => name === "forward")!.rules;
    const linkIndexes = new Map([["selvage.1", 7]]);
    const accepts = (direction: "in" | "out") => ({
      matches: [{ type: "link_index", direction, index: 7, isEqual: true }],
      verdict: { type: "accept" },
    });
    const [first, second] = forward(vxlanBackend, { linkIndexes });
    assert.deepEqual([first, second], [accepts("in"), accepts("out")]);
    assert.equal(
      forward(vxlanBackend, {}).length + 2,
      forward(vxlanBackend, { linkIndexes }).length,
    );
    const direct = forward(vxlanBackend, { linkIndexes, isDirect: true });
    assert.deepEqual(direct, forward(vxlanBackend, { isDirect: true }));
  });

  test("both families of a network of both", () => {
    const tables = plan(vxlanBackend, [], {}, {}, DUAL);
    assert.deepEqual(tables.map(({ family }) => family), [4, 6]);
  });

  test("nothing where Selvage carries nothing", () => {
    assert.deepEqual([...plan(allocBackend, []), ...plan(extensionBackend, [])], []);
  });
});

describe("the elements", () => {
  const near = leaseOf("10.210.7.0-24", ["192.0.2.7"], "vxlan", vtep("07"));
  const wide = leaseOf("10.210.16.0-20", ["192.0.2.8"], "vxlan", vtep("08"));
  const other = leaseOf("10.210.9.0-24", ["192.0.2.9"], "udp");

  test("a peer's subnet comes from its address, and so does that address itself", () => {
    const [table] = plan(vxlanBackend, [near, wide]);
    assert.deepEqual(elements(table, "sources_24"), ["192.0.2.7 10.210.0.0 7.0.0.0"]);
    assert.deepEqual(elements(table, "sources_20"), ["192.0.2.8 10.210.16.0"]);
    const themselves = ["192.0.2.7 192.0.0.0 2.7.0.0", "192.0.2.8 192.0.0.0 2.8.0.0"];
    assert.deepEqual(elements(table, "sources_32"), themselves);
  });

  test("no packet for a node that is not served is let out either", () => {
    const [table] = plan(vxlanBackend, [near, other]);
    assert.deepEqual(elements(table, "hosts"), ["192.0.2.7", "192.0.2.9"]);
    assert.deepEqual(elements(table, "sources_24"), ["192.0.2.7 10.210.0.0 7.0.0.0"]);
  });

  test("our own address, and what is no host's, is nobody's", () => {
    const bad = ["192.0.2.1", "127.0.0.1", "224.0.0.1", "255.255.255.255"].map((address, i) =>
      leaseOf(`10.210.${20 + i}.0-24`, [address], "vxlan", vtep(`2${i}`))
    );
    const [table] = plan(vxlanBackend, [...bad, near]);
    assert.deepEqual(elements(table, "hosts"), ["192.0.2.7"]);
  });

  test("with --trust-underlay the inner source alone decides", () => {
    const [table] = plan(vxlanBackend, [near], { trustsUnderlay: true });
    assert.deepEqual(elements(table, "inner_24"), ["10.210.0.0 7.0.0.0"]);
    assert.equal(elements(table, "sources_24"), undefined);
    const reasons = JSON.stringify(table!.chains.find(({ name }) => name === "tunnel"));
    assert.doesNotMatch(reasons, /guard_source_not_peer/);
  });

  test("with DirectRouting subnets may come without a tunnel too", () => {
    const [table] = plan(vxlanBackend, [near], {}, { DirectRouting: true });
    assert.deepEqual(elements(table, "subnets_24"), ["10.210.7.0"]);
    assert.ok(chainNames(table)!.includes("direct"));
  });
});

test("--allow-outside-sources lets in sources outside of the network, and no others", () => {
  const rules = (allowsOutsideSources: boolean) =>
    plan(vxlanBackend, [], { allowsOutsideSources })[0]!.chains
      .find(({ name }) => name === "tunnel")!.rules;
  const added = rules(true).length - rules(false).length;
  assert.equal(added, 5, "four kinds of addresses that are never a source, and the rest");
  const accepts = rules(true).filter(({ verdict }) => verdict.type === "accept");
  assert.equal(accepts.length, 3, "of a subnet, of a node itself, and of the outside");
});

test("a daemon that is not root may send as itself", () => {
  const users = (uid: number) =>
    plan(udpBackend, [], { uid })[0]!.chains.find(({ name }) => name === "users")!.rules
      .flatMap(({ matches }) => matches)
      .flatMap((match) => match.type === "user" ? [match.uid] : []);
  assert.deepEqual([users(0), users(990)], [[], [990]]);
});

test("a host has one chain at the forward hook, with the accept rules behind the guard's", () => {
  const guard = plan(vxlanBackend, []);
  const firewall = planFirewall({
    networks: [IpPrefix.parse("10.210.0.0/16")],
    subnets: [IpPrefix.parse("10.210.5.0/24")],
    ipMasq: true,
    isFullyRandom: true,
    forwardRules: true,
  });
  const joined = joinForwardChains(firewall, guard);
  assert.deepEqual(joined.map(chainNames), [["postrouting"], chainNames(guard[0])]);
  const forwardRules = (table: DesiredTable) =>
    table.chains.find(({ name }) => name === "forward")!.rules;
  const all = [...forwardRules(guard[0]!), ...forwardRules(firewall[0]!)];
  assert.deepEqual(forwardRules(joined[1]!), all);
  assert.deepEqual(joinForwardChains(firewall, []), firewall);
});
