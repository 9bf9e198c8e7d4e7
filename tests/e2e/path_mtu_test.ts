/**
 * A path that carries less than the hosts' own links: host 1 reaches host 2 by way of host 3, whose
 * route on is narrower, and back directly.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { closeFd } from "../../ffi/fd.ts";
import { check, libc } from "../../ffi/libc.ts";
import { withNetns } from "../../ffi/netns.ts";
import { openRawSocket } from "../../ffi/raw_socket.ts";
import { sockaddrIn } from "../../ffi/socket_address.ts";
import { Container } from "../../src/demo/container.ts";
import { naiveChecksum, packet } from "../wasm/packets.ts";
import { EXECUTABLE, type Lab, withLab } from "./lab.ts";

const OUTER_MTU = 1300;
/** Less the outer IPv4 and UDP headers. */
const INNER_MTU = OUTER_MTU - 28;
const TIMEOUT_MS = 20_000;
const TRANSFER_BYTES = 4 * 2 ** 20;

function ip(lab: Lab, host: number, words: string): void {
  const { status, stderr } = lab.exec(lab.network(host).host, "ip", ...words.split(" "));
  assert.equal(status, 0, `ip ${words}: ${stderr}`);
}

async function startWithNarrowPath(
  lab: Lab,
  Backend: Record<string, string> = { Type: "udp" },
): Promise<void> {
  await lab.startRegistry({ Network: "10.210.0.0/16", Backend });
  await lab.startJoined(2);
  await lab.untilPeers(1, 1, 2);
  for (const host of [1, 2]) await lab.attach(host);
  const [, far, relay] = [1, 2, 3].map((host) => lab.network(host).outerAddress);
  // A redirect would have host 1 go around the relay.
  const quiet = "for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 > $f; done";
  assert.equal(lab.exec(lab.network(3).host, "sh", "-c", quiet).status, 0);
  ip(lab, 3, `route add ${far}/32 dev eth0 mtu lock ${OUTER_MTU}`);
  ip(lab, 1, `route add ${far}/32 via ${relay}`);
}

function ping(lab: Lab, ...args: string[]) {
  const to = String(lab.containers[1]);
  return lab.exec(lab.network(1).container, "ping", "-n", "-W", "1", ...args, to).stdout;
}

async function pathMtu(lab: Lab): Promise<number | null> {
  return (await lab.host(1).status())!.peers[0]!.pathMtu_bytes;
}

test("a narrow path is found, shown and told to who sends too much", () =>
  withLab(3, async (lab) => {
    await startWithNarrowPath(lab);
    assert.match(ping(lab, "-c", "2", "-i", "0.05", "-s", "1000", "-M", "do"), /2 received/);
    assert.equal(await pathMtu(lab), null);
    // The first are lost on the way; when probes have confirmed why, the next are refused here.
    const isRefused = new RegExp(`(Frag needed and DF set|mtu) ?\\(?.*${INNER_MTU}`);
    const end_ms = performance.now() + TIMEOUT_MS;
    let refused = "";
    while (!isRefused.test(refused)) {
      assert.ok(performance.now() < end_ms, refused);
      refused = ping(lab, "-c", "4", "-i", "0.05", "-s", "1400", "-M", "do");
    }
    assert.equal(await pathMtu(lab), INNER_MTU);
    const { stdout } = lab.run(1, ["status"]);
    assert.match(stdout, new RegExp(`PATH MTU$`, "m"));
    assert.match(stdout, new RegExp(` ${INNER_MTU}$`, "m"));
    const plane = (await lab.host(1).status())!.dataPlane!;
    assert.ok(plane.drops["egress_too_big"]! > 0);
    // What may be cut goes through all the same.
    const cut = ping(lab, "-c", "3", "-i", "0.05", "-s", "1400", "-M", "dont");
    assert.match(cut, /3 received/);
  }));

/** An ICMP message as a router on the way from host 1 to host 2 would send it. */
function fragmentationNeeded(lab: Lab, mtu: number, quoted: Uint8Array): Uint8Array {
  const message = new Uint8Array(8 + quoted.length);
  const view = new DataView(message.buffer);
  message.set([3, 4]);
  view.setUint16(6, mtu);
  message.set(quoted, 8);
  view.setUint16(2, naiveChecksum(message));
  const [from, to] = [3, 1].map((host) => String(lab.network(host).outerAddress));
  return packet({ from, to, protocol: 1, payload: message });
}

