/**
 * What the firewall's rules do to traffic, by the source that the far end sees. Addresses of IPv4;
 * those of IPv6 stand in `V6`.
 *
 *     own container 10.5.1.2 --- .1 [ node ] 192.0.2.1 --- 192.0.2.2 outside
 *                                 198.18.0.1
 *                                      |
 *                                 198.18.0.2 peer's container, 10.5.2.2
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import { type FirewallPlanInput, planFirewall } from "../../src/backend/plan_firewall.ts";
import type { Firewall } from "../../src/kernel/firewall.ts";
import type { DesiredRule, DesiredTable } from "../../src/kernel/firewall_state.ts";
import { type Family, IpPrefix } from "../../src/net/ip.ts";
import { createVeth } from "../../src/netlink/rtnetlink.ts";
import { type TestNamespace, withNamespaces } from "../netlink/namespace.ts";
import { type Arrival, LinkWatch, sendDatagram } from "./datagrams.ts";
import { nft, withFirewall } from "./nft.ts";

interface Addresses {
  readonly family: Family;
  readonly network: string;
  readonly subnet: string;
  /** Prefix length of each link. */
  readonly length: number;
  readonly own: readonly [node: string, container: string];
  readonly outer: readonly [node: string, outside: string];
  readonly tunnel: readonly [node: string, peer: string];
  readonly peerSubnet: string;
  readonly peerContainer: string;
  readonly group: string;
  /** An address of the node in its subnet that sends to the group through the outer link. */
  readonly groupSource: string;
}

const V4: Addresses = {
  family: 4,
  network: "10.5.0.0/17",
  subnet: "10.5.1.0/24",
  length: 24,
  own: ["10.5.1.1", "10.5.1.2"],
  outer: ["192.0.2.1", "192.0.2.2"],
  tunnel: ["198.18.0.1", "198.18.0.2"],
  peerSubnet: "10.5.2.0/24",
  peerContainer: "10.5.2.2",
  group: "239.1.2.3",
  groupSource: "10.5.1.9",
};
const V6: Addresses = {
  family: 6,
  network: "fd05::/33",
  subnet: "fd05:0:1::/64",
  length: 64,
  own: ["fd05:0:1::1", "fd05:0:1::2"],
  outer: ["2001:db8::1", "2001:db8::2"],
  tunnel: ["fd18::1", "fd18::2"],
  peerSubnet: "fd05:0:2::/64",
  peerContainer: "fd05:0:2::2",
  group: "ff05::1:2:3",
  groupSource: "fd05:0:1::1",
};

/** Packets to this port have kube-proxy's mark when they reach the firewall. */
const MARKED_PORT = 4000;
const PORT = 4001;
const CONTROL_PORT = 4002;

interface Ground {
  readonly addresses: Addresses;
  readonly node: TestNamespace;
  readonly container: TestNamespace;
  readonly outside: TestNamespace;
  readonly peer: TestNamespace;
  readonly firewall: Firewall;
}

function setSysctl(netns: Netns, name: string, value: number): void {
  withNetns(netns, () => writeFileSync(`/proc/sys/net/${name}`, `${value}`));
}

/** A link between the node and another, which reaches everything by it. */
function connect(
  node: TestNamespace,
  other: TestNamespace,
  name: string,
  { length }: Addresses,
  [here, there]: readonly [string, string],
): void {
  const peer = { name: `${name}-far`, netnsFd: other.netns.fd };
  createVeth(node.connection, { name, peer });
  for (
    const [{ ip }, link, address] of [[node, name, here], [other, `${name}-far`, there]] as const
  ) {
    ip("addr", "add", `${address}/${length}`, "dev", link, ...(length === 64 ? ["nodad"] : []));
    ip("link", "set", link, "up");
  }
  other.ip(length === 64 ? "-6" : "-4", "route", "add", "default", "via", here);
}

