/**
 * The naive twin of the packet loops: what must come of one packet, whatever it is. Nothing of the
 * code under test is used; checksums are the slow ones of RFC 1071.
 */
import { IpAddress } from "../../src/net/ip.ts";
import { naiveChecksum } from "../wasm/packets.ts";
import { type Datagram, PEERS } from "../wasm/scripted_io.ts";
import { type FuzzNetwork, received } from "./network.ts";

const GSO_ECN = 0x80;
const TCP = 6, UDP = 17;
const FIN = 1, PSH = 8, URG = 32, CWR = 128;
const NEEDS_CSUM = 1;
const MSG_TRUNC = 0x20;
/** Of the benches: 10.0.1.0/24 without its last address, and 192.0.2.1. */
const OUR_SUBNET = 0x0a000100, OUR_BROADCAST = 0x0a0001ff, OUR_OUTER_ADDRESS = 0xc0000201;

/** One packet that is to leave. */
export interface Expected {
  /** Where to, as the socket's twin says it; "" for the TUN. */
  readonly to: string;
  /** Its IP header's checksum is right if that of what came in was: see `isSame`. */
  readonly packet: Uint8Array;
}

/** What must come of one input. */
export interface Outcome {
  /** How many packets it counts as. */
  readonly count: number;
  readonly packets: readonly Expected[];
}

interface Target {
  readonly address: string;
  readonly port: number;
}

const PREFIXES = PEERS.map(({ subnet, address, port }) => ({
  first: subnet.address.toUint32(),
  size: 2 ** (32 - subnet.length),
  target: { address: address.toString(), port } satisfies Target,
}));