/** Host 3 forges messages that quote what host 1 may have sent to host 2; they are all lies. */
function forge(lab: Lab, port: number): void {
  const [from, to] = [1, 2].map((host) => String(lab.network(host).outerAddress));
  const udp = new Uint8Array(8);
  const view = new DataView(udp.buffer);
  view.setUint16(0, port);
  view.setUint16(2, port);
  view.setUint16(4, 1480);
  const echoReply = new Uint8Array(8);
  const fd = withNetns(lab.network(3).host, () => openRawSocket(4));
  const name = sockaddrIn(lab.network(1).outerAddress.toBytes(), 0);
  try {
    for (const mtu of [68, 552, 1000, 1300, 0]) {
      for (const [protocol, payload] of [[17, udp], [1, echoReply]] as const) {
        const bytes = fragmentationNeeded(lab, mtu, packet({ from, to, protocol, payload }));
        check(libc.sendto(fd, bytes, bytes.length, 0, name, name.length), "send");
      }
    }
  } finally {
    closeFd(fd);
  }
}

const BACKENDS = [
  ["udp", { Type: "udp" }, 8285],
  ["vxlan in user space", { Type: "vxlan", Datapath: "userspace" }, 8472],
  ["vxlan in the kernel", { Type: "vxlan", Datapath: "kernel" }, 8472],
] as const;

for (const [backend, Backend, port] of BACKENDS) {
  test(`${backend}: a stranger's ICMP message does not narrow a path`, () =>
    withLab(3, async (lab) => {
      await lab.startRegistry({ Network: "10.210.0.0/16", Backend });
      await lab.startJoined(2);
      await lab.untilPeers(1, 1, 2);
      for (const host of [1, 2]) await lab.attach(host);
      lab.assertPings([1, 2]);
      const mtu_bytes = (await lab.host(1).status())!.backend!.mtu_bytes;
      const full = ["-s", String(mtu_bytes - 28), "-M", "do"];
      assert.match(ping(lab, "-c", "2", "-i", "0.05", ...full), /2 received/);
      forge(lab, port);
      const { stdout } = lab.exec(
        lab.network(1).host,
        "ip",
        "route",
        "get",
        String(lab.network(2).outerAddress),
      );
      const isKernels = backend === "vxlan in the kernel";
      if (!isKernels) assert.match(stdout, /mtu (lock )?552/, "the kernel believes it");
      // Longer than the probes take, and than it takes to tell a sender.
      const flood = ping(lab, "-c", "60", "-i", "0.05", ...full);
      assert.match(flood, /60 received/, flood);
      const status = (await lab.host(1).status())!;
      assert.equal(status.peers[0]!.pathMtu_bytes, null);
      if (isKernels) assert.match(lab.run(1, ["status"]).stdout, /^guard_path_mtu +10$/m);
      else assert.equal(status.dataPlane!.drops["egress_too_big"], 0);
    }));
}

test("vxlan in the kernel: what a narrow path does not carry is cut on the way", () =>
  withLab(3, async (lab) => {
    await startWithNarrowPath(lab, { Type: "vxlan", Datapath: "kernel" });
    const full = (await lab.host(1).status())!.backend!.mtu_bytes - 28;
    const { stdout } = lab.exec(lab.network(1).host, "ip", "-d", "link", "show", "selvage.1");
    assert.match(stdout, /vxlan/);
    assert.match(ping(lab, "-c", "5", "-i", "0.05", "-s", String(full), "-M", "do"), /5 received/);
  }));

test("TCP finds its size on a narrow path, and all arrives", () =>
  withLab(3, async (lab) => {
    await startWithNarrowPath(lab);
    const containers = await Promise.all([1, 2].map((host) =>
      new Container(EXECUTABLE, lab.network(host), lab.containers[host - 1]!).ready()
    ));
    const [one, two] = containers as [Container, Container];
    try {
      for (const [from, to] of [[one, two], [two, one]] as const) {
        const { sentSha256, receivedSha256 } = await from.transfer(to, TRANSFER_BYTES);
        assert.equal(receivedSha256, sentSha256);
      }
    } finally {
      await Promise.all(containers.map((container) =>
        container.stop()
      ));
    }
    assert.equal(await pathMtu(lab), INNER_MTU);
    assert.equal((await lab.host(1).status())!.dataPlane!.drops["egress_send_failed"], 0);
  }));