function withGround(addresses: Addresses, body: (ground: Ground) => void): void {
  const { family, own, outer, tunnel, peerContainer, peerSubnet } = addresses;
  const { group, groupSource } = addresses;
  withNamespaces(4, (node, container, outside, peer) => {
    for (const { netns } of [node!, container!, outside!, peer!]) {
      // Addresses serve at once, also those that the kernel gives.
      setSysctl(netns, "ipv6/conf/default/accept_dad", 0);
    }
    setSysctl(node!.netns, "ipv4/ip_forward", 1);
    setSysctl(node!.netns, "ipv6/conf/all/forwarding", 1);
    connect(node!, container!, "own", addresses, own);
    connect(node!, outside!, "outer", addresses, outer);
    connect(node!, peer!, "tunnel", addresses, tunnel);
    const bits = family === 4 ? 32 : 128;
    peer!.ip("addr", "add", `${peerContainer}/${bits}`, "dev", "tunnel-far");
    node!.ip("route", "add", peerSubnet, "via", tunnel[1]);
    // IPv4 multicast leaves by the link that has the source address, IPv6 by the route.
    if (family === 4) node!.ip("addr", "add", `${groupSource}/32`, "dev", "outer");
    else node!.ip(..."-6 route add table local dev outer multicast".split(" "), `${group}/128`);
    const hook = "type filter hook prerouting priority mangle;";
    const rule = `udp dport ${MARKED_PORT} meta mark set 0x4000`;
    nft(node!.netns, `table inet other { chain marking { ${hook} ${rule}; }; }`);
    withFirewall(node!.netns, (firewall) => {
      const [n, c, o, p] = [node!, container!, outside!, peer!];
      body({ addresses, node: n, container: c, outside: o, peer: p, firewall });
    });
  });
}

function plan({ network, subnet }: Addresses, change: Partial<FirewallPlanInput> = {}) {
  return planFirewall({
    networks: [IpPrefix.parse(network)],
    subnets: [IpPrefix.parse(subnet)],
    ipMasq: true,
    isFullyRandom: true,
    forwardRules: true,
    ...change,
  });
}

/** The plan with its rules for masquerading changed. */
function planWith(addresses: Addresses, change: (rules: readonly DesiredRule[]) => DesiredRule[]) {
  return plan(addresses).map((table): DesiredTable => ({
    ...table,
    chains: table.chains.map((chain) =>
      chain.name === "postrouting" ? { ...chain, rules: change(chain.rules) } : chain
    ),
  }));
}

let lastPort = 20_000;
/** A source port that no connection had: the kernel decides once a connection. */
const freshPort = (): number => ++lastPort;

interface Flow {
  readonly from: TestNamespace;
  readonly source: string;
  readonly to: TestNamespace;
  readonly destination: string;
  readonly port: number;
  /** The source that the far end must see. */
  readonly seen: string;
  /** What it sees without the rule. */
  readonly seenWithout: string;
}

/** One flow for each rule, in the rules' order. */
function flowsOf({ addresses, container, outside, peer }: Ground): Flow[] {
  const { own: [ownNode, own], outer: [outerNode, outer], tunnel: [tunnelNode] } = addresses;
  const { peerContainer } = addresses;
  const fromOwn = { from: container, source: own };
  const fromOutside = { from: outside, source: outer };
  const toOutside = { to: outside, destination: outer, port: PORT };
  const toPeer = { to: peer, destination: peerContainer, port: PORT };
  const toOwn = { to: container, destination: own, port: PORT };
  return [
    { ...fromOwn, ...toOutside, port: MARKED_PORT, seen: own, seenWithout: outerNode },
    { ...fromOwn, ...toPeer, seen: own, seenWithout: tunnelNode },
    { from: peer, source: peerContainer, ...toOwn, seen: peerContainer, seenWithout: ownNode },
    { ...fromOutside, ...toOwn, seen: outer, seenWithout: ownNode },
    { ...fromOwn, ...toOutside, seen: outerNode, seenWithout: own },
    { ...fromOutside, ...toPeer, seen: tunnelNode, seenWithout: outer },
  ];
}

/** Sends one datagram and sees it arrive. */
function pass(flow: Flow, family: Family, sourcePort = freshPort()): Arrival {
  const watch = new LinkWatch(flow.to.netns, family);
  try {
    const from = { address: flow.source, port: sourcePort };
    sendDatagram(flow.from.netns, from, { address: flow.destination, port: flow.port });
    return watch.next([flow.port]);
  } finally {
    watch.close();
  }
}

