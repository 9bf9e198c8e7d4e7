/**
 * Packets that are sent into the overlay by those who have no right to: containers and local users
 * of a node, a stranger on the underlay, and a node beyond its own subnet. None arrives, counters
 * say why, and what nodes and containers send by right arrives all the while.
 *
 *     container 1 --- [ host 1 ] --- switch --- [ host 2 ] --- container 2
 *                                      |
 *                              [ host 3, no node ]
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { withNetns } from "../../ffi/netns.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { ip, outerV6 } from "./dual_stack.ts";
import {
  arpRequest,
  sendDatagrams,
  taggedFrame,
  tooBigPacket,
  udpPacket,
} from "./forged_frames.ts";
import { Ground, Listener, PORT, withGround } from "./guard_ground.ts";

/** The host's own datagrams to a peer's tunnel are the tunnel's alone. */
async function assertOutgoing(ground: Ground): Promise<void> {
  const { lab } = ground;
  await ground.isStopped("a container", (text) => ground.send(2, ground.rightful(text), true));
  await ground.counts(2, "guard_forwarded", 3);
  await ground.isStopped("a local user", (text) => {
    ground.sendAsUser(`${ground.outer(1)}`, ground.port!, ground.rightful(text));
  });
  await ground.counts(2, "guard_local_user", 3);
  // By the tunnel local users reach containers as before.
  await ground.arrives("what a local user sends through the tunnel", (text) => {
    ground.sendAsUser(ground.container(1), PORT, new TextEncoder().encode(text));
  });
  lab.assertAnswered(1, IpAddress.parse(ground.container(2)));
  lab.assertAnswered(2, IpAddress.parse(ground.container(1)));
}

/** What a node must not send to another's tunnel, each by the counters that tell of it. */
function beyond(
  ground: Ground,
): [what: string, reason: string, inner: (text: string) => Uint8Array][] {
  const { victim, peer } = ground.subnets;
  const [from, to] = [ground.container(2), ground.container(1)];
  const packet = (source: string, destination: string) => (text: string) =>
    ground.wrapped(udpPacket(source, destination, PORT, text));
  const own = `${victim.address.add(3n)}`;
  const third = `${peer.last.add(10n)}`;
  const v4: readonly (readonly [string, string])[] = [
    ["127.0.0.1", "loopback"],
    ["224.0.0.1", "multicast"],
    ["255.255.255.255", "broadcast"],
    [`${victim.last}`, "the subnet's broadcast address"],
    ["169.254.1.1", "link-local"],
    ["198.18.0.1", "the host's own address"],
    [third, "another node's subnet"],
  ];
  const v6: readonly (readonly [string, string])[] = [
    ["::1", "loopback"],
    ["ff02::1", "multicast"],
    ["fe80::1", "link-local"],
    [`${outerV6(1)}`, "the host's own address"],
    [third, "another node's subnet"],
  ];
  const sources: readonly (readonly [string, string])[] = ground.family === 4
    ? [["127.0.0.1", "loopback"], ["224.0.0.1", "multicast"], ["203.0.113.7", "outside"]]
    : [["::1", "loopback"], ["ff02::1", "multicast"], ["2001:db8:9::7", "outside"]];
  return [
    ...(ground.family === 4 ? v4 : v6).map(([address, what]) =>
      [`a node to ${what}`, "guard_destination_not_ours", packet(from, address)] as [
        string,
        string,
        (text: string) => Uint8Array,
      ]
    ),
    ...[...sources, [own, "the receiver's subnet"], [third, "another node's subnet"]].map((
      [address, what],
    ) =>
      [`a node from ${what}`, "guard_source_outside_subnet", packet(address!, to)] as [
        string,
        string,
        (text: string) => Uint8Array,
      ]
    ),
  ];
}

