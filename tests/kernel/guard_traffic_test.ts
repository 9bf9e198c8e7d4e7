/**
 * What the guard's rules do to packets as the wire has them: with IP options, in fragments, cut
 * short, of ipip. There is no tunnel; a chain behind the guard's counts what it lets in.
 *
 *     peer 192.0.2.7, stranger 192.0.2.66 --- 192.0.2.1 [ guarded host ]
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { closeFd } from "../../ffi/fd.ts";
import { check, libc } from "../../ffi/libc.ts";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import { openRawSocket } from "../../ffi/raw_socket.ts";
import { sockaddrOf } from "../../ffi/socket_address.ts";
import type { Backend } from "../../src/backend/backend.ts";
import { ipipBackend } from "../../src/backend/ipip.ts";
import { planGuard } from "../../src/backend/guard/plan_guard.ts";
import { vxlanBackend } from "../../src/backend/vxlan.ts";
import type { Firewall } from "../../src/kernel/firewall.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { createVeth } from "../../src/netlink/rtnetlink.ts";
import { configOf, inputOf, leaseOf, LINK } from "../backend/sample.ts";
import { ipFrame, udpPacket } from "../e2e/forged_frames.ts";
import { withNamespaces } from "../netlink/namespace.ts";
import { packet } from "../wasm/packets.ts";
import { nft, withFirewall } from "./nft.ts";

const HOST = "192.0.2.1";
const PEER = "192.0.2.7";
const STRANGER = "192.0.2.66";
const IPPROTO_IPIP = 4;
const IPPROTO_UDP = 17;
const MORE_FRAGMENTS = 0x2000;
/** Two no-operations and the end of the list, padded. */
const OPTIONS = Uint8Array.of(1, 1, 1, 1, 1, 1, 1, 0);
const MAC = "02:00:00:00:00:04";

const inner = (from = "10.210.7.2", to = "10.210.5.2") => udpPacket(from, to, 9, "x".repeat(40));

function udp(port: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(8 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 40_000);
  view.setUint16(2, port);
  view.setUint16(4, bytes.length);
  bytes.set(payload, 8);
  return bytes;
}

interface Ground {
  readonly firewall: Firewall;
  /** Puts whole packets on the link to the host. */
  send(...packets: readonly Uint8Array[]): void;
  /** How many packets of the protocol came through the guard. */
  arrivals(): number;
}

function withGround(backend: Backend, protocol: number, body: (ground: Ground) => void): void {
  withNamespaces(2, (host, outside) => {
    createVeth(host.connection, {
      name: "eth0",
      peer: { name: "far0", netnsFd: outside.netns.fd },
    });
    host.ip("addr", "add", `${HOST}/24`, "dev", "eth0");
    host.ip("link", "set", "eth0", "up");
    outside.ip("addr", "add", "192.0.2.200/24", "dev", "far0");
    outside.ip("link", "set", "far0", "up");
    withFirewall(host.netns, (firewall) => {
      const peer = leaseOf("10.210.7.0-24", [PEER], backend.type, {
        4: { VNI: 1, VtepMAC: "02:00:00:00:01:07" },
      });
      const input = inputOf(configOf({ Type: backend.type }), [peer], { link: LINK });
      const { served, kernel } = backend.plan(input);
      const desired = planGuard({
        ...input,
        served,
        tunnels: [],
        links: kernel.links,
        isDirect: false,
        linkIndexes: new Map(),
        trustsUnderlay: false,
        allowsOutsideSources: false,
        uid: 0,
      });
      assert.deepEqual(firewall.reconcile(desired).problems, []);
      nft(
        host.netns,
        "add table ip witness\n" +
          "add chain ip witness input { type filter hook input priority 10; }\n" +
          `add rule ip witness input meta l4proto ${protocol} counter`,
      );
      body({
        firewall,
        send: (...packets) => sendRaw(outside.netns, packets),
        arrivals: () => arrivals(host.netns),
      });
    });
  });
}

function sendRaw(netns: Netns, packets: readonly Uint8Array[]): void {
  const fd = withNetns(netns, () => openRawSocket());
  try {
    const { name } = sockaddrOf(IpAddress.parse(HOST).toBytes(), 0);
    for (const bytes of packets) {
      check(libc.sendto(fd, bytes, bytes.length, 0, name, name.length), "send a raw packet");
    }
  } finally {
    closeFd(fd);
  }
}