for (const addresses of [V4, V6]) {
  const { family } = addresses;
  describe(`masquerading IPv${family}`, () => {
    test("each rule does its work, and without it the far end sees another", () => {
      withGround(addresses, (ground) => {
        const flows = flowsOf(ground);
        assert.deepEqual(ground.firewall.reconcile(plan(addresses)).problems, []);
        for (const [i, flow] of flows.entries()) {
          assert.equal(pass(flow, family).source, flow.seen, `rule ${i + 1}`);
        }
        for (const [i, flow] of flows.entries()) {
          const desired = planWith(addresses, (rules) => rules.toSpliced(i, 1));
          assert.deepEqual(ground.firewall.reconcile(desired).problems, []);
          assert.equal(pass(flow, family).source, flow.seenWithout, `without rule ${i + 1}`);
        }
        ground.firewall.reconcile([]);
        for (const flow of flows) assert.equal(pass(flow, family).source, flow.source);
      });
    });

    test("multicast keeps its source", () => {
      withGround(addresses, (ground) => {
        const { outer: [outer], group, groupSource } = addresses;
        const flow: Flow = {
          from: ground.node,
          source: groupSource,
          to: ground.outside,
          destination: group,
          port: PORT,
          seen: groupSource,
          seenWithout: outer,
        };
        ground.firewall.reconcile(plan(addresses));
        assert.equal(pass(flow, family).source, flow.seen);
        const isException = ({ type }: { type: string }) => type === "destination";
        const careless = planWith(
          addresses,
          (rules) =>
            rules.map((rule, i) =>
              i === 4 ? { ...rule, matches: rule.matches.filter((one) => !isException(one)) } : rule
            ),
        );
        ground.firewall.reconcile(careless);
        assert.equal(pass(flow, family).source, flow.seenWithout);
      });
    });

    test("source ports are random, or kept where that is asked for", () => {
      withGround(addresses, (ground) => {
        const flow = flowsOf(ground)[4]!;
        const isKept = () => {
          const port = freshPort();
          return pass(flow, family, port).sourcePort === port;
        };
        ground.firewall.reconcile(plan(addresses));
        assert.ok([1, 2, 3].some(() => !isKept()));
        ground.firewall.reconcile(plan(addresses, { isFullyRandom: false }));
        assert.ok([1, 2, 3].every(isKept));
      });
    });
  });

  describe(`forwarding IPv${family}`, () => {
    /** Whether a datagram of the flow arrives, seen by one that the node sends after it. */
    function passes(ground: Ground, flow: Flow): boolean {
      const watch = new LinkWatch(flow.to.netns, family);
      try {
        const from = { address: flow.source, port: freshPort() };
        sendDatagram(flow.from.netns, from, { address: flow.destination, port: flow.port });
        const control = { address: addresses.outer[0], port: freshPort() };
        const to = { address: flow.destination, port: CONTROL_PORT };
        sendDatagram(ground.node.netns, control, to);
        return watch.next([flow.port, CONTROL_PORT]).port === flow.port;
      } finally {
        watch.close();
      }
    }

    test("a drop in another's chain holds, before ours or after, till that chain accepts", () => {
      withGround(addresses, (ground) => {
        const flow = flowsOf(ground)[4]!;
        ground.firewall.reconcile(plan(addresses));
        assert.ok(passes(ground, flow));
        for (const priority of [-10, 0, 10]) {
          const { netns } = ground.node;
          const hook = `type filter hook forward priority ${priority}; policy drop;`;
          nft(netns, `table inet strict { chain forward { ${hook} }; }`);
          assert.ok(!passes(ground, flow), `priority ${priority}`);
          const field = family === 4 ? "ip saddr" : "ip6 saddr";
          nft(netns, `add rule inet strict forward ${field} ${addresses.network} accept`);
          assert.ok(passes(ground, flow), `accepted at priority ${priority}`);
          nft(netns, "delete table inet strict");
        }
      });
    });
  });
}
