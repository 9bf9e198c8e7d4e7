/** Devices of many queues, and sockets of both families, against the real kernel. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { errnoNumber, SystemError } from "../../ffi/errno.ts";
import { closeFd } from "../../ffi/fd.ts";
import { lastErrno, libc } from "../../ffi/libc.ts";
import { NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import { closeNetns, withNetns } from "../../ffi/netns.ts";
import { createTestNetns } from "../netns.ts";
import { openRawSocket } from "../../ffi/raw_socket.ts";
import { sockaddrIn, sockaddrIn6 } from "../../ffi/socket_address.ts";
import { addTunQueue, openTun, type TunOffload } from "../../ffi/tun.ts";
import { openUdpSocket } from "../../ffi/udp_socket.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import { NetlinkConnection } from "../../src/netlink/connection.ts";
import * as rtnetlink from "../../src/netlink/rtnetlink.ts";

/** `struct virtio_net_hdr` */
const VNET_HEADER_BYTES = 10;
const LOOPBACK = { 4: IpAddress.parse("127.0.0.1"), 6: IpAddress.parse("::1") };

/** Runs in a namespace of its own, with loopback up. */
function inNetns(run: (connection: NetlinkConnection) => void): void {
  const netns = createTestNetns();
  try {
    withNetns(netns, () => {
      const socket = new NetlinkRouteSocket();
      try {
        const connection = new NetlinkConnection(socket);
        rtnetlink.setLink(connection, rtnetlink.getLink(connection, "lo")!, { isUp: true });
        run(connection);
      } finally {
        socket.close();
      }
    });
  } finally {
    closeNetns(netns);
  }
}

const failsWith = (code: string) => (error: unknown): boolean =>
  error instanceof SystemError && error.code === code;

/** Sends so many bytes; returns them, or -errno. */
function send(fd: number, address: IpAddress, port: number, bytes: Uint8Array): number {
  const to = address.toBytes();
  const name = address.family === 4 ? sockaddrIn(to, port) : sockaddrIn6(to, port);
  const sent = libc.sendto(fd, bytes, bytes.length, 0, name, name.length);
  return sent < 0 ? -lastErrno() : sent;
}

/**
 * A socket on a port that was just let go of: a child that another test starts at this moment has
 * its descriptor, too, until it becomes another program.
 */
