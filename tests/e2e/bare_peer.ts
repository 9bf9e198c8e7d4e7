/**
 * A peer of nothing but a UDP socket: what goes in and out of it is exactly what is on the wire,
 * so it stands for any other implementation of the udp backend.
 */
import assert from "node:assert/strict";
import { closeFd } from "../../ffi/fd.ts";
import { check, libc } from "../../ffi/libc.ts";
import { memoryAddress, packetIo } from "../../ffi/packet_io.ts";
import { openUdpSocket } from "../../ffi/udp_socket.ts";
import { int32Option } from "../../ffi/socket_address.ts";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import type { IpAddress } from "../../src/net/ip.ts";
import type { Lab } from "./lab.ts";
import { takeLeases } from "./simulated_peers.ts";

/** Where all hosts of the udp backend listen. */
export const UDP_PORT = 8285;

const MSG_WAITFORONE = 0x10000;
const POLLIN = 1;
const IPPROTO_IP = 0;
const IP_TTL = 2;
// Places in the memory: struct mmsghdr, iovec, sockaddr_in, pollfd, the datagram.
const HEADER = 0;
const VECTOR = 128;
const NAME = 192;
const POLL = 256;
const DATA = 1024;
const DATA_BYTES_MAX = 60_000;

export class BarePeer {
  readonly #memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  readonly #io = packetIo(this.#memory);
  readonly #fd: number;

  /** Binds `address`:`port` in the namespace. */
  constructor(netns: Netns, address: IpAddress, port: number) {
    this.#fd = withNetns(netns, () => openUdpSocket(address.toBytes(), port));
  }

  /** Sets the TTL of the datagrams that are sent from now on. */
  setTtl(ttl: number): void {
    const value = int32Option(ttl);
    check(libc.setsockopt(this.#fd, IPPROTO_IP, IP_TTL, value, value.length), "set the TTL");
  }

  #prepare(size_bytes: number): DataView {
    const view = new DataView(this.#memory.buffer);
    const base = BigInt(memoryAddress(this.#memory));
    new Uint8Array(this.#memory.buffer, 0, DATA).fill(0);
    view.setBigUint64(HEADER, base + BigInt(NAME), true);
    view.setUint32(HEADER + 8, 16, true);
    view.setBigUint64(HEADER + 16, base + BigInt(VECTOR), true);
    view.setBigUint64(HEADER + 24, 1n, true);
    view.setBigUint64(VECTOR, base + BigInt(DATA), true);
    view.setBigUint64(VECTOR + 8, BigInt(size_bytes), true);
    return view;
  }

  send(to: IpAddress, port: number, datagram: Uint8Array): void {
    const view = this.#prepare(datagram.length);
    view.setUint16(NAME, 2, true);
    view.setUint16(NAME + 2, port, false);
    new Uint8Array(this.#memory.buffer).set(to.toBytes(), NAME + 4);
    new Uint8Array(this.#memory.buffer).set(datagram, DATA);
    const sent = this.#io.sendmmsg(this.#fd, HEADER, 1, 0);
    if (sent !== 1) throw new Error(`sendmmsg: ${sent}`);
  }

  /** The next datagram, or null if none comes in time. It blocks. */
  receive(timeout_ms: number): Uint8Array | null {
    const view = this.#prepare(DATA_BYTES_MAX);
    view.setInt32(POLL, this.#fd, true);
    view.setUint16(POLL + 4, POLLIN, true);
    if (this.#io.poll(POLL, 1, timeout_ms) < 1) return null;
    if (this.#io.recvmmsg(this.#fd, HEADER, 1, MSG_WAITFORONE) !== 1) return null;
    const size_bytes = view.getUint32(HEADER + 56, true);
    return new Uint8Array(this.#memory.buffer).slice(DATA, DATA + size_bytes);
  }

  close(): void {
    closeFd(this.#fd);
  }
}

/** Starts host 1, and makes host 2 a bare peer with a reserved subnet. */
export async function startWithBarePeer(
  lab: Lab,
): Promise<{ peer: BarePeer; container: IpAddress }> {
  // The bare peer's subnet is outside of those that are given out.
  await lab.startRegistry({ Network: "10.210.0.0/16", SubnetMin: "10.210.100.0" });
  const address = lab.network(2).outerAddress;
  const reserved = lab.run(1, ["leases", "reserve", "10.210.77.0/24", `--public-ip=${address}`]);
  assert.equal(reserved.status, 0, reserved.stderr);
  // Other hosts do not send to a reservation until its host has written the lease.
  const [subnet] = await takeLeases(lab, [JSON.stringify({ PublicIP: `${address}` })]);
  assert.equal(`${subnet}`, "10.210.77.0/24");
  await lab.untilPeers(1, 1);
  const container = await lab.attach(1);
  return { peer: new BarePeer(lab.network(2).host, address, UDP_PORT), container };
}
