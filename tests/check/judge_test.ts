/** The judgement of `selvage check`: from facts to rows, without a host. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ConfigFacts, HostFacts, PortFacts, Trial } from "../../src/check/facts.ts";
import { judge } from "../../src/check/judge.ts";
import type { CheckReport } from "../../src/check/report.ts";
import type { OuterLink } from "../../src/kernel/outer_link.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";

const works: Trial = { state: "works" };
const refused: Trial = { state: "refused", why: "EADDRINUSE" };
const unseen: Trial = { state: "unseen", why: "looking needs CAP_SYS_ADMIN" };
const OWN = [IpAddress.parse("192.0.2.1"), IpAddress.parse("2001:db8::1")];
const LINK: OuterLink = {
  name: "eth0",
  index: 2,
  mtu_bytes: 1500,
  addresses: OWN,
  publicAddresses: OWN,
  ways: [],
};
const CONFIG: ConfigFacts = {
  where: "n.json",
  type: "vxlan",
  datapath: "userspace",
  families: [4],
  networks: [IpPrefix.parse("10.210.0.0/16")],
  mtu_bytes: 1450,
  warnings: [],
  refusal: null,
};

function port(use: PortFacts["use"], trial: Trial, isChosen = false): PortFacts {
  return { use, port: 8472, where: "192.0.2.1:8472", trial, isChosen };
}

/** A host that has everything. */
const GOOD: HostFacts = {
  kernelRelease: "6.1.0-18-amd64",
  capabilities: ["CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_SYS_ADMIN"],
  tun: { file: works, device: works, isMultiQueue: true, offloads: ["csum", "tso", "uso"] },
  udpOffloads: ["udp-segment", "udp-gro"],
  vxlan: works,
  ipip: works,
  nftables: works,
  forwardDrops: [],
  legacyDrops: [],
  ioUring: works,
  forwarding: { 4: { isOn: true, isWritable: true }, 6: { isOn: true, isWritable: true } },
  rpFilter: 2,
  gcThresh3: 1024,
  link: LINK,
  isRunning: false,
  ownDevices: [],
  vxlanDevices: [],
  clashes: [],
  ports: [
    port("udp", works),
    port("vxlan", works),
    port("api", works, true),
    port("registry", works),
  ],
  places: [{ name: "state directory", path: "/d", trial: works }],
  clock: { now_ms: Date.UTC(2026, 1, 1), isSynchronised: true, newestState_ms: null },
  config: null,
  etcd: null,
};

const ALL = ["udp", "vxlan (userspace)", "vxlan (kernel)", "host-gw", "ipip"];

function namesOf({ backends }: CheckReport, works: boolean | null): string[] {
  return backends.filter((one) => one.works === works).map(({ name }) => name);
}

test("a host that has everything: nothing but ok", () => {
  const report = judge(GOOD);
  assert.deepEqual(report.checks.filter(({ result }) => result !== "ok"), []);
  assert.ok(report.checks.every(({ advice }) => advice === ""));
  assert.deepEqual(namesOf(report, true), ALL);
  assert.equal(report.ready, true);
  assert.match(report.next, /Nothing is missing.*selvage run/);
  const mtu = report.checks.find(({ name }) => name === "inner MTU");
  assert.equal(
    mtu?.seen,
    "udp 1472, vxlan 1450, vxlan of IPv6 1430, host-gw 1500, ipip 1480",
  );
});

interface Row {
  readonly what: string;
  readonly facts: Partial<HostFacts>;
  readonly row: string;
  readonly result: "warning" | "missing" | "ok";
  readonly not?: readonly string[];
  readonly open?: readonly string[];
  /** Does it stop the daemon. */
  readonly stops?: boolean;
}

const linkOf = (change: Partial<OuterLink>) => ({ ...LINK, ...change });
const tunOf = (change: Partial<HostFacts["tun"]>) => ({ ...GOOD.tun, ...change });
const USERSPACE = ["udp", "vxlan (userspace)"];
const VXLAN_NAMES = ["vxlan (userspace)", "vxlan (kernel)"] as const;
const VXLAN: string[] = [...VXLAN_NAMES];
const off = (isWritable: boolean) => ({ isOn: false, isWritable });

