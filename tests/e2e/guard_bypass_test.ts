/**
 * Ways around the guard: many datagrams that the kernel handles as one packet, source addresses
 * that IPv6 lets every user choose, a host's own tunnel, marks, packets in pieces, and frames for
 * one host that hold a packet for all. Where only the guard stops them, the same attacks arrive
 * without it.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import { GUARD_MARK } from "../../src/backend/guard/senders.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { packet, patched, withChecksum } from "../wasm/packets.ts";
import { ipFrame, udpPacket } from "./forged_frames.ts";
import { Ground, Listener, PORT, withGround } from "./guard_ground.ts";
import { ip, outerV6 } from "./dual_stack.ts";
import { AS_ROOT_OF_NAMESPACE, AS_USER, sendByProgram } from "./user_socket.ts";

const KERNEL_VXLAN = { Type: "vxlan", Datapath: "kernel" };
const USERSPACE_VXLAN = { Type: "vxlan", Datapath: "userspace" };
const OFF = ["--guard=false"];
/** In the VXLAN header (RFC 7348). */
const VNI_OFFSET_BYTES = 4;

function setInterfaces(netns: Netns, name: string, value: number): void {
  withNetns(netns, () => {
    for (const one of ["all", "eth0", "cni0"]) {
      writeFileSync(`/proc/sys/net/ipv4/conf/${one}/${name}`, String(value));
    }
  });
}

/** Lets host 1 take packets by any interface, and for 127.0.0.0/8. */
function openHost1({ lab }: Ground): void {
  const { host } = lab.network(1);
  setInterfaces(host, "rp_filter", 0);
  setInterfaces(host, "route_localnet", 1);
}