describe("vxlan in the kernel, guarded", () => {
  test("nobody but a node sends in, and it only what it may", () =>
    withGround({ Type: "vxlan", Datapath: "kernel" }, [4, 6], async (ground) => {
      const { lab, family } = ground;
      const { host } = lab.network(1);
      const anywhere = family === 4 ? new Listener(host, "0.0.0.0") : null;
      try {
        if (family === 4) {
          for (const name of ["all", "selvage.1", "eth0"]) {
            withNetns(
              host,
              () => writeFileSync(`/proc/sys/net/ipv4/conf/${name}/route_localnet`, "1"),
            );
          }
        }
        await assertOutgoing(ground);
        await ground.isStopped("a stranger", (text) => ground.send(3, ground.rightful(text)));
        await ground.counts(1, "guard_source_not_peer", 3);
        for (const [what, reason, attack] of beyond(ground)) {
          const before = (await lab.ready(1)).guard!.drops[reason]!;
          await ground.isStopped(what, (text) => ground.send(2, attack(text)));
          await ground.counts(1, reason, before + 3);
        }
        const before = (await lab.ready(1)).guard!.drops["guard_inner_protocol"]!;
        await ground.isStopped("a node's frame with a VLAN tag", (text) => {
          const inner = udpPacket("10.210.9.9", ground.container(1), PORT, text);
          if (family === 4) ground.send(2, taggedFrame(ground.mac!, inner));
          ground.send(2, arpRequest("10.210.9.9", "10.210.9.8"));
        });
        await ground.counts(1, "guard_inner_protocol", before + (family === 4 ? 6 : 3));
        anywhere?.drain();
        assert.deepEqual(anywhere?.heard ?? [], []);
      } finally {
        anywhere?.close();
      }
    }));

  test("nothing comes in by another way than the underlay's, or by another address", () =>
    withGround({ Type: "vxlan", Datapath: "kernel" }, [4], async (ground) => {
      const { lab } = ground;
      const { host } = lab.network(1);
      const { victim } = ground.subnets;
      const other = "198.18.0.101";
      const dropped = async (at: number, reason: string) =>
        (await lab.ready(at)).guard!.drops[reason]!;
      ip(lab, host, `addr add ${other}/32 dev eth0`);
      withNetns(host, () => {
        for (const name of ["all", "eth0", "cni0", "selvage.1"]) {
          writeFileSync(`/proc/sys/net/ipv4/conf/${name}/rp_filter`, "0");
        }
      });
      const [peer, own] = [`${ground.outer(2)}`, `${ground.outer(1)}`];
      await ground.isStopped("a container as a peer, to its own host", (text) => {
        ground.sendRawFromContainer(1, udpPacket(peer, own, ground.port!, ground.rightful(text)));
      });
      await ground.counts(1, "guard_wrong_interface", 3);
      const gateway = victim.address.add(1n);
      await ground.isStopped("a peer through the tunnel to the tunnel", (text) => {
        const datagram = [ground.rightful(text)];
        sendDatagrams(lab.network(2).host, ground.outer(2), gateway, ground.port!, datagram);
      });
      await ground.counts(1, "guard_wrong_interface", 6);
      const asUser = await dropped(2, "guard_local_user");
      await ground.isStopped("a local user to another address of a node", (text) => {
        ground.sendAsUser(other, ground.port!, ground.rightful(text));
      });
      await ground.counts(2, "guard_local_user", asUser + 3);
      const forwarded = await dropped(2, "guard_forwarded");
      await ground.isStopped("a container to another address of a node", (text) => {
        const { container } = lab.network(2);
        const [from, to] = [ground.container(2), other].map((one) => IpAddress.parse(one));
        sendDatagrams(container, from!, to!, ground.port!, [ground.rightful(text)]);
      });
      await ground.counts(2, "guard_forwarded", forwarded + 3);
      const outside = await dropped(1, "guard_outside_tunnel");
      await ground.isStopped("a stranger as a container of the receiver", (text) => {
        const from = `${victim.address.add(5n)}`;
        ground.sendRaw(3, udpPacket(from, ground.container(1), PORT, text));
      });
      await ground.counts(1, "guard_outside_tunnel", outside + 3);
      const about = { from: own, to: ground.container(2), mtu_bytes: 300 };
      const pathMtu = await dropped(1, "guard_path_mtu");
      ground.sendRaw(3, tooBigPacket("198.18.0.254", own, about));
      await ground.counts(1, "guard_path_mtu", pathMtu + 1);
      const route = lab.exec(host, "ip", "route", "get", ground.container(2)).stdout;
      assert.doesNotMatch(route, /mtu/);
    }, ["--ip-masq=false"]));

  test("no container sends to a node's tunnel as its own host, which IPv6 would forward", () =>
    withGround({ Type: "vxlan", Datapath: "kernel" }, [6], async (ground) => {
      const { lab } = ground;
      const { host } = lab.network(2);
      const attack = (text: string) => {
        const [from, to] = [`${ground.outer(2)}`, `${ground.outer(1)}`];
        const bytes = udpPacket(from, to, ground.port!, ground.rightful(text));
        ground.sendRawFromContainer(2, bytes);
      };
      await ground.isStopped("a container as its own host", attack);
      await ground.counts(2, "guard_forwarded", 3);
      lab.signal(2, "SIGSTOP");
      try {
        ip(lab, host, "delete table ip6 selvage-guard", "nft");
        await ground.arrives("the same without the rules", attack);
      } finally {
        lab.signal(2, "SIGCONT");
      }
    }));

  test("without its rules a packet to 127.0.0.1 arrives; they come back by themselves", () =>
    withGround({ Type: "vxlan", Datapath: "kernel" }, [4], async (ground) => {
      const { lab } = ground;
      const { host } = lab.network(1);
      const loopback = new Listener(host, "127.0.0.1");
      const attack = (text: string) =>
        ground.send(2, ground.wrapped(udpPacket(ground.container(2), "127.0.0.1", PORT, text)));
      try {
        withNetns(host, () => {
          for (const name of ["all", "selvage.1"]) {
            writeFileSync(`/proc/sys/net/ipv4/conf/${name}/route_localnet`, "1");
          }
        });
        lab.signal(1, "SIGSTOP");
        try {
          ip(lab, host, "delete table ip selvage-guard", "nft");
          const open = new Ground(lab, 4, ground.victim, ground.peer, loopback);
          await open.arrives("a packet to 127.0.0.1", attack);
        } finally {
          lab.signal(1, "SIGCONT");
        }
        await lab.until(
          1,
          "the guard is not back",
          ({ guard }) => guard!.drops["guard_destination_not_ours"] !== undefined,
        );
        const count = loopback.heard.length;
        await ground.isStopped("a node to loopback", attack);
        await ground.counts(1, "guard_destination_not_ours", 3);
        loopback.drain();
        assert.equal(loopback.heard.length, count);
      } finally {
        loopback.close();
      }
    }));
});

