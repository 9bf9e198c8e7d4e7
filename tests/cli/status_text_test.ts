import { test } from "node:test";
import assert from "node:assert/strict";
import { statusText } from "../../src/cli/status_text.ts";
import { NOW_MS, sampleStatus } from "../api/fake_control.ts";

test("a node that is ready", () => {
  assert.equal(
    statusText(sampleStatus(), { verbose: false }),
    `\
Selvage     0.1.0, pid 4711, up 1 h 1 min
Phase       ready
Interface   eth0, 192.0.2.1, MTU 1500
Network     10.5.0.0/16
Lease       10.5.52.0/24, 23 h 53 min left, renewed in 22 h 53 min
Backend     udp, MTU 1472
Tunnel      flannel0, IPv4, MTU 1472, port 8285
Store       embedded, /var/lib/selvage/registry.db, connected for 1 h
Registry    192.0.2.1:8286, sha256:0102
Data plane  running, sent 1200 packets (1.4 MiB), received 12 packets (999 B),
            2 of 65536 peers
Offloads    csum, tso
Workers     one pair a tunnel

SUBNET       PUBLIC IP      SENT  RECEIVED  LAST HEARD
10.5.7.0/24  192.0.2.2   1.4 MiB     999 B     3 s ago
10.5.8.0/24  192.0.2.30      0 B       0 B       never

Skipped 10.5.9.0-24: its backend is vxlan

DROPPED   PACKETS
noRoute         3
notAPeer       17
`,
  );
});

test("verbose lists every drop reason; without drops there is no list", () => {
  const status = sampleStatus();
  const verbose = statusText(status, { verbose: true });
  assert.match(verbose, /^truncated +0$/m);
  const plane = { ...status.dataPlane!, drops: { truncated: 0 } };
  const text = statusText({ ...status, dataPlane: plane }, { verbose: false });
  assert.doesNotMatch(text, /DROPPED/);
});

test("a node that waits, and one in trouble", () => {
  const status = {
    ...sampleStatus(),
    phase: "waiting_for_config" as const,
    waitingFor: "the registry holds no network configuration",
    waitingSince_ms: NOW_MS - 90_000,
    interface: null,
    network: [],
    lease: null,
    backend: null,
    peers: [],
    skippedPeers: [],
    dataPlane: null,
    listeners: [],
    registry: null,
    store: {
      ...sampleStatus().store!,
      kind: "remote",
      location: "192.0.2.1:8286",
      connected: false,
      lastError: "192.0.2.1:8286: connection refused",
      unreadableCount: 2,
      unreadable: [],
    },
  };
  assert.equal(
    statusText(status, { verbose: false }),
    `\
Selvage  0.1.0, pid 4711, up 1 h 1 min
Phase    waiting for the network configuration
Waiting  for 1 min 30 s: the registry holds no network configuration
Store    remote, 192.0.2.1:8286, NOT connected for 1 h, 2 unreadable entries left out: \
192.0.2.1:8286: connection refused

No peers yet.
`,
  );
});

test("what is started and not ready is not called ready", () => {
  const phase = (change: Partial<ReturnType<typeof sampleStatus>>) =>
    /^Phase +(.*)$/m.exec(
      statusText({ ...sampleStatus(), ...change }, { verbose: false }),
    )?.[1];
  const problems = ["create ipip selvage.ipip: EOPNOTSUPP"];
  assert.equal(phase({ ready: false, problems }), "started, but NOT ready: see below");
  assert.equal(
    phase({ problems: ["a new configuration is not obeyed"] }),
    "ready, with problems: see below",
  );
  assert.equal(phase({ ready: false, phase: "starting" }), "starting");
});

test("a healthy host shows no drops for what kernels announce; verbose calls it harmless", () => {
  const status = sampleStatus();
  const drops = { egress_ipv6: 3, egress_special_address: 9, egress_no_peer: 0 };
  const noisy = { ...status, dataPlane: { ...status.dataPlane!, drops } };
  assert.doesNotMatch(statusText(noisy, { verbose: false }), /DROPPED|egress/);
  const verbose = statusText(noisy, { verbose: true });
  assert.match(verbose, /^egress_ipv6 \(harmless\) +3$/m);
  assert.match(verbose, /^egress_no_peer +0$/m);
});

test("a skipped peer does not look like a served one", () => {
  const status = sampleStatus();
  const skippedPeers = [{ key: status.peers[1]!.key, reason: "its backend is vxlan" }];
  const text = statusText({ ...status, skippedPeers }, { verbose: false });
  assert.match(text, /^SUBNET +PUBLIC IP +STATE /m);
  assert.match(text, /^10\.5\.7\.0\/24 +192\.0\.2\.2 +served /m);
  assert.match(text, /^10\.5\.8\.0\/24 +192\.0\.2\.30 +SKIPPED /m);
});

