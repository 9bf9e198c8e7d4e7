/** The in-memory twin of the kernel under the packet loops: every result comes from a script. */
import type { PacketIo } from "../../ffi/packet_io.ts";
import { ForwardingTable } from "../../src/dataplane/forwarding_table.ts";
import { instantiateLoops, type Loops } from "../../src/dataplane/loops.ts";
import { type Overlay, writeLanes } from "../../src/dataplane/lanes.ts";
import type { Offload } from "../../src/dataplane/offloads.ts";
import { createMemory, type SharedMemory } from "../../src/dataplane/memory.ts";
import { IpAddress, IpPrefix } from "../../src/net/ip.ts";
import type { ForwardingEntry } from "../../src/backend/backend.ts";

export const TUN_FD = 11;
export const UDP_FD = 12;
export const WAKE_FD = 13;
export const ICMP_FD = 14;
export const CUT_FD = 15;
/** A native address as the kernel gives them: the loops must add it to every pointer. */
export const BASE = 0x7f12_3456_0000;
export const NOW_MS = 1_700_000_000_123;

export const POLLIN = 1;
export const POLLOUT = 4;
export const POLLERR = 8;
export const POLLNVAL = 32;

export interface Datagram {
  readonly from: string;
  readonly payload: Uint8Array;
  /** msg_flags; 0x20 is MSG_TRUNC. */
  readonly flags?: number;
  /** What UDP_GRO says: the payload is datagrams of so many bytes. */
  readonly segment?: number;
}

/** One message of a sendmmsg: where to, as family:address:port, and what. */
export interface Sent {
  readonly to: string;
  readonly payload: Uint8Array;
  /** What UDP_SEGMENT says; 0 without it. */
  readonly segment: number;
}

/** One datagram on the wire. */
export interface Outgoing {
  readonly to: string;
  readonly payload: Uint8Array;
}

/** The datagrams that the kernel makes of a message. Throws where the kernel says EINVAL. */
export function datagramsOf({ to, payload, segment }: Sent): Outgoing[] {
  if (segment === 0) return [{ to, payload }];
  if (payload.length > 65507) throw new Error(`${payload.length} bytes in one message`);
  const count = Math.ceil(payload.length / segment);
  if (count < 2 || count > 64) throw new Error(`${count} segments in one message`);
  return Array.from(
    { length: count },
    (_, i) => ({ to, payload: payload.slice(i * segment, (i + 1) * segment) }),
  );
}

export interface PollCall {
  readonly fds: readonly { readonly fd: number; readonly events: number }[];
  readonly timeout_ms: number;
}

/** A poll's answer: -errno, 0 for time up, or revents of [fd, wake]. */
export type PollAnswer = number | readonly [number, number];

export class ScriptedIo implements PacketIo {
  /** What the TUN's reads give, one after the other, then -EAGAIN for ever. */
  reads: (Uint8Array | number)[] = [];
  /** Each entry is one recvmmsg: its datagrams, or -errno. Then -EAGAIN. */
  receives: (readonly Datagram[] | number)[] = [];
  /** Results of writes; then the size, as if written. */
  writeResults: number[] = [];
  /** Results of sendmmsg, the count at most; then the count. */
  sendResults: number[] = [];
  /** Why a message is refused: -errno; 0: it is not. */
  refuses: (message: Sent) => number = () => 0;
  /** Answers of poll; then the wake descriptor is readable, which ends the loop. */
  polls: PollAnswer[] = [];

  /** What each write or writev gave the TUN. */
  readonly written: Uint8Array[] = [];
  /** Results of sending an ICMP error; then 1, as if sent. */
  icmpResults: number[] = [];
  /** ICMP errors that went out. */
  readonly icmpErrors: Sent[] = [];
  /** The datagrams that may be cut on their way. */
  readonly cut: Outgoing[] = [];
  /** The messages that each sendmmsg was given, whatever its result. */
  readonly sendCalls: Sent[][] = [];
  /** The datagrams of those that it took. */
  readonly sent: Outgoing[] = [];
  readonly pollCalls: PollCall[] = [];
  /** Whose path was asked about, and what each answer is: bytes of the outer packet, or -errno. */
  readonly pathMtuCalls: string[] = [];
  pathMtu_bytes = 1500;
  now = NOW_MS;
  receiveCallCount = 0;
  onPoll: () => void = () => {};

  constructor(private readonly shared: SharedMemory) {}

