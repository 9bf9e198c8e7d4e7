/**
 * The data plane over real devices, in namespaces of its own:
 *
 *     10.5.1.5  TUN sv0  <-loops-> 192.0.2.1 v0 ------ v1 192.0.2.2 (a plain socket, or loops)
 *      host A                                                host B            10.5.2.5
 */
import { describe, test } from "node:test";
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { closeFd } from "../../ffi/fd.ts";
import { libc } from "../../ffi/libc.ts";
import { closeNetns, type Netns, withNetns } from "../../ffi/netns.ts";
import { createTestNetns } from "../netns.ts";
import { sockaddrIn } from "../../ffi/socket_address.ts";
import { openRawSocket } from "../../ffi/raw_socket.ts";
import { openTun } from "../../ffi/tun.ts";
import { openUdpSocket } from "../../ffi/udp_socket.ts";
import { Dataplane, type DataplaneOptions } from "../../src/dataplane/dataplane.ts";
import type { Overlay, Queue } from "../../src/dataplane/lanes.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { entry } from "../wasm/scripted_io.ts";
import { packet, patched } from "../wasm/packets.ts";

const WORKER_URL = new URL("../../src/dataplane/worker.ts", import.meta.url);
const PORT = 8285;
const TUN = "sv0";

class Host {
  readonly netns: Netns = createTestNetns();
  readonly #fds: number[] = [];

  constructor(readonly number: 1 | 2) {}

  ip(words: string): void {
    const result = withNetns(this.netns, () => spawnSync("ip", words.split(" ")));
    assert.equal(result.status, 0, `ip ${words}: ${result.stderr}`);
  }

  tun(): number {
    const fd = this.#own(withNetns(this.netns, () => openTun(TUN).fd));
    this.ip(`addr add 10.5.${this.number}.0/32 dev ${TUN}`);
    this.ip(`link set ${TUN} mtu 1472 up`);
    this.ip(`route add 10.5.0.0/16 dev ${TUN}`);
    this.ip(`addr add 10.5.${this.number}.5/32 dev lo`);
    return fd;
  }

  socket(address: string, port: number): number {
    const bytes = IpAddress.parse(address).toBytes();
    return this.#own(withNetns(this.netns, () => openUdpSocket(bytes, port)));
  }

  raw(): number {
    return this.#own(withNetns(this.netns, () => openRawSocket(4)));
  }

  #own(fd: number): number {
    this.#fds.push(fd);
    return fd;
  }

  close(): void {
    this.#fds.forEach(closeFd);
    closeNetns(this.netns);
  }
}

/** Two hosts on one wire, and whatever data planes `start` made; all gone afterwards. */
async function withHosts(
  body: (
    a: Host,
    b: Host,
    start: (
      host: Host,
      change?: Partial<Overlay & Queue & Omit<DataplaneOptions, "overlays">>,
    ) => Promise<Dataplane>,
  ) => Promise<void>,
): Promise<void> {
  const [a, b] = [new Host(1), new Host(2)];
  const planes: Dataplane[] = [];
  try {
    a.ip("link add v0 type veth peer name v1");
    a.ip(`link set v1 netns /proc/${process.pid}/fd/${b.netns.fd}`);
    a.ip("addr add 192.0.2.1/24 dev v0");
    b.ip("addr add 192.0.2.2/24 dev v1");
    b.ip("addr add 192.0.2.77/24 dev v1");
    for (const [host, link] of [[a, "v0"], [b, "v1"]] as const) {
      host.ip("link set lo up");
      host.ip(`link set ${link} up`);
    }
    await body(a, b, async (host, change = {}) => {
      const udp_fd = change.send_fd ?? host.socket(`192.0.2.${host.number}`, PORT);
      const tun_fd = change.tun_fd ?? host.tun();
      const overlay: Overlay = {
        family: 4,
        subnet: IpPrefix.parse(`10.5.${host.number}.0/24`),
        outerAddress: IpAddress.parse(`192.0.2.${host.number}`),
        trustsUnderlay: false,
        allowsOutsideSources: false,
        network: IpPrefix.parse("10.5.0.0/16"),
        mtu_bytes: 1472,
        encapsulation: { type: "none" },
        icmp_fd: host.raw(),
        cut_fd: -1,
        queues: [{ tun_fd, receive_fd: udp_fd, send_fd: udp_fd }],
        offloads: [],
        ...change,
      };
      const { workerUrl = WORKER_URL, signal, onLate, late_ms } = change;
      const options = { workerUrl, overlays: [overlay], signal, onLate };
      const plane = await Dataplane.start({ ...options, ...(late_ms && { late_ms }) });
      planes.push(plane);
      return plane;
    });
  } finally {
    await Promise.all(planes.map((plane) => plane.stop()));
    a.close();
    b.close();
  }
}

