import assert from "node:assert/strict";
import { test } from "node:test";
import { SilentPeers } from "../../src/agent/silent_peers.ts";
import { tunnelNotices } from "../../src/agent/tunnel_notices.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";

const NOW_MS = 1_700_000_000_000;
const PEER = {
  key: "10.5.7.0-24",
  subnet: IpPrefix.parse("10.5.7.0/24"),
  address: IpAddress.parse("192.0.2.7"),
};
const TUNNEL = {
  family: 4,
  device: "selvage0",
  port: 8285,
  mtu_bytes: 1472,
  encapsulation: { type: "none" },
} as const;

function notices(parts: Partial<Parameters<typeof tunnelNotices>[0]>): readonly string[] {
  const none = { status: { refusedSources: [] }, silent: [] };
  return tunnelNotices({ ...none, peers: [PEER], tunnels: [TUNNEL], ...parts }, NOW_MS)
    .map(({ text }) => text);
}

const PEER_IPV6 = {
  key: PEER.key,
  subnet: IpPrefix.parse("fd05:7::/64"),
  address: IpAddress.parse("2001:db8::7"),
};

const refusal = { address: "192.0.2.99", datagrams: 12, last_ms: NOW_MS - 1000, peerKey: PEER.key };

test("a peer that sends from another address is named with both, and what to do", () => {
  const [text, ...others] = notices({ status: { refusedSources: [refusal] } });
  assert.deepEqual(others, []);
  assert.match(
    text!,
    /peer 10\.5\.7\.0-24 come from 192\.0\.2\.99 .*published address is 192\.0\.2\.7/,
  );
  assert.match(text!, /--public-ip=192\.0\.2\.99/);
  assert.match(text!, /--trust-underlay/);
});

test("strangers, old refusals and single datagrams are no notice", () => {
  const others = [
    { ...refusal, peerKey: null },
    { ...refusal, peerKey: "10.5.200.0-24" },
    { ...refusal, last_ms: NOW_MS - 3_600_000 },
    { ...refusal, datagrams: 1 },
  ];
  assert.deepEqual(notices({ status: { refusedSources: others } }), []);
});

test("a flood of forged addresses does not fill the status", () => {
  const refusedSources = Array.from({ length: 200 }, (_, i) => ({
    ...refusal,
    address: `198.51.100.${i}`,
  }));
  const all = notices({ status: { refusedSources } });
  assert.equal(all.length, 6);
  assert.match(all.at(-1)!, /^195 more/);
});

test("a peer that packets are sent to and that never answers is noticed after a minute", () => {
  let now_ms = 0;
  const counts = { sentPackets: 0, receivedPackets: 0 };
  const rest = { sentBytes: 0, receivedBytes: 0, lastHeard_ms: null, pathMtu_bytes: null };
  const silent = new SilentPeers({
    peers: () => [PEER],
    counters: () => ({ ...counts, ...rest }),
    now_ms: () => now_ms,
  });
  const pass = (sent: number, received: number) => {
    now_ms += 10_000;
    counts.sentPackets += sent;
    counts.receivedPackets += received;
    silent.look();
  };
  for (let i = 0; i < 20; i++) pass(50, 1);
  assert.deepEqual(silent.silent, [], "a peer that answers is not silent");
  for (let i = 0; i < 5; i++) pass(50, 0);
  assert.deepEqual(silent.silent, [], "not yet");
  for (let i = 0; i < 2; i++) pass(50, 0);
  assert.deepEqual(silent.silent, [
    { key: PEER.key, address: "192.0.2.7", sentPackets: 350, silentFor_ms: 70_000 },
  ]);
  assert.match(notices({ silent: silent.silent })[0]!, /350 packets .*192\.0\.2\.7.* 70 s.*8285/);
  for (let i = 0; i < 7; i++) pass(0, 0);
  assert.deepEqual(silent.silent, [], "nothing is sent to it any more");
  pass(50, 0);
  assert.equal(silent.silent.length, 1);
  pass(50, 1);
  assert.deepEqual(silent.silent, [], "it answers again");
  counts.sentPackets = counts.receivedPackets = 0;
  pass(0, 0);
  assert.deepEqual(silent.silent, [], "the data plane was started anew");
});

test("a peer of two families: the notice names its address of the family that was refused", () => {
  const peers = [PEER, PEER_IPV6];
  const [text] = notices({ peers, status: { refusedSources: [refusal] } });
  assert.match(text!, /published address is 192\.0\.2\.7\./);
  const ipv6 = { ...refusal, address: "2001:db8::99" };
  const [other] = notices({ peers, status: { refusedSources: [ipv6] } });
  assert.match(other!, /published address is 2001:db8::7\./);
});

test("a silent peer of two families is one notice", () => {
  let now_ms = 0;
  let sentPackets = 0;
  const rest = { sentBytes: 0, receivedBytes: 0, lastHeard_ms: null, pathMtu_bytes: null };
  const silent = new SilentPeers({
    peers: () => [PEER, PEER_IPV6],
    counters: () => ({ sentPackets, receivedPackets: 1, ...rest }),
    now_ms: () => now_ms,
  });
  for (let i = 0; i < 8; i++) {
    now_ms += 10_000;
    sentPackets += 50;
    silent.look();
  }
  assert.deepEqual(silent.silent.map(({ key, address }) => [key, address]), [
    [PEER.key, "192.0.2.7 and 2001:db8::7"],
  ]);
});