for (
  const [name, backend] of [
    ["vxlan in user space", { Type: "vxlan", Datapath: "userspace" }],
    ["udp", { Type: "udp" }],
  ] as const
) {
  test(`${name}, guarded: nobody but a node sends in, and it only what it may`, () =>
    withGround(backend, [4], async (ground) => {
      await assertOutgoing(ground);
      await ground.isStopped("a stranger", (text) => ground.send(3, ground.rightful(text)));
      await ground.counts(1, "ingress_source_not_peer", 3);
      const attacks = beyond(ground);
      assert.ok(attacks.length > 5);
      for (const [what, , attack] of attacks) {
        await ground.isStopped(what, (text) => ground.send(2, attack(text)));
      }
    }));
}

test("--guard=false: all of it arrives, which shows that the attacks work", () =>
  withGround({ Type: "vxlan", Datapath: "kernel" }, [4], async (ground) => {
    const attack = (text: string) => ground.rightful(text);
    await ground.arrives("a container's", (text) => ground.send(2, attack(text), true));
    await ground.arrives("a local user's", (text) => {
      ground.sendAsUser(`${ground.outer(1)}`, ground.port!, attack(text));
    });
    await ground.arrives("a stranger's", (text) => ground.send(3, attack(text)));
    const outside = udpPacket("203.0.113.7", ground.container(1), PORT, "outside");
    await ground.arrives("a node's", (text) => {
      ground.send(2, ground.wrapped(outside));
      ground.send(2, attack(text));
    });
    assert.ok(ground.listener.heard.includes("outside"));
    const { guard } = await ground.lab.ready(1);
    assert.deepEqual(guard, { state: "off", drops: {} });
    assert.match(ground.lab.run(1, ["status"]).stdout, /^Guard +OFF \(--guard=false\)/m);
  }, ["--guard=false"]));

/** Without these the kernel itself may drop packets that come by the wrong interface. */
function allowAnyPath(ground: Ground): void {
  withNetns(ground.lab.network(1).host, () => {
    for (const name of ["all", "eth0"]) {
      writeFileSync(`/proc/sys/net/ipv4/conf/${name}/rp_filter`, "0");
      writeFileSync(`/proc/sys/net/ipv4/conf/${name}/route_localnet`, "1");
    }
  });
}

test("a stranger's packet that is in no tunnel does not reach a container", () =>
  withGround({ Type: "vxlan", Datapath: "kernel" }, [4], async (ground) => {
    allowAnyPath(ground);
    const attack = (text: string) =>
      ground.sendRaw(3, udpPacket(ground.container(2), ground.container(1), PORT, text));
    await ground.isStopped("a packet in the clear", attack);
    await ground.counts(1, "guard_outside_tunnel", 3);
  }));

test("host-gw, guarded: sources and destinations are those of nodes and their subnets", () =>
  withGround({ Type: "host-gw" }, [4], async (ground) => {
    const { lab, subnets } = ground;
    allowAnyPath(ground);
    const loopback = new Listener(lab.network(1).host, "127.0.0.1");
    try {
      const [from, to] = [ground.container(2), ground.container(1)];
      // No node has this subnet.
      const third = [subnets.victim.last, subnets.peer.last].map((last) => `${last.add(3n)}`)
        .find((text) =>
          !subnets.peer.contains(IpAddress.parse(text)) &&
          !subnets.victim.contains(IpAddress.parse(text))
        )!;
      await ground.isStopped("a container that forges its source", (text) => {
        ground.sendRaw(2, udpPacket(third, to, PORT, text), true);
      });
      await ground.counts(2, "guard_source_not_own", 3);
      await ground.isStopped("a stranger from a subnet that nobody has", (text) => {
        ground.sendRaw(3, udpPacket(third, to, PORT, text));
      });
      await ground.counts(1, "guard_source_not_peer", 3);
      // From host 2 it would be masqueraded: it is for no address of the network.
      await ground.isStopped("a node's packet to be passed on to another host", (text) => {
        ground.sendRaw(3, udpPacket(from, `${ground.outer(2)}`, PORT, text));
      });
      await ground.counts(1, "guard_destination_not_ours", 3);
      await ground.isStopped("a node to loopback", (text) => {
        ground.sendRaw(3, udpPacket(from, "127.0.0.1", PORT, text));
      });
      await ground.counts(1, "guard_destination_not_ours", 6);
      loopback.drain();
      assert.deepEqual(loopback.heard, []);
      lab.assertPings([1, 2], [2, 1]);
      lab.assertAnswered(1, IpAddress.parse(from));
    } finally {
      loopback.close();
    }
  }));