  #view(offset: number, size_bytes: number): DataView {
    return new DataView(this.shared.bytes.buffer, offset, size_bytes);
  }

  #pointer(offset: number): number {
    const pointer = Number(this.#view(offset, 8).getBigUint64(0, true));
    if (pointer < BASE) throw new Error(`pointer ${pointer} is not in the memory`);
    return pointer - BASE;
  }

  read(fd: number, offset: number, size_bytes: number): number {
    if (fd !== TUN_FD) return -9;
    const next = this.reads.shift() ?? -11;
    if (typeof next === "number") return next;
    this.shared.bytes.set(next.subarray(0, size_bytes), offset);
    return Math.min(next.length, size_bytes);
  }

  write(fd: number, offset: number, size_bytes: number): number {
    if (fd !== TUN_FD) return -9;
    const result = this.writeResults.shift() ?? size_bytes;
    if (result >= 0) this.written.push(this.shared.bytes.slice(offset, offset + size_bytes));
    return result;
  }

  writev(fd: number, iovecs_offset: number, count: number): number {
    if (fd !== TUN_FD) return -9;
    const bytes = this.#gathered(iovecs_offset, count);
    const result = this.writeResults.shift() ?? bytes.length;
    if (result >= 0) this.written.push(bytes);
    return result;
  }

  #gathered(iovecs_offset: number, count: number): Uint8Array<ArrayBuffer> {
    if (count > 1024) throw new Error(`${count} iovecs: more than UIO_MAXIOV`);
    return Buffer.concat(
      Array.from({ length: count }, (_, i) => {
        const iovec = iovecs_offset + i * 16;
        const data = this.#pointer(iovec);
        return this.shared.bytes.slice(data, data + Number(this.#u64(iovec + 8)));
      }),
    );
  }

  #u64(offset: number): bigint {
    return this.#view(offset, 8).getBigUint64(0, true);
  }

  recvmmsg(fd: number, vector_offset: number, count: number, flags: number): number {
    if (fd !== UDP_FD || flags !== 0x40) return -9;
    this.receiveCallCount++;
    const next = this.receives.shift() ?? -11;
    if (typeof next === "number") return next;
    if (next.length > count) throw new Error(`${next.length} datagrams for ${count} messages`);
    next.forEach((datagram, i) => this.#receive(vector_offset + i * 64, datagram));
    return next.length;
  }

  #receive(message_offset: number, datagram: Datagram): void {
    const message = this.#view(message_offset, 64);
    const from = IpAddress.parse(datagram.from);
    const nameSize = from.family === 4 ? 16 : 28;
    if (message.getUint32(8, true) < nameSize) throw new Error("no room for the name");
    const name = this.#view(this.#pointer(message_offset), nameSize);
    name.setUint16(0, from.family === 4 ? 2 : 10, true);
    name.setUint16(2, 8285);
    this.shared.bytes.set(from.toBytes(), name.byteOffset + (from.family === 4 ? 4 : 8));
    const iovec = this.#pointer(message_offset + 16);
    const size_bytes = Math.min(datagram.payload.length, Number(this.#u64(iovec + 8)));
    this.shared.bytes.set(datagram.payload.subarray(0, size_bytes), this.#pointer(iovec));
    message.setUint32(8, nameSize, true);
    message.setInt32(48, datagram.flags ?? 0, true);
    message.setUint32(56, size_bytes, true);
    if (message.getBigUint64(40, true) < 24n) throw new Error("no room for a control message");
    message.setBigUint64(40, datagram.segment === undefined ? 0n : 24n, true);
    if (datagram.segment === undefined) return;
    // struct cmsghdr: SOL_UDP, UDP_GRO, an int.
    const control = this.#view(this.#pointer(message_offset + 32), 24);
    control.setBigUint64(0, 20n, true);
    control.setInt32(8, 17, true);
    control.setInt32(12, 104, true);
    control.setInt32(16, datagram.segment, true);
  }

  sendmmsg(fd: number, vector_offset: number, count: number, flags: number): number {
    if (fd === ICMP_FD && count === 1 && flags === 0x40) return this.#sendIcmp(vector_offset);
    if (fd === CUT_FD && count === 1 && flags === 0x40) {
      this.cut.push(...datagramsOf(this.#sent(vector_offset)));
      return 1;
    }
    if (fd !== UDP_FD || flags !== 0x40) return -9;
    const messages = Array.from({ length: count }, (_, i) => this.#sent(vector_offset + i * 64));
    this.sendCalls.push(messages);
    const result = Math.min(this.sendResults.shift() ?? this.#taken(messages), count);
    if (result > 0) this.sent.push(...messages.slice(0, result).flatMap(datagramsOf));
    return result;
  }

  /** How many of the messages pass before one is refused; its -errno if that is the first. */
  #taken(messages: readonly Sent[]): number {
    const errors = messages.map(this.refuses);
    const index = errors.findIndex((error) => error !== 0);
    return index === 0 ? errors[0]! : index < 0 ? messages.length : index;
  }

  #sendIcmp(message_offset: number): number {
    const result = this.icmpResults.shift() ?? 1;
    if (result === 1) this.icmpErrors.push(this.#sent(message_offset));
    return result;
  }

  #sent(message_offset: number): Sent {
    const nameSize = this.#view(message_offset, 16).getUint32(8, true);
    const to = this.#endpoint(this.#pointer(message_offset), nameSize);
    const iovecs = this.#pointer(message_offset + 16);
    const payload = this.#gathered(iovecs, Number(this.#u64(message_offset + 24)));
    return { to, payload, segment: this.#segment(message_offset) };
  }

  /** A name as family:address:port. */
  #endpoint(offset: number, size_bytes: number): string {
    const name = this.#view(offset, size_bytes);
    const family = name.getUint16(0, true);
    const [start, end] = family === 2 && size_bytes === 16 ? [4, 8] : [8, 24];
    if (family !== 2 && (family !== 10 || size_bytes !== 28)) throw new Error(`family ${family}`);
    const address = IpAddress.fromBytes(this.shared.bytes.slice(offset + start, offset + end));
    return `${family}:${address}:${name.getUint16(2)}`;
  }

  #segment(message_offset: number): number {
    const size_bytes = this.#u64(message_offset + 40);
    if (size_bytes === 0n) return 0;
    const control = this.#view(this.#pointer(message_offset + 32), Number(size_bytes));
    const [level, type] = [control.getInt32(8, true), control.getInt32(12, true)];
    const isSegment = control.getBigUint64(0, true) === 18n && level === 17 && type === 103;
    if (!isSegment) throw new Error(`control message ${level}/${type}`);
    return control.getUint16(16, true);
  }

  poll(fds_offset: number, count: number, timeout_ms: number): number {
    const fds = this.#view(fds_offset, count * 8);
    const calls = Array.from({ length: count }, (_, i) => ({
      fd: fds.getInt32(i * 8, true),
      events: fds.getInt16(i * 8 + 4, true),
    }));
    this.pollCalls.push({ fds: calls, timeout_ms });
    this.onPoll();
    const answer = this.polls.shift() ?? [0, POLLIN];
    if (typeof answer === "number") return answer;
    answer.forEach((revents, i) => fds.setInt16(i * 8 + 6, revents, true));
    return answer.filter((revents) => revents !== 0).length;
  }

  path_mtu(name_offset: number, size_bytes: number): number {
    this.pathMtuCalls.push(this.#endpoint(name_offset, size_bytes));
    return this.pathMtu_bytes;
  }

  now_ms(): number {
    return this.now;
  }
}

export interface Bench {
  readonly shared: SharedMemory;
  readonly io: ScriptedIo;
  readonly loops: Loops;
  readonly table: ForwardingTable;
  /** Each runs one loop to its end; our subnet is 10.0.1.0/24, the network 10.0.0.0/8. */
  egress(): number;
  ingress(): number;
}

/** Three peers of different kinds: a /24, a /16 and a /28. */
export const PEERS: readonly ForwardingEntry[] = [
  entry("10.0.2.0/24", "192.0.2.2", 8285),
  entry("10.0.3.16/28", "192.0.2.3", 8300),
  entry("10.9.0.0/16", "192.0.2.9", 65535),
];

export function entry(subnet: string, address: string, port = 8285): ForwardingEntry {
  return {
    key: subnet,
    subnet: IpPrefix.parse(subnet),
    address: IpAddress.parse(address),
    port,
    vtepMac: null,
  };
}

/** Loops over a fresh memory with `PEERS`, or others, in its table. */
export async function bench(
  offloads: readonly Offload[] = [],
  change: Partial<Overlay> = {},
  peers: readonly ForwardingEntry[] = PEERS,
): Promise<Bench> {
  const shared = createMemory();
  const io = new ScriptedIo(shared);
  const loops = await instantiateLoops(shared.memory, bound(io));
  const overlay: Overlay = {
    family: 4,
    subnet: IpPrefix.parse("10.0.1.0/24"),
    outerAddress: IpAddress.parse("192.0.2.1"),
    network: IpPrefix.parse("10.0.0.0/8"),
    trustsUnderlay: false,
    allowsOutsideSources: false,
    mtu_bytes: 1472,
    encapsulation: { type: "none" },
    icmp_fd: ICMP_FD,
    cut_fd: CUT_FD,
    queues: [{ tun_fd: TUN_FD, receive_fd: UDP_FD, send_fd: UDP_FD }],
    offloads,
    ...change,
  };
  const table = new ForwardingTable(shared, overlay.family);
  table.apply(peers);
  writeLanes(shared, [overlay], WAKE_FD);
  return {
    shared,
    io,
    loops,
    table,
    egress: () => loops.runEgress(BASE, 0),
    ingress: () => loops.runIngress(BASE, 0),
  };
}

/** Methods as functions: the loops' imports lose their `this`. */
export function bound(io: PacketIo): PacketIo {
  return {
    read: (...args) => io.read(...args),
    write: (...args) => io.write(...args),
    writev: (...args) => io.writev(...args),
    recvmmsg: (...args) => io.recvmmsg(...args),
    sendmmsg: (...args) => io.sendmmsg(...args),
    poll: (...args) => io.poll(...args),
    path_mtu: (...args) => io.path_mtu(...args),
    now_ms: () => io.now_ms(),
  };
}
