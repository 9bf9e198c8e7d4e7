import assert from "node:assert/strict";
import { test } from "node:test";
import type { DataPath } from "../../src/agent/data_path.ts";
import { snapshot } from "../../src/agent/snapshot.ts";
import { parseNetworkConfig } from "../../src/config/parse_network_config.ts";
import { parseLeaseKey } from "../../src/lease/lease.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { MacAddress } from "../../src/net/mac_address.ts";
import { WAITING } from "./parts.ts";

function lease(key: string, address: string) {
  return {
    subnets: parseLeaseKey(key),
    publicAddresses: [IpAddress.parse(address)],
    backendType: "udp",
    backendData: {},
    expiry_ms: 5000,
  };
}

test("before anything is known, everything is null or empty, and the reason is given", () => {
  const status = snapshot(WAITING, 1000);
  assert.equal(status.phase, "waiting_for_store");
  assert.equal(status.ready, false);
  assert.equal(status.waitingFor, "the registry cannot be reached");
  assert.equal(status.pid, process.pid);
  const { interface: link, lease: ours, backend, dataPlane, store, registry } = status;
  assert.deepEqual([link, ours, backend, dataPlane, store, registry], Array(6).fill(null));
  assert.deepEqual([status.peers, status.network, status.skippedPeers], [[], [], []]);
});

test("peers carry their counters; one that is not served has zeros", () => {
  const counters = {
    sentPackets: 1,
    sentBytes: 2,
    receivedPackets: 3,
    receivedBytes: 4,
    lastHeard_ms: 5,
    pathMtu_bytes: 1400,
  };
  const path = {
    peerCount: 1,
    tunnels: [
      {
        family: 4,
        device: "selvage0",
        port: 8285,
        mtu_bytes: 1472,
        encapsulation: { type: "none" },
      },
      {
        family: 6,
        device: "selvage-v6.1",
        port: 8472,
        mtu_bytes: 1430,
        encapsulation: { type: "vxlan", vni: 1, vtepMac: MacAddress.parse("02:00:00:00:00:06") },
      },
    ],
    devices: [
      {
        kind: "vxlan",
        name: "selvage.1",
        mtu_bytes: 1450,
        macAddress: MacAddress.parse("02:00:00:00:00:04"),
        vni: 1,
        port: 8472,
        outerLinkIndex: 2,
        local: IpAddress.parse("192.0.2.5"),
        isLearning: true,
        isGbp: false,
        isProxy: false,
        isL2Miss: false,
      },
      {
        kind: "ipip",
        name: "selvage.ipip",
        mtu_bytes: 1480,
        outerLinkIndex: 2,
        local: IpAddress.parse("192.0.2.5"),
      },
    ],
    shownOptions: { generation: 2, isDirectRouting: true },
    mtu_bytes: 1430,
    skipped: [{ key: "10.1.9.0-24", reason: "its backend is vxlan, ours is udp" }],
    status: () => null,
    notices: () => [],
    peer: (key: string) => key === "10.1.7.0-24" ? counters : null,
  } as unknown as DataPath;
  const status = snapshot({
    ...WAITING,
    config: parseNetworkConfig('{"Network":"10.1.0.0/16"}', "test"),
    lease: lease("10.1.5.0-24", "192.0.2.5"),
    expiry_ms: 5000,
    renewal_ms: 4000,
    path,
    linkProblem: null,
    rivalProblem: null,
    addressProblem: null,
    configProblem: null,
    hostProblems: [],
    notices: [],
    peers: [lease("10.1.7.0-24", "192.0.2.7"), lease("10.1.9.0-24", "192.0.2.9")],
  }, 1000);
  assert.deepEqual(status.lease, {
    subnets: ["10.1.5.0/24"],
    expiry_ms: 5000,
    renewal_ms: 4000,
    lostSince_ms: null,
  });
  assert.deepEqual(status.backend, {
    peerCount: 1,
    type: "udp",
    mtu_bytes: 1430,
    generation: 2,
    isDirectRouting: true,
    devices: [
      {
        name: "selvage.1",
        kind: "vxlan",
        vni: 1,
        vtepMac: "02:00:00:00:00:04",
        port: 8472,
        mtu_bytes: 1450,
      },
      {
        name: "selvage.ipip",
        kind: "ipip",
        vni: null,
        vtepMac: null,
        port: null,
        mtu_bytes: 1480,
      },
    ],
    tunnels: [
      { family: 4, device: "selvage0", port: 8285, mtu_bytes: 1472, vni: null, vtepMac: null },
      {
        family: 6,
        device: "selvage-v6.1",
        port: 8472,
        mtu_bytes: 1430,
        vni: 1,
        vtepMac: "02:00:00:00:00:06",
      },
    ],
  });
  const identity = { publicAddresses: ["192.0.2.7"], backendType: "udp" };
  assert.deepEqual(status.peers[0], {
    key: "10.1.7.0-24",
    subnets: ["10.1.7.0/24"],
    ...identity,
    ...counters,
  });
  assert.equal(status.peers[1]!.sentPackets, 0);
  assert.equal(status.peers[1]!.lastHeard_ms, null);
  assert.equal(status.peers[1]!.pathMtu_bytes, null);
  assert.equal(status.skippedPeers[0]!.key, "10.1.9.0-24");
  // It is what the API sends: it must survive JSON unchanged.
  assert.deepEqual(JSON.parse(JSON.stringify(status)), status);
});