test("switches that are on are shown", () => {
  const status = sampleStatus();
  const plane = { ...status.dataPlane!, trustsUnderlay: true, allowsOutsideSources: true };
  const text = statusText({ ...status, dataPlane: plane }, { verbose: false });
  assert.match(text, /^Accepts +.*\(--trust-underlay\).*\(--allow-outside-sources\)$/m);
});

test("two tunnels of VXLAN, many workers, a path that carries less", () => {
  const status = sampleStatus();
  const common = { port: 8472, vni: 1 };
  const text = statusText({
    ...status,
    backend: {
      ...status.backend!,
      type: "vxlan",
      mtu_bytes: 1430,
      tunnels: [
        { ...common, family: 4, device: "selvage.1", mtu_bytes: 1450, vtepMac: "02:0:4" },
        { ...common, family: 6, device: "selvage-v6.1", mtu_bytes: 1430, vtepMac: "02:0:6" },
      ],
    },
    dataPlane: { ...status.dataPlane!, queueCount: 4 },
    peers: [{ ...status.peers[0]!, pathMtu_bytes: 1350 }, status.peers[1]!],
  }, { verbose: false });
  const vtep = "port 8472, VNI 1, VTEP";
  assert.match(text, /^Backend +vxlan, MTU 1430$/m);
  assert.match(text, new RegExp(`^Tunnel +selvage\\.1, IPv4, MTU 1450, ${vtep} 02:0:4$`, "m"));
  assert.match(text, new RegExp(`^Tunnel +selvage-v6\\.1, IPv6, MTU 1430, ${vtep} 02:0:6$`, "m"));
  assert.match(text, /^Workers +4 pairs a tunnel$/m);
  assert.match(text, /LAST HEARD +PATH MTU$/m);
  assert.match(text, /3 s ago +1350$/m);
});

test("where the kernel forwards there are devices, and nothing is counted", () => {
  const status = sampleStatus();
  const backend = {
    ...status.backend!,
    type: "vxlan",
    mtu_bytes: 1450,
    generation: 2,
    isDirectRouting: true,
    tunnels: [],
    devices: [
      {
        name: "selvage.1",
        kind: "vxlan" as const,
        vni: 1,
        vtepMac: "02:0:4",
        port: 8472,
        mtu_bytes: 1450,
      },
      {
        name: "selvage.ipip",
        kind: "ipip" as const,
        vni: null,
        vtepMac: null,
        port: null,
        mtu_bytes: 1480,
      },
    ],
  };
  const text = statusText({ ...status, backend, dataPlane: null }, {
    verbose: false,
  });
  assert.match(text, /^Backend +vxlan, generation 2, DirectRouting, MTU 1450$/m);
  assert.match(text, /^Device +selvage\.1, vxlan 1, port 8472, VTEP 02:0:4, MTU 1450$/m);
  assert.match(text, /^Device +selvage\.ipip, ipip, MTU 1480$/m);
  assert.match(text, /^SUBNET +PUBLIC IP$/m);
  assert.match(text, /^10\.5\.7\.0\/24 +192\.0\.2\.2$/m);
  assert.doesNotMatch(text, /Tunnel|Data plane|SENT|LAST HEARD/);
});

test("the guard is shown with what it dropped, beside the drops of the packet loops", () => {
  const status = sampleStatus();
  const drops = { guard_source_not_peer: 7, guard_forwarded: 0 };
  const textOf = (state: "on" | "off" | "missing", isInKernel = false, verbose = false) =>
    statusText({
      ...status,
      guard: { state, drops: state === "on" ? drops : {} },
      ...(isInKernel ? { dataPlane: null } : {}),
    }, { verbose });
  assert.match(textOf("on"), /^Guard +on$/m);
  assert.match(textOf("on"), /^notAPeer +17\nguard_source_not_peer +7$/m);
  assert.match(textOf("on", true), /^DROPPED +PACKETS\nguard_source_not_peer +7$/m);
  assert.doesNotMatch(textOf("on"), /guard_forwarded/);
  assert.match(textOf("on", true, true), /^guard_forwarded +0$/m);
  assert.match(
    textOf("off"),
    /^Guard +OFF \(--guard=false\): local users and containers can send/m,
  );
  assert.match(textOf("missing"), /^Guard +MISSING: see below$/m);
  assert.doesNotMatch(statusText(status, { verbose: false }), /Guard/);
});

test("a store that is read and takes no writes; what is to be known and is no problem", () => {
  const status = sampleStatus();
  const store = {
    ...status.store!,
    lastError: "etcd takes no writes",
    errorSince_ms: NOW_MS - 60_000,
    unreadableCount: 1,
    unreadable: [],
  };
  const notices = ["SubnetLen has changed"];
  const text = statusText({ ...status, store, notices }, { verbose: false });
  const rest = "connected for 1 h, 1 unreadable entry left out; for 1 min: etcd takes no writes";
  assert.match(text, new RegExp(`^Store .*${rest}$`, "m"));
  assert.match(text, /^Note: SubnetLen has changed$/m);
  assert.match(text, /^Phase +ready$/m);
});