const ROWS: readonly Row[] = [
  {
    what: "an old kernel",
    facts: { kernelRelease: "4.19.0" },
    row: "kernel",
    result: "missing",
    not: ALL,
    stops: true,
  },
  {
    what: "neighbours that count",
    facts: { kernelRelease: "4.20.1" },
    row: "neighbour table",
    result: "warning",
  },
  {
    what: "no CAP_NET_RAW",
    facts: { capabilities: ["CAP_NET_ADMIN"] },
    row: "CAP_NET_RAW",
    result: "missing",
    not: ALL,
    stops: true,
  },
  {
    what: "an etcd that takes no writes",
    facts: { etcd: { endpoints: "h:2379", problem: { why: "full", hint: "Compact." } } },
    row: "etcd",
    result: "missing",
    not: ALL,
    stops: true,
  },
  {
    what: "no TUN",
    facts: { tun: tunOf({ file: refused, device: refused, offloads: null }) },
    row: "/dev/net/tun",
    result: "missing",
    not: USERSPACE,
  },
  {
    what: "no USO",
    facts: { tun: tunOf({ offloads: ["csum", "tso"] }) },
    row: "TUN device",
    result: "warning",
  },
  {
    what: "TUN offloads not looked at",
    facts: { tun: tunOf({ device: unseen, offloads: null }) },
    row: "TUN device",
    result: "warning",
  },
  { what: "no UDP GRO", facts: { udpOffloads: [] }, row: "UDP offloads", result: "warning" },
  {
    what: "no vxlan in the kernel",
    facts: { vxlan: refused },
    row: "vxlan device",
    result: "missing",
    not: ["vxlan (kernel)"],
  },
  {
    what: "ipip not looked at",
    facts: { ipip: unseen },
    row: "ipip device",
    result: "warning",
    open: ["ipip"],
  },
  { what: "no nftables", facts: { nftables: refused }, row: "nftables", result: "missing" },
  { what: "no io_uring", facts: { ioUring: refused }, row: "io_uring", result: "ok" },
  {
    what: "forwarding off",
    facts: { forwarding: { 4: off(true), 6: null } },
    row: "IPv4 forwarding",
    result: "warning",
  },
  {
    what: "forwarding off for good",
    facts: { forwarding: { 4: off(false), 6: null } },
    row: "IPv4 forwarding",
    result: "missing",
    not: ALL,
    stops: true,
  },
  {
    what: "no IPv6",
    facts: { forwarding: { ...GOOD.forwarding, 6: null } },
    row: "IPv6 forwarding",
    result: "warning",
  },
  {
    what: "no IPv6 where it is asked for",
    facts: {
      forwarding: { ...GOOD.forwarding, 6: null },
      config: { ...CONFIG, families: [4, 6] },
    },
    row: "IPv6 forwarding",
    result: "missing",
    not: ["vxlan (userspace)"],
    stops: true,
  },
  {
    what: "no outer interface",
    facts: { link: { why: "no default route", hint: "Set --iface." } },
    row: "outer interface",
    result: "missing",
    not: ALL,
    stops: true,
  },
  {
    what: "another public address",
    facts: { link: linkOf({ publicAddresses: [IpAddress.parse("198.51.100.1")] }) },
    row: "outer interface",
    result: "warning",
    not: ["host-gw"],
  },
  { what: "a strict rp_filter", facts: { rpFilter: 1 }, row: "rp_filter", result: "warning" },
  {
    what: "an MTU too small for IPv6 in VXLAN",
    facts: { link: linkOf({ mtu_bytes: 1300 }) },
    row: "inner MTU",
    result: "warning",
  },
  {
    what: "an MTU too small for udp",
    facts: { link: linkOf({ mtu_bytes: 90 }) },
    row: "inner MTU",
    result: "warning",
    not: ["udp", ...VXLAN],
  },
  {
    what: "udp's port taken",
    facts: { ports: [port("udp", refused)] },
    row: "UDP of udp port",
    result: "missing",
    not: ["udp"],
  },
  {
    what: "vxlan's port taken",
    facts: { ports: [port("vxlan", refused)] },
    row: "UDP of vxlan port",
    result: "missing",
    not: VXLAN,
  },
  {
    what: "vxlan's port taken by a program, beside a device of ours and others of the kernel",
    facts: {
      ports: [{
        ...port("vxlan", refused),
        holder: { pid: 77, command: "nc", userId: 0 },
      }],
      ownDevices: ["selvage.1"],
      vxlanDevices: ["selvage.1"],
    },
    row: "UDP of vxlan port",
    result: "missing",
    not: VXLAN,
  },
  {
    what: "vxlan's port taken at another address",
    facts: {
      ports: [{
        ...port("vxlan", refused),
        holder: { pid: 77, command: "nc", userId: 0 },
        isTakenElsewhere: true,
      }],
    },
    row: "UDP of vxlan port",
    result: "missing",
    not: ["vxlan (kernel)"],
  },
  {
    what: "vxlan's port taken where the kernel has a VXLAN",
    facts: { ports: [port("vxlan", refused)], vxlanDevices: ["flannel.1"] },
    row: "UDP of vxlan port",
    result: "warning",
    not: ["vxlan (userspace)"],
    open: ["vxlan (kernel)"],
  },
  {
    what: "a port taken where selvage runs",
    facts: { ports: [port("udp", refused)], ownDevices: ["selvage0"] },
    row: "UDP of udp port",
    result: "warning",
  },
  {
    what: "the API's port taken by the selvage that runs here, without a device",
    facts: { ports: [port("api", refused, true)], isRunning: true },
    row: "API port",
    result: "warning",
  },
  {
    what: "the API's port taken where a selvage that runs no more left a device",
    facts: { ports: [port("api", refused, true)], ownDevices: ["selvage.1"] },
    row: "API port",
    result: "missing",
    not: ALL,
    stops: true,
  },
  {
    what: "a bridge of the name of vxlan's device",
    facts: {
      clashes: [{ type: "name", name: "selvage.1", kind: "bridge", backends: VXLAN_NAMES }],
      config: { ...CONFIG, datapath: "auto" },
    },
    row: "device selvage.1",
    result: "missing",
    not: VXLAN,
    stops: true,
  },
  {
    what: "a VNI taken, which another configuration need not have",
    facts: {
      clashes: [
        { type: "vni", name: "vx", vni: 1, port: 8472, backends: ["vxlan (kernel)"] },
      ],
    },
    row: "VNI 1, port 8472",
    result: "missing",
    not: ["vxlan (kernel)"],
  },
  {
    what: "a forward chain that drops",
    facts: {
      forwardDrops: [
        { table: { family: 4, name: "filter" }, name: "FORWARD", isDropping: true },
      ],
    },
    row: "forward chains",
    result: "ok",
  },
  {
    what: "a forward chain of the old iptables that drops",
    facts: { legacyDrops: ["iptables-legacy -I FORWARD -s NETWORK -j ACCEPT"] },
    row: "forward chains",
    result: "warning",
  },
  {
    what: "a forward chain that drops another family",
    facts: {
      forwardDrops: [
        { table: { family: 6, name: "filter" }, name: "FORWARD", isDropping: true },
      ],
      config: CONFIG,
    },
    row: "forward chains",
    result: "ok",
  },
  {
    what: "an option that is ignored",
    facts: { config: { ...CONFIG, warnings: ["Backend.Learnin is ignored"] } },
    row: "configuration",
    result: "warning",
  },
  {
    what: "the API's port taken",
    facts: { ports: [port("api", refused, true)] },
    row: "API port",
    result: "missing",
    not: ALL,
    stops: true,
  },
  {
    what: "the registry's default port taken",
    facts: { ports: [port("registry", refused)] },
    row: "registry port",
    result: "warning",
  },
  {
    what: "the registry's port taken that was asked for",
    facts: { ports: [port("registry", refused, true)] },
    row: "registry port",
    result: "missing",
    not: ALL,
    stops: true,
  },
  {
    what: "a read-only state directory",
    facts: { places: [{ name: "state directory", path: "/d", trial: refused }] },
    row: "state directory",
    result: "missing",
    not: ALL,
    stops: true,
  },
  {
    what: "a clock that was never set",
    facts: { clock: { now_ms: 0, isSynchronised: true, newestState_ms: null } },
    row: "clock",
    result: "warning",
  },
  {
    what: "a clock that went back",
    facts: { clock: { ...GOOD.clock, newestState_ms: GOOD.clock.now_ms + 3_600_000 } },
    row: "clock",
    result: "warning",
  },
  {
    what: "a clock that nothing keeps",
    facts: { clock: { ...GOOD.clock, isSynchronised: false } },
    row: "clock",
    result: "warning",
  },
  {
    what: "a configuration that the backend refuses",
    facts: { config: { ...CONFIG, refusal: { why: "no room", hint: "Make some." } } },
    row: "configuration",
    result: "missing",
    not: ["vxlan (userspace)"],
    stops: true,
  },
];