function send(fd: number, payload: Uint8Array, address: string, port: number): void {
  const name = sockaddrIn(IpAddress.parse(address).toBytes(), port);
  assert.equal(libc.sendto(fd, payload, payload.length, 0, name, name.length), payload.length);
}

/** Waits until `get` gives something; the kernel tells nobody here when it will. */
async function eventually<T>(what: string, get: () => T | null): Promise<T> {
  for (let left = 1000; left > 0; left--) {
    const value = get();
    if (value !== null) return value;
    await sleep(5);
  }
  throw new Error(`${what}: nothing for 5 s`);
}

function receive(fd: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(65536);
  return eventually("a datagram", () => {
    const size = libc.recv(fd, buffer, buffer.length, 0);
    return size < 0 ? null : buffer.slice(0, size);
  });
}

/** Our own packets to the TUN have checksums and numbers that the kernel chose. */
function addressesOf(bytes: Uint8Array): string {
  return [bytes.subarray(12, 16), bytes.subarray(16, 20)].map((part) => part.join(".")).join(" ");
}

describe("two hosts", () => {
  test("datagrams pass both ways and are counted", async () => {
    await withHosts(async (a, b, start) => {
      const planes = [await start(a), await start(b)] as const;
      assert.deepEqual(planes[0].apply([entry("10.5.2.0/24", "192.0.2.2")]), []);
      assert.deepEqual(planes[1].apply([entry("10.5.1.0/24", "192.0.2.1")]), []);
      const inA = a.socket("10.5.1.5", 4000);
      const inB = b.socket("10.5.2.5", 4000);
      const start_ms = Date.now();
      for (const size of [0, 1, 333, 1444]) {
        const there = new Uint8Array(size).fill(size);
        send(inA, there, "10.5.2.5", 4000);
        assert.deepEqual(await receive(inB), there);
        send(inB, there, "10.5.1.5", 4000);
        assert.deepEqual(await receive(inA), there);
      }
      const status = planes[0].status();
      assert.equal(status.sentPackets, 4);
      assert.equal(status.sentBytes, 4 * 28 + 1 + 333 + 1444);
      assert.equal(status.receivedBytes, status.sentBytes);
      assert.deepEqual([status.peerCount, status.peerCountMax], [1, 65536]);
      const peer = planes[0].peer("10.5.2.0/24")!;
      assert.deepEqual([peer.sentPackets, peer.receivedPackets], [4, 4]);
      assert.ok(peer.lastHeard_ms! >= start_ms && peer.lastHeard_ms! <= Date.now());
      assert.equal(planes[0].peer("10.5.3.0/24"), null);
    });
  });

  test("on the wire: one raw IP packet a datagram, as flannel's udp backend has it", async () => {
    await withHosts(async (a, b, start) => {
      const plane = await start(a);
      plane.apply([entry("10.5.2.0/24", "192.0.2.2")]);
      const flannel = b.socket("192.0.2.2", PORT);
      const inA = a.socket("10.5.1.5", 4000);
      send(inA, Uint8Array.of(1, 2, 3), "10.5.2.9", 5000);
      const onWire = await receive(flannel);
      assert.equal(addressesOf(onWire), "10.5.1.5 10.5.2.9");
      assert.equal(onWire[8], 63);
      assert.deepEqual([...onWire.subarray(28)], [1, 2, 3]);

      // UDP 5000 -> 4000, length 11, no checksum.
      const payload = Uint8Array.of(0x13, 0x88, 0x0f, 0xa0, 0, 11, 0, 0, 7, 8, 9);
      const inner = packet({ from: "10.5.2.9", to: "10.5.1.5", payload });
      send(flannel, inner, "192.0.2.1", PORT);
      assert.deepEqual([...await receive(inA)], [7, 8, 9]);
    });
  });

  test("what is wrong is dropped, counted by reason, and changes nothing", async () => {
    await withHosts(async (a, b, start) => {
      const plane = await start(a);
      plane.apply([entry("10.5.2.0/24", "192.0.2.2")]);
      const peer = b.socket("192.0.2.2", PORT);
      const stranger = b.socket("192.0.2.77", PORT);
      const good = packet({ from: "10.5.2.9", to: "10.5.1.5" });
      send(peer, good.slice(0, 19), "192.0.2.1", PORT);
      send(peer, patched(good, { 0: 0x65 }), "192.0.2.1", PORT);
      send(peer, good.slice(0, 30), "192.0.2.1", PORT);
      send(peer, new Uint8Array(), "192.0.2.1", PORT);
      send(stranger, good, "192.0.2.1", PORT);
      const { drops, datagrams, receivedPackets } = await eventually("five drops", () => {
        const status = plane.status();
        return status.datagrams === 5 ? status : null;
      });
      assert.deepEqual(
        Object.entries(drops).filter(([name, n]) => n > 0 && name.startsWith("in")),
        [
          ["ingress_source_not_peer", 1],
          ["ingress_truncated", 2],
          ["ingress_bad_version", 1],
          ["ingress_bad_total_length", 1],
        ],
      );
      assert.deepEqual([datagrams, receivedPackets], [5, 0]);
    });
  });
});