function openWhenFree(address: Uint8Array, port: number): number {
  for (let attempt = 1;; attempt++) {
    try {
      return openUdpSocket(address, port);
    } catch (error) {
      if (!failsWith("EADDRINUSE")(error) || attempt === 100) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

/** Reads all that is there; returns how many reads brought what `isCounted` counts. */
function drain(fd: number, isCounted = (_bytes: Uint8Array) => true): number {
  const buffer = new Uint8Array(65_536);
  let count = 0;
  while (libc.read(fd, buffer, buffer.length) >= 0) count += isCounted(buffer) ? 1 : 0;
  assert.equal(lastErrno(), errnoNumber("EAGAIN"));
  return count;
}

describe("TUN of many queues", () => {
  for (const wanted of [[], ["csum", "tso", "uso"]] as TunOffload[][]) {
    test(`flows are spread, each on one queue; offloads: ${wanted.join() || "none"}`, () =>
      inNetns((connection) => {
        const { fd, offloads } = openTun("selvage0", wanted, true);
        const queues = [fd, ...[1, 2, 3].map(() => addTunQueue("selvage0", offloads))];
        const link = rtnetlink.getLink(connection, "selvage0")!;
        assert.equal(link.tun?.isMultiQueue, true);
        assert.equal(link.tun?.hasVnetHeader, wanted.length > 0);
        rtnetlink.setLink(connection, link, { isUp: true });
        const local = { linkIndex: link.index, linkName: link.name };
        const address = IpAddress.parse("10.210.1.1");
        rtnetlink.addAddress(connection, { ...local, address, prefixLength: 24 });
        // The kernel's own IPv6 announcements leave through the device at times of its choosing.
        const isIpv4 = (bytes: Uint8Array) =>
          bytes[wanted.length > 0 ? VNET_HEADER_BYTES : 0]! >> 4 === 4;
        const used = new Set<number>();
        for (let flow = 0; flow < 64; flow++) {
          const socket = openUdpSocket(address.toBytes(), 0);
          const to = IpAddress.parse(`10.210.1.${2 + flow}`);
          for (let i = 0; i < 4; i++) assert.equal(send(socket, to, 9, new Uint8Array(8)), 8);
          closeFd(socket);
          const counts = queues.map((queue) => drain(queue, isIpv4));
          assert.deepEqual(counts.filter((count) => count > 0), [4], `flow ${flow}`);
          used.add(counts.indexOf(4));
        }
        assert.equal(used.size, queues.length, "some queue got nothing");
        queues.forEach(closeFd);
      }));
  }

  test("a device of one queue takes no other, and no device of many is taken over", () =>
    inNetns(() => {
      const { fd } = openTun("one");
      assert.throws(() => addTunQueue("one", []), failsWith("EINVAL"));
      closeFd(fd);
      const many = openTun("many", [], true);
      assert.throws(() => openTun("many", [], true), failsWith("EBUSY"));
      closeFd(many.fd);
    }));
});

describe("UDP sockets of both families", () => {
  for (const family of [4, 6] as const) {
    const bytes = LOOPBACK[family].toBytes();

    test(`IPv${family}: a shared port is no other's, and keeps each flow on one socket`, () =>
      inNetns(() => {
        const sockets = [1, 2, 3, 4].map(() => openUdpSocket(bytes, 8472, { isPortShared: true }));
        const where = family === 4 ? /127\.0\.0\.1:8472/ : /\[0:0:0:0:0:0:0:1\]:8472/;
        assert.throws(
          () => openUdpSocket(bytes, 8472),
          (error) => failsWith("EADDRINUSE")(error) && where.test(String(error)),
        );
        const used = new Set<number>();
        for (let flow = 0; flow < 64; flow++) {
          const sender = openUdpSocket(bytes, 0);
          for (let i = 0; i < 4; i++) {
            assert.equal(send(sender, LOOPBACK[family], 8472, new Uint8Array(8)), 8);
          }
          closeFd(sender);
          const counts = sockets.map((socket) => drain(socket));
          assert.deepEqual(counts.filter((count) => count > 0), [4]);
          used.add(counts.indexOf(4));
        }
        assert.equal(used.size, sockets.length, "some socket got nothing");
        sockets.forEach(closeFd);
        closeFd(openWhenFree(bytes, 8472));
      }));

    test(`IPv${family}: what must stay whole is refused when the path is too small`, () =>
      inNetns((connection) => {
        const lo = rtnetlink.getLink(connection, "lo")!;
        rtnetlink.setLink(connection, lo, { mtu_bytes: 1400 });
        const whole = openUdpSocket(bytes, 0, { isWhole: true });
        const cut = openUdpSocket(bytes, 0);
        const headers_bytes = (family === 4 ? 20 : 40) + 8;
        const fits = new Uint8Array(1400 - headers_bytes);
        const large = new Uint8Array(fits.length + 1);
        assert.equal(send(whole, LOOPBACK[family], 9, fits), fits.length);
        assert.equal(send(whole, LOOPBACK[family], 9, large), -errnoNumber("EMSGSIZE"));
        assert.equal(send(cut, LOOPBACK[family], 9, large), large.length);
        closeFd(whole);
        closeFd(cut);
      }));
  }

  test("an IPv6 socket leaves the port to IPv4", () =>
    inNetns(() => {
      const v6 = openUdpSocket(new Uint8Array(16), 8472);
      const v4 = openUdpSocket(new Uint8Array(4), 8472);
      closeFd(v6);
      closeFd(v4);
    }));
});

describe("raw sockets", () => {
  test("an IPv6 packet leaves with the header it was given", () =>
    inNetns((connection) => {
      const { fd } = openTun("selvage0");
      const link = rtnetlink.getLink(connection, "selvage0")!;
      rtnetlink.setLink(connection, link, { isUp: true });
      const [from, to] = ["2001:db8::77", "2001:db8::2"].map((text) => IpAddress.parse(text));
      rtnetlink.addRoute(connection, {
        destination: IpPrefix.parse("2001:db8::/32"),
        linkIndex: link.index,
        linkName: link.name,
        gateway: null,
        protocol: 4,
      });
      drain(fd);
      const packet = new Uint8Array(48);
      // Version, class and flow; 8 bytes of payload; next header 59 (none), hop limit 7.
      packet.set([0x6a, 0xbc, 0xde, 0xf0, 0, 8, 59, 7]);
      // The source is nobody's here, as an ICMP error's is to the kernel that routes it.
      packet.set(from!.toBytes(), 8);
      packet.set(to!.toBytes(), 24);
      packet.set([1, 2, 3, 4, 5, 6, 7, 8], 40);
      const raw = openRawSocket(6);
      assert.equal(send(raw, to!, 0, packet), packet.length);
      const got = new Uint8Array(2_000);
      let size = 0;
      // The kernel's own announcements come along.
      do size = libc.read(fd, got, got.length); while (size >= 0 && got[6] !== 59);
      assert.deepEqual([...got.subarray(0, size)], [...packet]);
      closeFd(raw);
      closeFd(fd);
    }));

  test("the family is IPv4 unless said", () => {
    const fd = openRawSocket();
    const header = new Uint8Array(20);
    header.set([0x45, 0, 0, 20, 0, 0, 0, 0, 1, 255, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1]);
    assert.equal(send(fd, LOOPBACK[4], 0, header), header.length);
    closeFd(fd);
  });
});