describe("one thing is not as it should be", () => {
  for (const { what, facts, row: name, result, not = [], open = [], stops = false } of ROWS) {
    test(what, () => {
      const report = judge({ ...GOOD, ...facts });
      const row = report.checks.find((one) => one.name === name);
      assert.equal(row?.result, result);
      if (result === "missing") assert.notEqual(row?.advice, "", "says what to do");
      const others = report.checks.filter((one) => one.name !== name && one.result === "missing");
      assert.deepEqual(others, []);
      assert.deepEqual(namesOf(report, false), not);
      assert.deepEqual(namesOf(report, null), open);
      assert.ok(report.backends.every(({ works, reason }) => (reason === "") === (works === true)));
      assert.equal(report.ready, !stops);
      if (stops) assert.ok(report.next.includes(name), report.next);
    });
  }
});

describe("forward chains that drop are named with their table, and with the command", () => {
  const chain = (family: 4 | 6 | "inet", table: string, name: string) => ({
    table: { family, name: table },
    name,
    isDropping: true,
  });
  const rowOf = (facts: Partial<HostFacts>) => {
    const report = judge({ ...GOOD, ...facts });
    return report.checks.find(({ name }) => name === "forward chains")!;
  };

  test("of nftables, without a configuration", () => {
    const { seen, advice } = rowOf({ forwardDrops: [chain("inet", "own", "f")] });
    assert.match(
      seen,
      /^chain f of table inet own \(policy drop\): .*dropped\. selvage run inserts/,
    );
    assert.match(
      advice,
      /=own or =false .* run: nft insert rule inet own f ip saddr NETWORK accept; .* daddr NETWORK/,
    );
  });

  test("of iptables-nft, for this network", () => {
    const { advice } = rowOf({ config: CONFIG, forwardDrops: [chain(4, "filter", "FORWARD")] });
    assert.match(advice, /run: iptables -I FORWARD -s 10\.210\.0\.0\/16 -j ACCEPT; /);
  });

  test("of iptables-legacy", () => {
    const command = "iptables-legacy -I FORWARD -s 10.210.0.0/16 -j ACCEPT";
    const { seen, advice } = rowOf({ legacyDrops: [command] });
    assert.match(seen, /chain FORWARD of iptables-legacy \(policy DROP\) drops the overlay/);
    assert.ok(advice.includes("cannot reach each other") && advice.endsWith(`Run: ${command}`));
  });
});

