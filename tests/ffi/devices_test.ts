/** TUN, UDP, netlink and eventfd against the real kernel, in a namespace of the test's own. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { errnoNumber, SystemError } from "../../ffi/errno.ts";
import { createEventFd, signalEventFd } from "../../ffi/event_fd.ts";
import { closeFd } from "../../ffi/fd.ts";
import { lastErrno, libc } from "../../ffi/libc.ts";
import { NetlinkNetfilterSocket, NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import { closeNetns, withNetns } from "../../ffi/netns.ts";
import { createTestNetns } from "../netns.ts";
import { memoryAddress, packetIo } from "../../ffi/packet_io.ts";
import { openTun } from "../../ffi/tun.ts";
import { enableUdpOffloads, openUdpSocket } from "../../ffi/udp_socket.ts";

const LOOPBACK = new Uint8Array([127, 0, 0, 1]);

function inNetns(run: () => void): void {
  const netns = createTestNetns();
  try {
    withNetns(netns, run);
  } finally {
    closeNetns(netns);
  }
}

const failsWith = (code: string) => (error: unknown): boolean =>
  error instanceof SystemError && error.code === code;

describe("TUN", () => {
  test("lives as long as its descriptor, and its name is its own", () =>
    inNetns(() => {
      const devices = () => readFileSync("/proc/thread-self/net/dev", "utf8");
      const { fd } = openTun("selvage0");
      assert.match(devices(), /selvage0:/);
      assert.throws(() => openTun("selvage0"), failsWith("EBUSY"));
      closeFd(fd);
      assert.doesNotMatch(devices(), /selvage0:/);
    }));

  /** What a write shorter than a virtio header comes to; the device is down. */
  const errorOfShortWrite = (fd: number): number => {
    assert.equal(libc.write(fd, new Uint8Array(9).fill(0x45), 9), -1);
    return lastErrno();
  };

  test("offloads are those that were wanted and the kernel has, and bring a header", () =>
    inNetns(() => {
      const plain = openTun("tun0");
      const all = openTun("tun1", ["tso", "uso"]);
      const some = openTun("tun2", ["csum"]);
      assert.deepEqual(plain.offloads, []);
      assert.deepEqual(all.offloads.slice(0, 2), ["csum", "tso"]);
      assert.deepEqual(some.offloads, ["csum"]);
      assert.equal(errorOfShortWrite(plain.fd), errnoNumber("EIO"));
      assert.equal(errorOfShortWrite(all.fd), errnoNumber("EINVAL"));
      assert.equal(errorOfShortWrite(some.fd), errnoNumber("EINVAL"));
      [plain, all, some].forEach(({ fd }) => closeFd(fd));
    }));

  test("a name that is taken is refused with offloads too", () =>
    inNetns(() => {
      const { fd } = openTun("selvage0", ["csum"]);
      assert.throws(() => openTun("selvage0", ["csum"]), failsWith("EBUSY"));
      closeFd(fd);
    }));

  test("a name too long is refused before the kernel cuts it", () => {
    assert.throws(() => openTun("sixteen-bytes-xx"), /at most 15 bytes/);
  });
});

describe("UDP socket", () => {
  test("a taken port is an error that names it", () => {
    inNetns(() => {
      const any = new Uint8Array(4);
      const fd = openUdpSocket(any, 8285);
      assert.throws(
        () => openUdpSocket(any, 8285),
        (error) => failsWith("EADDRINUSE")(error) && /0\.0\.0\.0:8285/.test(String(error)),
      );
      closeFd(fd);
      closeFd(openUdpSocket(any, 8285));
    });
  });

  test("offloads are those that were wanted and the kernel has", () => {
    const fd = openUdpSocket(LOOPBACK, 0);
    assert.deepEqual(enableUdpOffloads(fd, []), []);
    assert.deepEqual(enableUdpOffloads(fd, ["udp-gro"]), ["udp-gro"]);
    assert.deepEqual(enableUdpOffloads(fd, ["udp-segment", "udp-gro"]), ["udp-segment", "udp-gro"]);
    closeFd(fd);
    assert.deepEqual(enableUdpOffloads(fd, ["udp-segment", "udp-gro"]), []);
  });
});

test("a netlink request is answered", () =>
  inNetns(() => {
    const socket = new NetlinkRouteSocket();
    try {
      // RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, sequence 7, an empty ifinfomsg.
      const request = new Uint8Array(32);
      const view = new DataView(request.buffer);
      view.setUint32(0, 32, true);
      view.setUint16(4, 18, true);
      view.setUint16(6, 0x301, true);
      view.setUint32(8, 7, true);
      socket.send(request);
      const answer = socket.receive();
      const reply = new DataView(answer.buffer, answer.byteOffset);
      assert.equal(reply.getUint16(4, true), 16, "RTM_NEWLINK");
      assert.equal(reply.getUint32(8, true), 7, "our sequence number");
    } finally {
      socket.close();
    }
  }));

test("a netlink request to netfilter is answered", () =>
  inNetns(() => {
    const socket = new NetlinkNetfilterSocket();
    try {
      // NFT_MSG_GETGEN, NLM_F_REQUEST, sequence 7, an empty nfgenmsg.
      const request = new Uint8Array(20);
      const view = new DataView(request.buffer);
      view.setUint32(0, 20, true);
      view.setUint16(4, 0xa10, true);
      view.setUint16(6, 1, true);
      view.setUint32(8, 7, true);
      socket.send(request);
      const answer = socket.receive();
      const reply = new DataView(answer.buffer, answer.byteOffset);
      assert.equal(reply.getUint16(4, true), 0xa0f, "NFT_MSG_NEWGEN");
      assert.equal(reply.getUint32(8, true), 7, "our sequence number");
    } finally {
      socket.close();
    }
  }));

describe("packet loop system calls", () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const io = packetIo(memory);
  const bytes = new Uint8Array(memory.buffer);

  test("the memory has a native address, always the same", () => {
    assert.ok(memoryAddress(memory) > 0);
    assert.equal(memoryAddress(memory), memoryAddress(memory));
  });

  test("results and errors come as numbers", () => {
    const fd = createEventFd();
    assert.equal(io.read(fd, 64, 8), -errnoNumber("EAGAIN"));
    signalEventFd(fd);
    signalEventFd(fd);
    // struct pollfd: fd, POLLIN
    new DataView(memory.buffer).setInt32(128, fd, true);
    new DataView(memory.buffer).setUint16(132, 1, true);
    assert.equal(io.poll(128, 1, 0), 1);
    assert.equal(io.read(fd, 64, 8), 8);
    assert.equal(bytes[64], 2);
    assert.equal(io.poll(128, 1, 0), 0);
    closeFd(fd);
    assert.equal(io.read(fd, 64, 8), -errnoNumber("EBADF"));
    assert.equal(io.write(fd, 64, 8), -errnoNumber("EBADF"));
  });

  test("mmsg calls report an empty socket and a closed one", () => {
    const receiver = openUdpSocket(LOOPBACK, 0);
    assert.equal(io.recvmmsg(receiver, 1024, 1, 0x40), -errnoNumber("EAGAIN"));
    closeFd(receiver);
    assert.equal(io.sendmmsg(receiver, 1024, 1, 0), -errnoNumber("EBADF"));
  });
});
