/** What an IPv6 path carries, for a tunnel in user space and for the kernel's: real and forged. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { closeFd } from "../../ffi/fd.ts";
import { check, libc } from "../../ffi/libc.ts";
import { withNetns } from "../../ffi/netns.ts";
import { openRawSocket } from "../../ffi/raw_socket.ts";
import { sockaddrIn6 } from "../../ffi/socket_address.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { flow, UDP, wirePacket } from "../wasm/flows.ts";
import { naiveChecksum } from "../wasm/packets.ts";
import { attachV6, giveOuterV6, ip, outerV6 } from "./dual_stack.ts";
import { type Lab, withLab } from "./lab.ts";

const OVERHEAD = 40 + 8 + 8 + 14;
const FULL = 1500 - OVERHEAD;
const OUTER_MTU = 1400;
const TIMEOUT_MS = 20_000;
const VXLAN_PORT = 8472;
const ICMPV6 = 58;

/** Starts hosts 1 and 2 with both families; returns the IPv6 address of host 2's container. */
async function start(lab: Lab, datapath: string): Promise<IpAddress> {
  for (const host of [1, 2, 3]) giveOuterV6(lab, host);
  await lab.startRegistry({
    Network: "10.210.0.0/16",
    EnableIPv6: true,
    IPv6Network: "fc00::/48",
    Backend: { Type: "vxlan", Datapath: datapath },
  });
  await lab.startJoined(2);
  await lab.untilPeers(1, 1, 2);
  const addresses: IpAddress[] = [];
  for (const host of [1, 2]) {
    await lab.attach(host);
    const subnet = (await lab.ready(host)).lease!.subnets[1]!;
    addresses.push(attachV6(lab, host, IpPrefix.parse(subnet)));
  }
  lab.assertAnswered(1, addresses[1]!);
  return addresses[1]!;
}

function ping(lab: Lab, to: IpAddress, size_bytes: number, count: number): string {
  const size = String(size_bytes - 48);
  const args = ["-n", "-c", String(count), "-i", "0.05", "-W", "1", "-M", "do", "-s", size];
  return lab.exec(lab.network(1).container, "ping", ...args, String(to)).stdout;
}

/** What a router says of a packet that it could not pass on, to host 1. */
function packetTooBig(mtu: number, quoted: Uint8Array): Uint8Array {
  const message = new Uint8Array(8 + quoted.length);
  message[0] = 2;
  new DataView(message.buffer).setUint32(4, mtu);
  message.set(quoted, 8);
  const header = new Uint8Array(40);
  header.set([0x60, 0, 0, 0, 0, message.length, ICMPV6, 64]);
  header.set(outerV6(3).toBytes(), 8);
  header.set(outerV6(1).toBytes(), 24);
  const pseudo = [...header.subarray(8), 0, 0, 0, message.length, 0, 0, 0, ICMPV6];
  const sum = naiveChecksum(Uint8Array.from([...pseudo, ...message]));
  new DataView(message.buffer).setUint16(2, sum);
  return Uint8Array.from([...header, ...message]);
}

/** Host 3 says that what host 1 sent to host 2, a datagram and a ping, is too big: two lies. */
function forge(lab: Lab, mtu: number): void {
  const [from, to] = [outerV6(1), outerV6(2)].map(String) as [string, string];
  const quoted = wirePacket(
    flow({ family: 6, protocol: UDP, from, to, payload: new Uint8Array(8) }),
  );
  const ports = new DataView(quoted.buffer);
  ports.setUint16(40, VXLAN_PORT);
  ports.setUint16(42, VXLAN_PORT);
  const echo = quoted.slice();
  echo[6] = ICMPV6;
  const fd = withNetns(lab.network(3).host, () => openRawSocket(6));
  const name = sockaddrIn6(outerV6(1).toBytes(), 0);
  try {
    for (const bytes of [quoted, echo].map((one) => packetTooBig(mtu, one))) {
      check(libc.sendto(fd, bytes, bytes.length, 0, name, name.length), "send");
    }
  } finally {
    closeFd(fd);
  }
}

async function pathMtu(lab: Lab): Promise<number | null> {
  return (await lab.host(1).status())!.peers[0]!.pathMtu_bytes;
}

describe("a tunnel over IPv6", () => {
  test("in user space: forged messages do not narrow a path, a narrow one is found", () =>
    withLab(3, async (lab) => {
      const to = await start(lab, "userspace");
      assert.match(ping(lab, to, FULL, 2), /2 received/);
      for (const mtu of [1280, 1400, 600]) forge(lab, mtu);
      const { stdout } = lab.exec(lab.network(1).host, "ip", "-6", "route", "get", `${outerV6(2)}`);
      assert.match(stdout, /mtu 1280/, "the kernel believes it");
      const flood = ping(lab, to, FULL, 40);
      assert.match(flood, /40 received/, flood);
      assert.equal(await pathMtu(lab), null);
      // A redirect would have host 1 go around the relay.
      const quiet = "echo 0 > /proc/sys/net/ipv6/conf/eth0/accept_redirects";
      assert.equal(lab.exec(lab.network(1).host, "sh", "-c", quiet).status, 0);
      const [relay, host] = [lab.network(3).host, lab.network(1).host];
      ip(lab, relay, `-6 route add ${outerV6(2)}/128 dev eth0 mtu lock ${OUTER_MTU}`);
      ip(lab, host, `-6 route add ${outerV6(2)}/128 via ${outerV6(3)}`);
      const end_ms = performance.now() + TIMEOUT_MS;
      while (await pathMtu(lab) !== OUTER_MTU - OVERHEAD) {
        assert.ok(performance.now() < end_ms, ping(lab, to, FULL, 2));
        ping(lab, to, FULL, 4);
      }
      assert.match(ping(lab, to, OUTER_MTU - OVERHEAD, 3), /3 received/);
    }));

  test("in the kernel: forged messages do not narrow a path below what IPv6 needs", () =>
    withLab(3, async (lab) => {
      const to = await start(lab, "kernel");
      assert.match(ping(lab, to, FULL, 2), /2 received/);
      for (const mtu of [600, 1280, 1349]) forge(lab, mtu);
      const flood = ping(lab, to, FULL, 20);
      assert.match(flood, /20 received/, flood);
      assert.match(lab.run(1, ["status"]).stdout, /^guard_path_mtu +6$/m);
    }));
});