/** Deletes the guard's rules of a host, and keeps its daemon from putting them back meanwhile. */
async function withoutRules(
  { lab, family }: Ground,
  host: number,
  run: () => Promise<void>,
): Promise<void> {
  lab.signal(host, "SIGSTOP");
  try {
    const table = family === 4 ? "ip selvage-guard" : "ip6 selvage-guard";
    ip(lab, lab.network(host).host, `delete table ${table}`, "nft");
    await run();
  } finally {
    lab.signal(host, "SIGCONT");
  }
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** Sends these, all of one size, from host 2 to host 1's tunnel as one packet. */
function sendTogether(
  ground: Ground,
  words: readonly string[],
  parts: readonly Uint8Array[],
  isContainer = false,
): void {
  const { host, container } = ground.lab.network(2);
  sendByProgram(isContainer ? container : host, words, {
    to: ground.outer(1),
    port: ground.port!,
    data: joined(...parts),
    segment_bytes: parts[0]!.length,
  });
}

/** A datagram for another network's tunnel, and behind it one for ours. */
function behindOther(ground: Ground, text: string): readonly Uint8Array[] {
  const ours = ground.rightful(text);
  return [patched(ours, { [VNI_OFFSET_BYTES]: 0x77 }), ours];
}

describe("many datagrams in one packet, to vxlan in the kernel", () => {
  const attacks = (ground: Ground) => ({
    user: (text: string) => sendTogether(ground, AS_USER, behindOther(ground, text)),
    container: (text: string) => sendTogether(ground, [], behindOther(ground, text), true),
  });

  test("a user's or container's, of which the first is for another VNI", () =>
    withGround(KERNEL_VXLAN, [4], async (ground) => {
      const { user, container } = attacks(ground);
      await ground.isStopped("a user's second datagram", user);
      await ground.counts(2, "guard_local_user", 3);
      await ground.isStopped("a container's second datagram", container);
      await ground.counts(2, "guard_forwarded", 3);
      await withoutRules(ground, 2, async () => {
        await ground.arrives("a user's second datagram", user);
        await ground.arrives("a container's second datagram", container);
      });
    }));

  test("a node's, of which a later one is for a loopback or broadcast address", () =>
    withGround(KERNEL_VXLAN, [4], async (ground) => {
      openHost1(ground);
      withNetns(
        ground.lab.network(1).host,
        () => writeFileSync("/proc/sys/net/ipv4/conf/selvage.1/route_localnet", "1"),
      );
      const loopback = new Listener(ground.lab.network(1).host, "127.0.0.1");
      try {
        const destinations = ["127.0.0.1", `${ground.subnets.victim.last}`];
        for (const [i, to] of destinations.entries()) {
          const wrapped = (one: string) =>
            ground.wrapped(udpPacket(ground.container(2), one, PORT, "second"));
          sendTogether(ground, [], [wrapped(ground.container(1)), wrapped(to)]);
          await ground.counts(1, "guard_destination_not_ours", i + 1);
        }
        await ground.arrives("what a node sends", (text) => ground.sendByRight(text));
        loopback.drain();
        assert.deepEqual(loopback.heard, []);
      } finally {
        loopback.close();
      }
    }));
});

test("the tunnel's packets pass the first rules, also when its device is made anew", () =>
  withGround(KERNEL_VXLAN, [4], async (ground) => {
    const { lab } = ground;
    const { host } = lab.network(1);
    const chain = () => lab.exec(host, "nft", "list", "chain", "ip", "selvage-guard", "forward");
    // nft shows the name of the interface that has the index, or else the index.
    const isShort = () =>
      /iif "selvage\.1" accept\n\s*oif "selvage\.1" accept/.test(chain().stdout);
    assert.ok(isShort(), chain().stdout);
    ip(lab, host, "link del selvage.1");
    await lab.until(1, "the rules do not know the new device", isShort);
    await ground.arrives("what a node sends", (text) => ground.sendByRight(text));
  }));

test("what a node sends to this host's port arrives where the host's own rules redirect it", () =>
  withGround(KERNEL_VXLAN, [4], async (ground) => {
    const { lab } = ground;
    const own = ground.subnets.victim.address.add(1n);
    const published = 8080;
    for (
      const command of [
        "add table ip published",
        "add chain ip published prerouting { type nat hook prerouting priority dstnat; }",
        `add rule ip published prerouting udp dport ${published} dnat to ${
          ground.outer(3)
        }:${PORT}`,
      ]
    ) ip(lab, lab.network(1).host, command, "nft");
    const listener = new Listener(lab.network(3).host, `${ground.outer(3)}`);
    try {
      const open = new Ground(lab, 4, ground.victim, ground.peer, listener);
      await open.arrives("a redirected packet", (text) => {
        const inner = udpPacket(ground.container(2), `${own}`, published, text);
        ground.send(2, ground.wrapped(inner));
      });
    } finally {
      listener.close();
    }
  }));

test("users still reach what lies behind another vxlan device with the tunnel's port", () =>
  withGround(KERNEL_VXLAN, [4], async (ground) => {
    const { lab } = ground;
    for (const [host, other] of [[1, 2], [2, 1]] as const) {
      const { host: netns } = lab.network(host);
      const device = `type vxlan id 77 dstport ${ground.port} remote ${ground.outer(other)}`;
      ip(lab, netns, `link add other ${device} local ${ground.outer(host)}`);
      ip(lab, netns, `addr add 192.0.2.${host}/24 dev other`);
      ip(lab, netns, "link set other up");
    }
    const listener = new Listener(lab.network(1).host, "192.0.2.1");
    try {
      const open = new Ground(lab, 4, ground.victim, ground.peer, listener);
      await open.arrives("a user's packet", (text) => {
        ground.sendAsUser("192.0.2.1", PORT, new TextEncoder().encode(text));
      });
    } finally {
      listener.close();
    }
  }));

/** What a container of host 1, and a user of it, send to its own tunnel as host 2. */
function asPeerToOwnHost(ground: Ground) {
  const { host } = ground.lab.network(1);
  return {
    container: (text: string) => {
      const [from, to] = [`${ground.outer(2)}`, `${ground.outer(1)}`];
      const bytes = udpPacket(from, to, ground.port!, ground.rightful(text));
      ground.sendRawFromContainer(1, bytes);
    },
    user: (text: string) =>
      sendByProgram(host, AS_USER, {
        from: ground.outer(2),
        to: ground.outer(1),
        port: ground.port!,
        data: ground.rightful(text),
      }),
  };
}

describe("a host's own tunnel takes nothing from its containers and users as a peer", () => {
  test("udp; with --guard=false it does, and the guard comes back with the switch", () =>
    withGround({ Type: "udp" }, [4], async (ground) => {
      const { lab } = ground;
      openHost1(ground);
      const { container } = asPeerToOwnHost(ground);
      const hasTable = () =>
        lab.exec(lab.network(1).host, "nft", "list", "tables").stdout.includes("selvage-guard");
      await ground.isStopped("a container as a peer", container);
      await ground.counts(1, "guard_wrong_interface", 3);
      const restart = async (flags: readonly string[]) => {
        await lab.stop(1);
        await lab.startRegistry({ Network: "10.210.0.0/16", Backend: { Type: "udp" } }, flags);
        await lab.untilPeers(1, 1, 2);
      };
      await restart(OFF);
      assert.equal(hasTable(), false, "the rules of the last run are gone");
      await ground.arrives("the same without the guard", container);
      await restart([]);
      assert.equal(hasTable(), true);
      await ground.isStopped("a container as a peer, guarded again", container);
      await ground.counts(1, "guard_wrong_interface", 3);
      lab.assertPings([1, 2], [2, 1]);
    }));

  // Most of the time the labs of IPv6 wait, so they do it together.
  test("vxlan over IPv6, in the kernel and in user space", async () => {
    await Promise.all(
      [USERSPACE_VXLAN, KERNEL_VXLAN].map((backend) =>
        withGround(backend, [6], async (ground) => {
          const { container, user } = asPeerToOwnHost(ground);
          await ground.isStopped("a user as a peer", user);
          await ground.counts(1, "guard_wrong_interface", 3);
          await ground.isStopped("a container as a peer", container);
          await ground.counts(1, "guard_wrong_interface", 6);
          // Packet loops rest with the daemon, so that only the kernel's tunnel shows this.
          if (backend.Datapath === "userspace") return;
          await withoutRules(ground, 1, async () => {
            await ground.arrives("a user as a peer", user);
            await ground.arrives("a container as a peer", container);
          });
        })
      ),
    );
  });
});

test("host-gw, vxlan over IPv6: no user sends from an address of a container", async () => {
  const attack = (ground: Ground) => (text: string) =>
    sendByProgram(ground.lab.network(2).host, AS_USER, {
      from: ground.subnets.peer.address.add(9n),
      to: IpAddress.parse(ground.container(1)),
      port: PORT,
      data: new TextEncoder().encode(text),
    });
  await Promise.all(
    [{ Type: "host-gw" }, USERSPACE_VXLAN].map((backend) =>
      withGround(backend, [6], async (ground) => {
        await ground.isStopped("a user as a container", attack(ground));
        await ground.counts(2, "guard_source_not_own", 3);
        await ground.arrives("what a user sends as itself", (text) => {
          ground.sendAsUser(ground.container(1), PORT, new TextEncoder().encode(text));
        });
        if (backend.Type !== "host-gw") return;
        await withoutRules(ground, 2, async () => {
          await ground.arrives("a user as a container", attack(ground));
        });
      })
    ),
  );
});

test("no user sets the mark by which the guard knows the tunnel's packets", () =>
  withGround(KERNEL_VXLAN, [4], async (ground) => {
    const attack = (words: readonly string[]) => (text: string) =>
      sendByProgram(ground.lab.network(2).host, words, {
        to: ground.outer(1),
        port: ground.port!,
        data: ground.rightful(text),
        mark: GUARD_MARK,
      });
    await ground.isStopped("a user with the mark", attack(AS_USER));
    await ground.counts(2, "guard_local_user", 3);
    await ground.isStopped("root of a user namespace", attack(AS_ROOT_OF_NAMESPACE));
    await ground.counts(2, "guard_local_user", 6);
    await ground.arrives("root with the mark", attack([]));
  }));

/** An IPv6 packet in two fragments (RFC 8200 section 4.5), the first with so many bytes. */
function fragments(whole: Uint8Array, first_bytes: number, number: number): Uint8Array[] {
  const [header, body] = [whole.subarray(0, 40), whole.subarray(40)];
  return [[0, first_bytes], [first_bytes, body.length]].map(([start, end]) => {
    const part = body.subarray(start, end);
    const isLast = end === body.length;
    const offset = start! | (isLast ? 0 : 1);
    const extension = [17, 0, offset >> 8, offset & 0xff, 0, 0, 0, number];
    const bytes = joined(header, Uint8Array.from(extension), part);
    new DataView(bytes.buffer).setUint16(4, 8 + part.length);
    bytes[6] = 44;
    return bytes;
  });
}

test("no container sends to a tunnel as its own host in fragments without a VXLAN header", () =>
  withGround(KERNEL_VXLAN, [6], async (ground) => {
    let number = 0;
    const attack = (text: string) => {
      const [from, to] = [outerV6(2), outerV6(1)];
      const whole = udpPacket(`${from}`, `${to}`, ground.port!, ground.rightful(text));
      for (const part of fragments(whole, 8, ++number)) ground.sendRawFromContainer(2, part);
    };
    await ground.isStopped("a container as its own host", attack);
    await ground.counts(2, "guard_forwarded", 3);
  }, ["--ip-masq=false"]));

test("host-gw: a frame for one host that holds a packet for many, or for none", () =>
  withGround({ Type: "host-gw" }, [4], async (ground) => {
    openHost1(ground);
    const { host } = ground.lab.network(1);
    const { victim } = ground.subnets;
    const destinations = [
      `${victim.last}`,
      `${ground.outer(1)}`.replace(/\d+$/, "255"),
      "255.255.255.255",
      "224.0.0.1",
      "127.0.0.1",
    ];
    const anywhere = new Listener(host, "0.0.0.0");
    try {
      for (const [i, to] of destinations.entries()) {
        ground.sendRaw(3, udpPacket(ground.container(2), to, PORT, `to ${to}`));
        await ground.counts(1, "guard_destination_not_ours", i + 1);
      }
      await ground.arrives("what a node sends", (text) => ground.sendByRight(text));
      anywhere.drain();
      assert.deepEqual(anywhere.heard, []);
    } finally {
      anywhere.close();
    }
  }));

/** Inner packets that are not whole, each with the counter that says so. */
function malformed(ground: Ground): readonly (readonly [reason: string, inner: Uint8Array])[] {
  const whole = udpPacket(ground.container(2), ground.container(1), PORT, "malformed");
  const changed = (changes: Record<number, number>) => withChecksum(patched(whole, changes));
  return [
    ["ingress_truncated", whole.subarray(0, 19)],
    [ground.mac === null ? "ingress_bad_version" : "ingress_not_ip", changed({ 0: 0x55 })],
    ["ingress_bad_header_length", changed({ 0: 0x44 })],
    ["ingress_bad_header_length", changed({ 0: 0x4f })],
    ["ingress_bad_total_length", changed({ 3: whole.length + 1 })],
    ["ingress_bad_total_length", changed({ 2: 0xff, 3: 0xff })],
  ];
}

for (const backend of [{ Type: "udp" }, USERSPACE_VXLAN]) {
  test(`${Object.values(backend).join(", ")}: packets cut, with options, or of wrong length`, () =>
    withGround(backend, [4], async (ground) => {
      const expected = new Map<string, number>();
      for (const [reason, inner] of malformed(ground)) {
        const count = (expected.get(reason) ?? 0) + 1;
        expected.set(reason, count);
        ground.send(2, ground.mac === null ? inner : ipFrame(ground.mac, inner));
      }
      // A loose source route (RFC 791) through the host to a loopback address.
      const [from, to] = [ground.container(2), `${ground.subnets.victim.address.add(1n)}`];
      const options = Uint8Array.of(131, 7, 4, 127, 0, 0, 1, 0);
      const data = udpPacket(from, to, PORT, "by a source route").subarray(20);
      openHost1(ground);
      const anywhere = new Listener(ground.lab.network(1).host, "0.0.0.0");
      try {
        ground.send(2, ground.wrapped(packet({ from, to, options, payload: data })));
        await ground.arrives("what a node sends", (text) => ground.sendByRight(text));
        const drops = (await ground.lab.ready(1)).dataPlane!.drops;
        const counted = [...expected].map(([reason]) => [reason, drops[reason]!] as const);
        assert.deepEqual(new Map(counted), expected);
        assert.ok(!ground.listener.heard.includes("malformed"));
        anywhere.drain();
        assert.deepEqual(anywhere.heard, []);
      } finally {
        anywhere.close();
      }
    }));
}

/** Joins hosts 1 and 3 by a second link, eth1, over which host 3 sends what goes to host 1. */
function joinBySecondLink({ lab }: Ground): void {
  const [first, third] = [lab.network(1).host, lab.network(3).host];
  const there = `/proc/${process.pid}/fd/${first.fd}`;
  ip(lab, third, `link add eth1 type veth peer name eth1 netns ${there}`);
  for (const [netns, host] of [[first, 1], [third, 3]] as const) {
    ip(lab, netns, `addr add 192.0.2.${host}/24 dev eth1`);
    ip(lab, netns, "link set eth1 up");
  }
  ip(lab, third, `route add ${lab.network(1).outerAddress}/32 via 192.0.2.1 dev eth1`);
  withNetns(first, () => writeFileSync("/proc/sys/net/ipv4/conf/eth1/rp_filter", "0"));
}

for (const backend of [KERNEL_VXLAN, { Type: "udp" }, { Type: "host-gw" }]) {
  test(`${backend.Type}: a stranger on another link of a host reaches no container`, () =>
    withGround(backend, [4], async (ground) => {
      openHost1(ground);
      joinBySecondLink(ground);
      const { victim } = ground.subnets;
      for (const from of [ground.container(2), `${victim.address.add(9n)}`]) {
        await ground.isStopped(`a stranger from ${from}`, (text) => {
          ground.sendRaw(3, udpPacket(from, ground.container(1), PORT, text));
        });
      }
      await ground.counts(1, "guard_outside_tunnel", 6);
    }));
}