/** The peer whose subnet holds an address; the subnets of `PEERS` do not overlap. */
function peerOf(address: number): Target | null {
  const found = PREFIXES.find(({ first, size }) => address >= first && address < first + size);
  return found?.target ?? null;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function headerSize(packet: Uint8Array): number {
  return (packet[0]! & 0xf) * 4;
}

/** Whether the bytes are one whole IPv6 packet. */
export function isWhole6(packet: Uint8Array): boolean {
  return packet.length >= 40 && packet[0]! >> 4 === 6 &&
    viewOf(packet).getUint16(4) + 40 === packet.length;
}

/** Whether the bytes are one whole IPv4 packet. */
export function isWhole(packet: Uint8Array): boolean {
  if (packet.length < 20 || packet[0]! >> 4 !== 4) return false;
  const size = headerSize(packet);
  return size >= 20 && size <= packet.length && viewOf(packet).getUint16(2) === packet.length;
}

function isHeaderRight(packet: Uint8Array): boolean {
  return naiveChecksum(packet.subarray(0, headerSize(packet))) === 0;
}

/**
 * Whether a packet is what was expected. A router adjusts the header's checksum: one that was right
 * stays right, and one that was wrong stays wrong. The number of one that cannot be cut means
 * nothing (RFC 6864), so it may be another where `isRenumbered`: packets written as one are
 * numbered anew.
 */
export function isSame(packet: Uint8Array, expected: Uint8Array, isRenumbered: boolean): boolean {
  if (Buffer.compare(packet, expected) === 0) return true;
  if (!isWhole(packet) || isHeaderRight(packet) !== isHeaderRight(expected)) return false;
  const masked = Uint8Array.from(packet);
  masked.set(expected.subarray(10, 12), 10);
  const isAtomic = (viewOf(expected).getUint16(6) & ~0x8000) === 0x4000;
  if (isRenumbered && isAtomic) masked.set(expected.subarray(4, 6), 4);
  return Buffer.compare(masked, expected) === 0;
}

/** A copy with one less TTL, its checksum adjusted (RFC 1624, equation 3); null: it has expired. */
function forwarded(packet: Uint8Array): Uint8Array | null {
  if (packet[8]! < 2) return null;
  const copy = Uint8Array.from(packet);
  const view = viewOf(copy);
  const before = view.getUint16(8);
  copy[8] = copy[8]! - 1;
  let sum = (~view.getUint16(10) & 0xffff) + (~before & 0xffff) + view.getUint16(8);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(10, ~sum);
  return copy;
}

/** Where the payload starts, if a packet may be cut as its virtio header says; else 0. */
function payloadStart(packet: Uint8Array, type: number, step: number): number {
  const view = viewOf(packet);
  const start = headerSize(packet);
  const kind = packet[9]!;
  if (step === 0 || (view.getUint16(6) & ~0x4000) !== 0) return 0;
  if (!(type === 5 && kind === UDP || type === 1 && kind === TCP)) return 0;
  if (packet.length < start + (kind === TCP ? 20 : 8)) return 0;
  if (kind === UDP) {
    const isFit = view.getUint16(start + 4) === packet.length - start;
    return isFit && packet.length > start + 8 ? start + 8 : 0;
  }
  const size = (packet[start + 12]! >> 4) * 4;
  if (size < 20 || start + size >= packet.length) return 0;
  return (packet[start + 13]! & URG) === 0 ? start + size : 0;
}

/** Segment i of `count`: the packet's headers with what changes, and its part of the payload. */
function cut(packet: Uint8Array, payload: number, step: number, i: number, count: number) {
  const first = payload + i * step;
  const part = packet.subarray(first, Math.min(first + step, packet.length));
  const one = new Uint8Array(payload + part.length);
  one.set(packet.subarray(0, payload));
  one.set(part, payload);
  const view = viewOf(one);
  const start = headerSize(packet);
  view.setUint16(2, one.length);
  view.setUint16(4, view.getUint16(4) + i);
  view.setUint16(10, 0);
  view.setUint16(10, naiveChecksum(one.subarray(0, start)));
  const isTcp = one[9] === TCP;
  if (isTcp) {
    view.setUint32(start + 4, view.getUint32(start + 4) + i * step);
    if (i > 0) one[start + 13]! &= ~CWR;
    if (i + 1 < count) one[start + 13]! &= ~(FIN | PSH);
  } else {
    view.setUint16(start + 4, one.length - start);
  }
  const field = start + (isTcp ? 16 : 6);
  view.setUint16(field, 0);
  const length = one.length - start;
  const pseudo = Uint8Array.of(...one.subarray(12, 20), 0, one[9]!, length >> 8, length);
  const sum = naiveChecksum(Buffer.concat([pseudo, one.subarray(start)]));
  view.setUint16(field, sum === 0 && !isTcp ? 0xffff : sum);
  return one;
}

/** The packet with the checksum that its virtio header asks for; null if that cannot be. */
function completed(packet: Uint8Array, start: number, offset: number): Uint8Array | null {
  if (start < 20 || start + offset + 2 > packet.length) return null;
  const copy = Uint8Array.from(packet);
  const sum = naiveChecksum(copy.subarray(start));
  viewOf(copy).setUint16(start + offset, sum === 0 ? 0xffff : sum);
  return copy;
}

const DROPPED: Outcome = { count: 1, packets: [] };

function sendTo(packet: Uint8Array): { to: string; packet: Uint8Array } | null {
  const peer = peerOf(viewOf(packet).getUint32(16));
  const next = peer === null ? null : forwarded(packet);
  return next === null ? null : { to: `2:${peer!.address}:${peer!.port}`, packet: next };
}

/** What must come of one read of the TUN. */
export function egressOutcome(read: Uint8Array, virtioSize_bytes: number): Outcome {
  let packet: Uint8Array | null = read.subarray(virtioSize_bytes);
  if (read.length < virtioSize_bytes || !isWhole(packet)) return DROPPED;
  if (!isOurs(packet, 12) && viewOf(packet).getUint32(12) !== OUR_OUTER_ADDRESS) return DROPPED;
  const header = viewOf(read);
  const type = virtioSize_bytes > 0 ? read[1]! : 0;
  if (type !== 0) {
    const step = header.getUint16(4, true);
    const start = payloadStart(packet, type & ~GSO_ECN, step);
    if (start === 0) return DROPPED;
    const count = Math.ceil((packet.length - start) / step);
    const next = sendTo(packet);
    if (next === null) return { count, packets: [] };
    const packets = Array.from(
      { length: count },
      (_, i) => ({ to: next.to, packet: cut(next.packet, start, step, i, count) }),
    );
    return { count, packets };
  }
  if (virtioSize_bytes > 0 && (read[0]! & NEEDS_CSUM) !== 0) {
    packet = completed(packet, header.getUint16(6, true), header.getUint16(8, true));
  }
  const next = packet === null ? null : sendTo(packet);
  return next === null ? DROPPED : { count: 1, packets: [next] };
}

/** Whether the address at an offset of a packet is one host's in our own subnet. */
function isOurs(packet: Uint8Array, offset: number): boolean {
  const address = viewOf(packet).getUint32(offset);
  return (address & ~0xff) === OUR_SUBNET && address !== OUR_BROADCAST;
}

/** Whether a peer at an outer address may send as an inner address. */
function maySendAs(inner: number, from: string): boolean {
  return peerOf(inner)?.address === from || inner === IpAddress.parse(from).toUint32();
}

/** What must come of one message of the socket. */
export function ingressOutcome(
  network: FuzzNetwork,
  { from, payload, flags, segment }: Datagram,
): Outcome {
  const size = segment !== undefined && segment > 0 ? segment : payload.length;
  const count = Math.max(1, Math.ceil(payload.length / Math.max(1, size)));
  const isPeer = PEERS.some(({ address }) => address.equals(IpAddress.parse(from)));
  if (!isPeer || ((flags ?? 0) & MSG_TRUNC) !== 0) return { count, packets: [] };
  const packets: Expected[] = [];
  for (let i = 0; i < count; i++) {
    const inner = received(network, payload.subarray(i * size, (i + 1) * size));
    if (inner === null || !isWhole(inner) || !isOurs(inner, 16)) continue;
    if (!maySendAs(viewOf(inner).getUint32(12), from)) continue;
    // A frame crosses a link, which is no hop.
    const packet = network.headerSize > 0 ? inner : forwarded(inner);
    if (packet !== null) packets.push({ to: "", packet });
  }
  return { count, packets };
}