test("a reservation, a lease that has ended, a public address behind NAT", () => {
  const status = sampleStatus();
  const text = (lease: typeof status.lease) => statusText({ ...status, lease }, { verbose: false });
  const subnets = ["10.5.52.0/24"];
  assert.match(
    text({ subnets, expiry_ms: null, renewal_ms: null, lostSince_ms: null }),
    /^Lease +10\.5\.52\.0\/24, reserved, never ends$/m,
  );
  assert.match(
    text({ subnets, expiry_ms: NOW_MS - 61_000, renewal_ms: null, lostSince_ms: null }),
    /^Lease +10\.5\.52\.0\/24, ended 1 min 1 s ago$/m,
  );
  assert.match(
    text({ subnets, expiry_ms: NOW_MS + 61_000, renewal_ms: NOW_MS, lostSince_ms: NOW_MS - 5_000 }),
    /^Lease +10\.5\.52\.0\/24, LOST 5 s ago$/m,
  );
  const link = { ...status.interface!, publicAddresses: ["198.51.100.9"] };
  assert.match(
    statusText({ ...status, interface: link }, { verbose: false }),
    /^Interface +eth0, 192\.0\.2\.1, public 198\.51\.100\.9, MTU 1500$/m,
  );
});

test("unreadable entries of the store are named with the reason, and the rest is counted", () => {
  const status = sampleStatus();
  const unreadable = [
    { key: "/coreos.com/network/subnets/10.5.9.0-24", reason: "value: not an address of a host" },
    { key: "10.5.8.0-24\n\x1b[2J", reason: "value: not JSON" },
  ];
  const textOf = (store: NonNullable<typeof status.store>) =>
    statusText({ ...status, store }, { verbose: false });
  const text = textOf({ ...status.store!, unreadableCount: 7, unreadable });
  assert.match(text, /, 7 unreadable entries left out$/m);
  assert.match(
    text,
    /^Unreadable \/coreos\.com\/\S+\/10\.5\.9\.0-24: value: not an address of a host$/m,
  );
  assert.match(text, /^Unreadable 10\.5\.8\.0-24\?\?\[2J: value: not JSON$/m);
  assert.match(text, /^Unreadable: 5 more, which the log names$/m);
  // An older daemon does not name them.
  const { unreadable: _, ...older } = { ...status.store!, unreadableCount: 7 };
  assert.doesNotMatch(textOf(older as NonNullable<typeof status.store>), /^Unreadable/m);
});

test("dual-stack peers fit a terminal of 80 columns, one address a line", () => {
  const status = sampleStatus();
  const [peer] = status.peers;
  const peers = [1, 2].map((i) => ({
    ...peer!,
    key: `10.210.10${i}.0-24&fd00:210:10${i}::-64`,
    subnets: [`10.210.10${i}.0/24`, `fd00:210:10${i}::/64`],
    publicAddresses: [`198.51.100.20${i}`, `2001:db8:100::20${i}`],
    pathMtu_bytes: 1350,
  }));
  const text = statusText({
    ...status,
    interface: {
      ...status.interface!,
      addresses: ["192.168.100.200", "fd00:1234:5678::200"],
      publicAddresses: ["198.51.100.200", "2001:db8:100::200"],
    },
    network: ["10.210.0.0/16", "fd00:210::/48"],
    lease: { ...status.lease!, subnets: ["10.210.100.0/24", "fd00:210:100::/64"] },
    peers,
    skippedPeers: [{ key: peers[1]!.key, reason: "its backend is vxlan" }],
  }, { verbose: false });
  assert.deepEqual(text.split("\n").filter((line) => line.length > 80), []);
  assert.match(text, /^SUBNET +PUBLIC IP +STATE +SENT +LAST HEARD\n +RECEIVED +PATH MTU$/m);
  assert.match(text, /^10\.210\.101\.0\/24 +198\.51\.100\.201 +served +1\.4 MiB +3 s ago$/m);
  assert.match(text, /^fd00:210:101::\/64 +2001:db8:100::201 +999 B +1350$/m);
  assert.match(text, /^Interface +eth0, .*,\n +2001:db8:100::200, MTU 1500$/m);
});

test("columns stay apart as long as that fits", () => {
  const status = sampleStatus();
  const peers = [{
    ...status.peers[0]!,
    subnets: ["10.5.7.0/24", "fd00:7::/64"],
    publicAddresses: ["192.0.2.2", "2001:db8::2"],
  }];
  const text = statusText({ ...status, peers }, { verbose: false });
  assert.match(text, /^SUBNET +PUBLIC IP +SENT +RECEIVED +LAST HEARD\n10\.5\.7\.0\/24 .*3 s ago$/m);
  assert.match(text, /^fd00:7::\/64 +2001:db8::2$/m);
});
