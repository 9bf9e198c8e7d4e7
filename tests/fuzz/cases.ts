/** Input of the packet loops, right and broken: packets of all kinds, and what a mutation left. */
import { type Offload, OFFLOADS } from "../../src/dataplane/offloads.ts";
import { Random } from "../dataplane/random.ts";
import type { Datagram } from "../wasm/scripted_io.ts";
import {
  bytesOf,
  csumPacket,
  type Flow,
  flow,
  gsoPacket,
  naiveSegments,
  VIRTIO_BYTES,
  wirePacket,
  withVirtio,
} from "../wasm/flows.ts";
import { packet } from "../wasm/packets.ts";
import { encapsulated, type FuzzNetwork } from "./network.ts";

/** The offloads that a loop is tried with. */
export const OFFLOAD_SETS: readonly (readonly Offload[])[] = [
  [],
  OFFLOADS,
  ["csum"],
  ["udp-segment", "udp-gro"],
  ["csum", "tso", "uso"],
];

const DESTINATIONS6 = [
  "fd00:0:0:2::1",
  "fd00:0:0:3::20",
  "fd00:0:0:9::9",
  "ff02::1",
  "2001:db8:9::1",
];
const INNER_SOURCES6 = ["fd00:0:0:2::3", "fd00:0:0:2::3", "fd00:0:0:3::20", "2001:db8:9::1"];
const OUTER_SOURCES6 = ["2001:db8::2", "2001:db8::2", "2001:db8::3", "2001:db8::99"];
const DESTINATIONS = ["10.0.2.1", "10.0.3.20", "10.9.1.1", "10.0.9.9", "224.0.0.1"];
const INNER_SOURCES = ["10.0.2.3", "10.0.2.3", "10.0.3.20", "10.9.1.1", "10.0.9.9", "192.0.2.2"];
/** An inner source that the peer at an outer address may use. */
const OWN_SOURCES: Readonly<Record<string, string>> = {
  "192.0.2.2": "10.0.2.3",
  "192.0.2.3": "10.0.3.20",
  "192.0.2.9": "10.9.1.1",
  "2001:db8::2": "fd00:0:0:2::3",
  "2001:db8::3": "fd00:0:0:3::20",
};
/** Where packets to peers come from, and where those from peers go to: most are right. */
const OUR_SOURCES = ["10.0.1.2", "10.0.1.2", "10.0.1.9", "10.0.1.0", "192.0.2.1", "10.0.2.3"];
const OUR_SOURCES6 = ["fd00:0:0:1::2", "fd00:0:0:1::2", "2001:db8::1", "fd00:0:0:2::3"];
const OUR_HOSTS = [
  ...new Array<string>(12).fill("10.0.1.2"),
  "10.0.1.0",
  "10.0.1.255",
  "127.0.0.1",
];
const OUR_HOSTS6 = [...new Array<string>(12).fill("fd00:0:0:1::2"), "::1", "fd00:0:0:2::1"];
const OUTER_SOURCES = ["192.0.2.2", "192.0.2.2", "192.0.2.3", "192.0.2.9", "192.0.2.99"];
const EDGES = [0, 1, 2, 5, 7, 8, 19, 20, 21, 40, 60, 64, 1400, 0x7fff, 0x8000, 0xfffe, 0xffff];
const MSG_TRUNC = 0x20;
const MESSAGE_SIZE_MAX = 65_507;
const PACKET_SIZE_MAX = 65_535;
/** Headers of every kind end before this. */
const HEADERS_SIZE = 130;
const POOL_SIZE = 192;

/** One message as it came in, whole, before it was damaged. */
interface Message {
  readonly from: string;
  readonly packets: readonly Uint8Array[];
}

/** A flow of any kind. */
function anyFlow(random: Random, parts: Partial<Flow>): Flow {
  const size = random.pick([0, 1, 100, 100, 536, 1400, 1400, 5_000, 20_000, 60_000]);
  return flow({
    protocol: random.pick([6, 17]),
    tos: random.below(256),
    ttl: random.pick([0, 1, 2, 64, 64, 255]),
    id: random.below(65_536),
    fragment: random.pick([0x4000, 0x4000, 0, 0x2000, 7]),
    ipOptions: new Uint8Array(random.pick([0, 0, 0, 4, 40])).fill(1),
    flags: random.pick([16, 16, 24, 17, 2, 4, 32, 80, 144, random.below(256)]),
    sequence: random.pick([1, 0xffff_fff0]),
    tcpOptions: new Uint8Array(random.pick([0, 12, 12, 40])).fill(1),
    payload: bytesOf(size + random.below(100), 1 + random.below(1000)),
    ...parts,
  });
}

/** Right packets, made once: to make one costs much more than to damage a copy. */
export class Cases {
  readonly #plain: Uint8Array[] = [];
  readonly #virtio: Uint8Array[] = [];
  readonly #messages: Message[] = [];

  constructor(seed: number, private readonly network: FuzzNetwork) {
    const random = new Random(seed);
    for (let i = 0; i < POOL_SIZE; i++) this.#make(random);
  }