function arrivals(netns: Netns): number {
  return Number(/packets (\d+)/.exec(nft(netns, "list chain ip witness input"))![1]);
}

const TIMEOUT_MS = 5_000;

/** What came of these packets, which are one datagram: let in, or why not. */
function assertFate(ground: Ground, packets: readonly Uint8Array[], reason: string | null): void {
  const counted = () =>
    Object.entries(ground.firewall.readGuardDrops()).flatMap(([one, count]) =>
      count > 0 ? [one] : []
    );
  assert.deepEqual([ground.arrivals(), counted()], [0, []]);
  ground.send(...packets);
  // On a busy machine the kernel may take them from the link a little later.
  const end_ms = performance.now() + TIMEOUT_MS;
  while (ground.arrivals() === 0 && counted().length === 0 && performance.now() < end_ms);
  assert.deepEqual([ground.arrivals(), counted()], reason === null ? [1, []] : [0, [reason]]);
}

/** The first `count` bytes in one packet, and the rest in a second. */
function inFragments(from: string, payload: Uint8Array, count: number): Uint8Array[] {
  const parts = { from, to: HOST, protocol: IPPROTO_UDP };
  return [
    packet({ ...parts, fragment: MORE_FRAGMENTS, payload: payload.slice(0, count) }),
    packet({ ...parts, fragment: count / 8, payload: payload.slice(count) }),
  ];
}

describe("vxlan: packets as the wire has them", () => {
  const datagram = (bytes: Uint8Array) => udp(8472, ipFrame(MAC, bytes));
  const outer = (payload: Uint8Array, more: { from?: string; options?: Uint8Array } = {}) =>
    packet({ from: PEER, to: HOST, protocol: IPPROTO_UDP, payload, ...more });
  const right = datagram(inner());
  const wrong = datagram(inner("10.210.7.2", "127.0.0.1"));
  const otherVni = right.slice();
  otherVni[8 + 6] = 9;
  const cases: readonly (readonly [string, readonly Uint8Array[], string | null])[] = [
    ["as usual", [outer(right)], null],
    ["from a stranger", [outer(right, { from: STRANGER })], "guard_source_not_peer"],
    ["with IP options", [outer(right, { options: OPTIONS })], null],
    [
      "with IP options, to loopback",
      [outer(wrong, { options: OPTIONS })],
      "guard_destination_not_ours",
    ],
    ["in fragments", inFragments(PEER, right, 24), null],
    ["in fragments, to loopback", inFragments(PEER, wrong, 24), "guard_destination_not_ours"],
    ["in fragments from a stranger", inFragments(STRANGER, right, 8), "guard_source_not_peer"],
    ["cut short in the inner header", [outer(right.slice(0, 40))], "guard_source_outside_subnet"],
    ["cut short in VXLAN", [outer(right.slice(0, 12))], "guard_source_outside_subnet"],
    ["for another device on the port", [outer(otherVni, { from: STRANGER })], null],
    ["for another port", [outer(udp(8473, right), { from: STRANGER })], null],
  ];
  for (const [what, packets, reason] of cases) {
    test(`${what}: ${reason ?? "arrives"}`, () => {
      withGround(vxlanBackend, IPPROTO_UDP, (ground) => assertFate(ground, packets, reason));
    });
  }
});

describe("ipip: packets as the wire has them", () => {
  const outer = (payload: Uint8Array, from = PEER, options = new Uint8Array()) =>
    packet({ from, to: HOST, protocol: IPPROTO_IPIP, payload, options });
  const broadcast = inner("10.210.7.2", "10.210.5.255");
  const cases: readonly (readonly [string, Uint8Array, string | null])[] = [
    ["as usual", outer(inner()), null],
    ["with IP options", outer(inner(), PEER, OPTIONS), null],
    ["from a stranger", outer(inner(), STRANGER), "guard_source_not_peer"],
    ["from another subnet", outer(inner("10.210.8.2")), "guard_source_outside_subnet"],
    ["to the subnet's broadcast address", outer(broadcast), "guard_destination_not_ours"],
    ["of another tunnel of the host", outer(inner("10.9.0.1", "10.8.0.1"), STRANGER), null],
  ];
  for (const [what, bytes, reason] of cases) {
    test(`${what}: ${reason ?? "arrives"}`, () => {
      withGround(ipipBackend, IPPROTO_IPIP, (ground) => assertFate(ground, [bytes], reason));
    });
  }
});