describe("a network configuration narrows the question", () => {
  const ROWS: [Partial<ConfigFacts>, string[]][] = [
    [{ type: "udp", datapath: null }, ["udp"]],
    [{ datapath: "auto" }, VXLAN],
    [{ datapath: "kernel" }, ["vxlan (kernel)"]],
    [{ type: "host-gw", datapath: null }, ["host-gw"]],
    [{ type: "alloc", datapath: null }, []],
  ];
  for (const [change, names] of ROWS) {
    test(JSON.stringify(change), () => {
      const report = judge({ ...GOOD, config: { ...CONFIG, ...change } });
      assert.deepEqual(report.backends.map(({ name }) => name), names);
      assert.equal(report.ready, true);
    });
  }

  test("what another backend lacks does not stop it", () => {
    const facts = { ...GOOD, tun: tunOf({ file: refused }), vxlan: refused };
    assert.equal(judge({ ...facts, config: { ...CONFIG, type: "host-gw" } }).ready, true);
    const stopped = judge({ ...facts, config: { ...CONFIG, datapath: "kernel" } });
    assert.equal(stopped.ready, false);
    assert.match(stopped.next, /vxlan device/);
  });

  test("what is in the way is mended before what may be there by right", () => {
    const report = judge({
      ...GOOD,
      config: { ...CONFIG, datapath: "auto" },
      vxlanDevices: ["flannel.1"],
      ports: [port("vxlan", refused)],
      clashes: [{
        type: "vni",
        name: "flannel.1",
        vni: 1,
        port: 8472,
        backends: ["vxlan (kernel)"],
      }],
    });
    assert.equal(report.ready, false);
    assert.match(report.next, /: VNI 1, port 8472\. Remove it \(ip link delete flannel\.1\)/);
  });
});