  #make(random: Random): void {
    const isV6Network = this.network.family === 6;
    const to = random.pick(DESTINATIONS);
    const to6 = random.pick(DESTINATIONS6);
    const step = random.pick([1, 8, 100, 536, 1400, 1400, 9000]);
    // Now and then one of the other family, which is not the network's.
    const isV6 = (random.below(10) === 0) !== isV6Network;
    const inner = isV6
      ? { family: 6 as const, from: random.pick(OUR_SOURCES6), to: to6 }
      : { from: random.pick(OUR_SOURCES), to };
    const one = anyFlow(random, inner);
    const few = { ...one, payload: one.payload.subarray(0, 1000 * step) };
    const protocol = random.pick([1, 6, 17, 132]);
    const payload = new Uint8Array(random.below(100));
    const other = packet({ to, protocol, ttl: random.pick([0, 1, 64]), payload });
    this.#plain.push(wirePacket(one), other);
    this.#virtio.push(gsoPacket(few, step), csumPacket(one), withVirtio(other));
    this.#makeMessage(random, one, other);
  }

  #makeMessage(random: Random, one: Flow, other: Uint8Array): void {
    const isV6 = this.network.family === 6;
    const from = random.pick(isV6 ? OUTER_SOURCES6 : OUTER_SOURCES);
    const own = OWN_SOURCES[from];
    const isOwn = own !== undefined && random.below(4) > 0;
    const inside = isOwn ? own : random.pick(isV6 ? INNER_SOURCES6 : INNER_SOURCES);
    const source = isV6
      ? { family: 6 as const, from: inside, to: random.pick(OUR_HOSTS6) }
      : { family: 4 as const, from: inside, to: random.pick(OUR_HOSTS) };
    const size = random.pick([64, 536, 1400]);
    const isUnfinished = !this.network.isExact && random.below(3) === 0;
    const packets = isUnfinished
      ? [unfinished({ ...one, ...source })]
      : naiveSegments({ ...one, ...source }, size).slice(0, 40);
    const all = packets.length === 0 ? [other] : packets;
    this.#messages.push({ from, packets: all.map((bytes) => encapsulated(this.network, bytes)) });
  }

  /** What a read of the TUN gives: a packet, or -errno. */
  read(random: Random, isVirtio: boolean): Uint8Array {
    const start = isVirtio ? VIRTIO_BYTES : 0;
    const pool = isVirtio ? this.#virtio : this.#plain;
    return damaged(random, random.pick(pool), start).subarray(0, start + PACKET_SIZE_MAX);
  }

  /** What a message of the socket brings: with UDP_GRO maybe many datagrams. */
  message(random: Random, isGro: boolean): Datagram {
    const { from, packets } = random.pick(this.#messages);
    const flags = random.below(30) === 0 ? MSG_TRUNC : 0;
    const one = damaged(random, random.pick(packets), 0).subarray(0, MESSAGE_SIZE_MAX);
    if (!isGro || random.below(3) === 0) return { from, payload: one, flags };
    const size = packets[0]!.length;
    const all = packets.map((bytes) => random.below(10) === 0 ? damaged(random, bytes, 0) : bytes);
    const payload = Buffer.concat(all).subarray(0, MESSAGE_SIZE_MAX);
    const wrong = random.pick([
      -1,
      0,
      1,
      20,
      size + 1,
      payload.length + 1,
      0x7fff_ffff,
      -0x8000_0000,
    ]);
    // Datagrams of a byte each would be many thousands of them: now and then is enough.
    const isWrong = random.below(8) === 0 && (payload.length < 4000 || wrong !== 1);
    return { from, payload, flags, segment: isWrong ? wrong : size };
  }
}

/** A packet whose checksum its kernel left to hardware: the field holds the pseudo-header's sum. */
function unfinished(flow: Flow): Uint8Array {
  const bytes = wirePacket(flow);
  const isV6 = flow.family === 6;
  const start = isV6 ? 40 : (bytes[0]! & 0xf) * 4;
  const view = new DataView(bytes.buffer);
  let sum = flow.protocol + bytes.length - start;
  for (let at = isV6 ? 8 : 12; at < (isV6 ? 40 : 20); at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(start + (flow.protocol === 6 ? 16 : 6), sum);
  return bytes;
}

/** A copy of the packet, half of the time with changes: its headers begin at `start`. */
function damaged(random: Random, bytes: Uint8Array, start: number): Uint8Array {
  if (random.below(2) === 0 || bytes.length === 0) return bytes;
  const copy = Uint8Array.from(bytes);
  for (let i = 1 + random.below(3); i > 0; i--) {
    const at = random.below(Math.min(copy.length, HEADERS_SIZE));
    const kind = random.below(4);
    if (kind === 0) copy[at] = random.below(256);
    else if (kind === 1) copy[at] = copy[at]! ^ (1 << random.below(8));
    else setEdge(random, copy, kind === 2 && start > 0 ? random.below(start) & ~1 : at & ~1, start);
  }
  return random.below(4) > 0 ? copy : resized(random, copy);
}

/** A 16-bit number at the edge of something; before `start` it is little-endian. */
function setEdge(random: Random, bytes: Uint8Array, at: number, start: number): void {
  if (at + 2 > bytes.length) return;
  // The packet's size, and what makes a checksum's field end there or a byte behind it.
  const less = random.pick([-1, 0, 1, 1, 6, 7, 8, 16, 17, 18]);
  const size = bytes.length - start - less;
  const value = random.pick([random.pick(EDGES), size]) & 0xffff;
  new DataView(bytes.buffer, bytes.byteOffset).setUint16(at, value, at < start);
}

/** Cut off, near its headers or anywhere, or with more behind it. */
function resized(random: Random, bytes: Uint8Array): Uint8Array {
  const near = Math.min(bytes.length, HEADERS_SIZE);
  const end = random.pick([near, bytes.length, 2 * bytes.length]);
  const other = new Uint8Array(random.below(end));
  other.set(bytes.subarray(0, other.length));
  return other;
}
