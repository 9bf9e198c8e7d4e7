/** Several queue pairs: everything arrives, each flow in its order, over all of them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { closeFd } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import { withNetns } from "../../ffi/netns.ts";
import { sockaddrIn } from "../../ffi/socket_address.ts";
import { openUdpSocket } from "../../ffi/udp_socket.ts";
import { Container } from "../../src/demo/container.ts";
import { EXECUTABLE, type Lab, withLab } from "./lab.ts";

const QUEUES = 3;
const FLOW_COUNT = 24;
const ROUND_COUNT = 400;
const PORT = 5000;
const TRANSFER_BYTES = 8 * 2 ** 20;

async function startTwo(lab: Lab, ...workers: [string, string]): Promise<void> {
  lab.env["SELVAGE_WORKERS"] = workers[0];
  await lab.startRegistry();
  lab.env["SELVAGE_WORKERS"] = workers[1];
  await lab.startJoined(2);
  await lab.untilPeers(1, 1, 2);
  for (const host of [1, 2]) await lab.attach(host);
}

/** So many fit into the receiver's buffer. */
const IN_FLIGHT_MAX = 8 * FLOW_COUNT;
/** What has not come when so long nothing came is lost. */
const QUIET_MS = 250;

/** Sends numbered datagrams of many flows; returns each flow's numbers as they came. */
async function sendFlows(lab: Lab): Promise<number[][]> {
  const [from, to] = [1, 2].map((host) => lab.containers[host - 1]!.toBytes());
  const open = (host: number, address: Uint8Array, port: number) =>
    withNetns(lab.network(host).container, () => openUdpSocket(address, port));
  const receiver = open(2, to!, PORT);
  const senders = Array.from({ length: FLOW_COUNT }, () => open(1, from!, 0));
  const name = sockaddrIn(to!, PORT);
  const came: number[][] = senders.map(() => []);
  const bytes = new Uint8Array(64);
  const view = new DataView(bytes.buffer);
  let openCount = 0;
  /** Takes what came, until at most so many are under way. */
  const drainTo = async (openMax: number) => {
    let end_ms = performance.now() + QUIET_MS;
    while (true) {
      while (libc.recv(receiver, bytes, bytes.length, 0) > 0) {
        came[view.getUint32(0)]!.push(view.getUint32(4));
        openCount--;
        end_ms = performance.now() + QUIET_MS;
      }
      if (openCount <= openMax) return;
      if (performance.now() > end_ms) openCount = 0;
      await setImmediate();
    }
  };
  for (let round = 0; round < ROUND_COUNT; round++) {
    senders.forEach((fd, flow) => {
      view.setUint32(0, flow);
      view.setUint32(4, round);
      libc.sendto(fd, bytes, bytes.length, 0, name, name.length);
      openCount++;
    });
    await drainTo(IN_FLIGHT_MAX);
  }
  await drainTo(0);
  [receiver, ...senders].forEach(closeFd);
  return came;
}

for (const workers of [[`${QUEUES}`, `${QUEUES}`], ["1", `${QUEUES}`]] as [string, string][]) {
  test(`--workers=${workers[0]} to --workers=${workers[1]}: flows keep their order`, () =>
    withLab(2, async (lab) => {
      await startTwo(lab, ...workers);
      const came = await sendFlows(lab);
      for (const [flow, numbers] of came.entries()) {
        const isInOrder = numbers.every((n, i) => i === 0 || n > numbers[i - 1]!);
        assert.ok(isInOrder, `flow ${flow}: ${numbers.join(" ")}`);
        assert.ok(numbers.length > ROUND_COUNT / 2, `flow ${flow}: ${numbers.length} came`);
      }
      const plane = (await lab.host(1).status())!.dataPlane!;
      assert.equal(plane.queueCount, Number(workers[0]));
      assert.equal(plane.drops["egress_send_failed"], 0);
    }));
}

test("TCP transfers over several queues, hashed at both ends", () =>
  withLab(2, async (lab) => {
    await startTwo(lab, `${QUEUES}`, `${QUEUES}`);
    const containers = await Promise.all([1, 2].map((host) =>
      new Container(EXECUTABLE, lab.network(host), lab.containers[host - 1]!).ready()
    ));
    const [one, two] = containers as [Container, Container];
    try {
      for (const [from, to] of [[one, two], [two, one], [one, two]] as const) {
        const { sentSha256, receivedSha256 } = await from.transfer(to, TRANSFER_BYTES);
        assert.equal(receivedSha256, sentSha256);
      }
    } finally {
      await Promise.all(containers.map((container) =>
        container.stop()
      ));
    }
    assert.match(lab.run(1, ["status"]).stdout, /^Workers\s+3 pairs a tunnel$/m);
  }));

test("packets that the kernel drops because no loop reads its queue are counted", () =>
  withLab(2, async (lab) => {
    await startTwo(lab, "1", "1");
    lab.assertPings([1, 2]);
    const { stdout } = lab.exec(lab.network(1).host, "ip", "-o", "link", "show", "selvage0");
    assert.match(stdout, /qlen 2000\b/);
    const drops = async () => (await lab.host(1).status())!.dataPlane!.drops;
    assert.equal((await drops())["egress_tun_queue_full"], 0);
    const sender = withNetns(
      lab.network(1).container,
      () => openUdpSocket(lab.containers[0]!.toBytes(), 0),
    );
    const name = sockaddrIn(lab.containers[1]!.toBytes(), PORT);
    const bytes = new Uint8Array(64);
    // A stopped process stands for loops that get no processor time.
    lab.signal(1, "SIGSTOP");
    try {
      for (let i = 0; i < 2_600; i++) {
        libc.sendto(sender, bytes, bytes.length, 0, name, name.length);
      }
    } finally {
      lab.signal(1, "SIGCONT");
      closeFd(sender);
    }
    const dropped = (await drops())["egress_tun_queue_full"]!;
    assert.ok(dropped > 0 && dropped <= 700, `${dropped} packets`);
    assert.match(lab.run(1, ["status"]).stdout, /^egress_tun_queue_full +[1-9]/m);
    lab.assertPings([1, 2]);
  }));