describe("life of the loops", () => {
  test("a TUN that is deleted ends the egress loop, unasked", async () => {
    await withHosts(async (a, _b, start) => {
      const plane = await start(a);
      a.ip(`link del ${TUN}`);
      const end = await plane.ended;
      assert.equal(end.role, "egress");
      assert.match(end.reason, /egress loop ended: EBADFD/);
    });
  });

  test("a descriptor that is none ends its loop", async () => {
    await withHosts(async (a, _b, start) => {
      const plane = await start(a, { send_fd: -1, tun_fd: a.tun() });
      assert.deepEqual(await plane.ended, {
        role: "ingress",
        errno: 9,
        reason: "the ingress loop ended: EBADF",
      });
    });
  });

  test("stop ends idle loops at once, more than once, and tells nobody of it", async () => {
    await withHosts(async (a, _b, start) => {
      const plane = await start(a);
      let hasEnded = false;
      plane.ended.then(() => hasEnded = true);
      const start_ms = performance.now();
      await Promise.all([plane.stop(), plane.stop()]);
      await plane.stop();
      assert.ok(performance.now() - start_ms < 2000);
      assert.ok(!hasEnded);
      assert.equal(plane.status().peerCount, 0);
    });
  });

  test("workers that start late are waited for, and what is awaited is said once", async () => {
    await withHosts(async (a, _, start) => {
      const told: string[] = [];
      const workerUrl = new URL("./late_worker.ts", import.meta.url);
      const onLate = (text: string) => void told.push(text);
      const plane = await start(a, { workerUrl, onLate, late_ms: 100 });
      assert.match(
        told.join("\n"),
        /^the workers .* not started after 0\.1 s; Selvage still waits for them/,
      );
      assert.equal(told.length, 1);
      assert.equal(plane.status().sentPackets, 0);
    });
  });

  test("the wait for workers that never start ends with the signal", async () => {
    await withHosts(async (a, _, start) => {
      const workerUrl = new URL("./silent_worker.ts", import.meta.url);
      const ending = new AbortController();
      const onLate = () => ending.abort();
      const started = start(a, { workerUrl, onLate, late_ms: 50, signal: ending.signal });
      await assert.rejects(started, /its worker had not started yet/);
    });
  });

  test("a worker that cannot be loaded fails the start", async () => {
    await withHosts(async (a, _b, start) => {
      const workerUrl = new URL("./no_such_worker.ts", import.meta.url);
      await assert.rejects(start(a, { workerUrl }), /loop ended: its worker failed/);
    });
  });
});
