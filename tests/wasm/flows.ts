/**
 * TCP and UDP packets of both families for tests, and the naive twin of what cuts them: everything
 * is made without the code under test.
 */
import { IpAddress } from "../../src/net/ip.ts";
import { naiveChecksum } from "./packets.ts";

export const TCP = 6;
export const UDP = 17;
export const FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32, ECE = 64, CWR = 128;
export const GSO_TCPV4 = 1, GSO_TCPV6 = 4, GSO_UDP_L4 = 5, GSO_ECN = 0x80;
export const VIRTIO_BYTES = 10;
const DONT_FRAGMENT = 0x4000;

export interface Flow {
  readonly family: 4 | 6;
  readonly protocol: number;
  readonly from: string;
  readonly to: string;
  /** TOS, or the traffic class. */
  readonly tos: number;
  readonly ttl: number;
  /** IPv4: flags and fragment offset field, identification, options. */
  readonly fragment: number;
  readonly id: number;
  readonly ipOptions: Uint8Array;
  /** Both ports as one number. */
  readonly ports: number;
  readonly sequence: number;
  readonly acknowledgment: number;
  readonly flags: number;
  readonly window: number;
  readonly urgent: number;
  readonly tcpOptions: Uint8Array;
  readonly payload: Uint8Array;
}

/** From a peer's container to ours by default; `egressFlow` has it the other way. */
export function flow(parts: Partial<Flow> = {}): Flow {
  const isV6 = parts.family === 6;
  return {
    family: 4,
    protocol: TCP,
    from: isV6 ? "fd00::2:3" : "10.0.2.3",
    to: isV6 ? "fd00::1:2" : "10.0.1.2",
    tos: 0,
    ttl: 64,
    fragment: DONT_FRAGMENT,
    id: 0x1234,
    ipOptions: new Uint8Array(),
    ports: 0x1f901f91,
    sequence: 0x01020304,
    acknowledgment: 0x0a0b0c0d,
    flags: ACK,
    window: 501,
    urgent: 0,
    tcpOptions: new Uint8Array(),
    payload: bytesOf(1000),
    ...parts,
  };
}

export function egressFlow(parts: Partial<Flow> = {}): Flow {
  return flow({ from: "10.0.1.2", to: "10.0.2.3", ...parts });
}

/** Bytes of which no two neighbouring stretches are alike. */
export function bytesOf(size_bytes: number, seed = 1): Uint8Array<ArrayBuffer> {
  let state = seed;
  return Uint8Array.from({ length: size_bytes }, () => {
    state = Math.imul(state, 1103515245) + 12345 | 0;
    return state >>> 23;
  });
}

function tcpHeader(flow: Flow): Uint8Array {
  const bytes = new Uint8Array(20 + flow.tcpOptions.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, flow.ports);
  view.setUint32(4, flow.sequence);
  view.setUint32(8, flow.acknowledgment);
  view.setUint8(12, bytes.length / 4 << 4);
  view.setUint8(13, flow.flags);
  view.setUint16(14, flow.window);
  view.setUint16(18, flow.urgent);
  bytes.set(flow.tcpOptions, 20);
  return bytes;
}

function udpHeader(flow: Flow): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, flow.ports);
  view.setUint16(4, 8 + flow.payload.length);
  return bytes;
}

function ipHeader(flow: Flow, size_bytes: number): Uint8Array {
  const isV6 = flow.family === 6;
  const bytes = new Uint8Array(isV6 ? 40 : 20 + flow.ipOptions.length);
  const view = new DataView(bytes.buffer);
  const addresses = [flow.from, flow.to].map((text) => IpAddress.parse(text).toBytes());
  if (isV6) {
    view.setUint32(0, 0x60000000 | flow.tos << 20 | 0x12345);
    view.setUint16(4, size_bytes);
    bytes.set([flow.protocol, flow.ttl], 6);
    bytes.set(addresses[0]!, 8);
    bytes.set(addresses[1]!, 24);
    return bytes;
  }
  bytes.set([0x40 + bytes.length / 4, flow.tos]);
  view.setUint16(2, bytes.length + size_bytes);
  view.setUint16(4, flow.id & 0xffff);
  view.setUint16(6, flow.fragment);
  bytes.set([flow.ttl, flow.protocol], 8);
  bytes.set(addresses[0]!, 12);
  bytes.set(addresses[1]!, 16);
  bytes.set(flow.ipOptions, 20);
  view.setUint16(10, naiveChecksum(bytes));
  return bytes;
}

function pseudoHeader(flow: Flow, size_bytes: number): Uint8Array {
  const addresses = [flow.from, flow.to].map((text) => IpAddress.parse(text).toBytes());
  return Buffer.concat([
    ...addresses,
    Uint8Array.of(0, flow.protocol, size_bytes >> 8, size_bytes),
  ]);
}

/** The packet as it is on the wire: every checksum complete. */
export function wirePacket(flow: Flow): Uint8Array<ArrayBuffer> {
  const isTcp = flow.protocol === TCP;
  const transport = Buffer.concat([isTcp ? tcpHeader(flow) : udpHeader(flow), flow.payload]);
  const sum = naiveChecksum(Buffer.concat([pseudoHeader(flow, transport.length), transport]));
  transport.writeUInt16BE(sum === 0 && !isTcp ? 0xffff : sum, isTcp ? 16 : 6);
  return Uint8Array.from(Buffer.concat([ipHeader(flow, transport.length), transport]));
}

export function headersSize(flow: Flow): number {
  const ip = flow.family === 6 ? 40 : 20 + flow.ipOptions.length;
  return ip + (flow.protocol === TCP ? 20 + flow.tcpOptions.length : 8);
}

/** What a sender without offloads would have sent. */
export function naiveSegments(flow: Flow, step: number): Uint8Array<ArrayBuffer>[] {
  const count = Math.ceil(flow.payload.length / step);
  return Array.from({ length: count }, (_, i) => {
    let flags = flow.flags;
    if (i > 0) flags &= ~CWR;
    if (i + 1 < count) flags &= ~(FIN | PSH);
    return wirePacket({
      ...flow,
      flags,
      id: flow.id + i,
      sequence: (flow.sequence + i * step) >>> 0,
      payload: flow.payload.slice(i * step, (i + 1) * step),
    });
  });
}

export function gsoType(flow: Flow): number {
  if (flow.protocol === UDP) return GSO_UDP_L4;
  const type = flow.family === 6 ? GSO_TCPV6 : GSO_TCPV4;
  return (flow.flags & CWR) === 0 ? type : type | GSO_ECN;
}

export interface Virtio {
  readonly flags?: number;
  readonly type?: number;
  readonly headersSize?: number;
  readonly step?: number;
  readonly start?: number;
  readonly offset?: number;
}

/** The packet behind a virtio header. */
export function withVirtio(packet: Uint8Array, virtio: Virtio = {}): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(VIRTIO_BYTES + packet.length);
  const view = new DataView(bytes.buffer);
  bytes.set([virtio.flags ?? 0, virtio.type ?? 0]);
  view.setUint16(2, virtio.headersSize ?? 0, true);
  view.setUint16(4, virtio.step ?? 0, true);
  view.setUint16(6, virtio.start ?? 0, true);
  view.setUint16(8, virtio.offset ?? 0, true);
  bytes.set(packet, VIRTIO_BYTES);
  return bytes;
}

function checksumPlace(flow: Flow): { start: number; offset: number } {
  const start = flow.family === 6 ? 40 : 20 + flow.ipOptions.length;
  return { start, offset: flow.protocol === TCP ? 16 : 6 };
}

/** The packet with its checksum left to be completed, as the kernel leaves it. */
function withPartialChecksum(flow: Flow): Uint8Array<ArrayBuffer> {
  const packet = wirePacket(flow);
  const { start, offset } = checksumPlace(flow);
  const sum = 0xffff - naiveChecksum(pseudoHeader(flow, packet.length - start));
  new DataView(packet.buffer).setUint16(start + offset, sum);
  return packet;
}

/** What the kernel writes to a TUN with offloads: one packet of many segments. */
export function gsoPacket(flow: Flow, step: number): Uint8Array<ArrayBuffer> {
  const virtio = { flags: 1, type: gsoType(flow), headersSize: headersSize(flow), step };
  return withVirtio(withPartialChecksum(flow), { ...virtio, ...checksumPlace(flow) });
}

/** The same of one that goes as it is, its checksum to be completed. */
export function csumPacket(flow: Flow): Uint8Array<ArrayBuffer> {
  return withVirtio(withPartialChecksum(flow), { flags: 1, ...checksumPlace(flow) });
}

/** Reads a whole packet back; checksums are not looked at. */
export function parsePacket(packet: Uint8Array): Flow {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const family = packet[0]! >> 4 === 6 ? 6 : 4;
  const start = family === 6 ? 40 : (packet[0]! & 0xf) * 4;
  const protocol = packet[family === 6 ? 6 : 9]!;
  const [from, to, length] = family === 6 ? [8, 24, 16] : [12, 16, 4];
  const address = (at: number) => IpAddress.fromBytes(packet.slice(at, at + length)).toString();
  const end = protocol === TCP ? start + (packet[start + 12]! >> 4) * 4 : start + 8;
  const tcp = <T>(read: () => T, none: T): T => protocol === TCP ? read() : none;
  return {
    family,
    protocol,
    from: address(from),
    to: address(to),
    tos: family === 6 ? view.getUint16(0) >> 4 & 0xff : packet[1]!,
    ttl: packet[family === 6 ? 7 : 8]!,
    fragment: family === 6 ? 0 : view.getUint16(6),
    id: family === 6 ? 0 : view.getUint16(4),
    ipOptions: family === 6 ? new Uint8Array() : packet.slice(20, start),
    ports: view.getUint32(start),
    sequence: tcp(() => view.getUint32(start + 4), 0),
    acknowledgment: tcp(() => view.getUint32(start + 8), 0),
    flags: tcp(() => packet[start + 13]!, 0),
    window: tcp(() => view.getUint16(start + 14), 0),
    urgent: tcp(() => view.getUint16(start + 18), 0),
    tcpOptions: tcp(() => packet.slice(start + 20, end), new Uint8Array()),
    payload: packet.slice(end),
  };
}

/** The packet with the checksum that its virtio header leaves to the kernel. */
function completedByKernel(packet: Uint8Array<ArrayBuffer>, virtio: DataView) {
  const [start, offset] = [virtio.getUint16(6, true), virtio.getUint16(8, true)];
  if (virtio.getUint16(4, true) !== 0) {
    throw new Error("segments of a packet that is to stay whole");
  }
  if (start + offset + 2 > packet.length) throw new Error("a checksum behind the packet");
  const sum = naiveChecksum(packet.subarray(start));
  new DataView(packet.buffer).setUint16(start + offset, sum === 0 ? 0xffff : sum);
  return packet;
}

/**
 * The packets that the kernel makes of one write to a TUN with a virtio header. Throws where header
 * and packet do not fit each other.
 */
export function packetsOfWrite(bytes: Uint8Array): Uint8Array[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const packet = bytes.slice(VIRTIO_BYTES);
  if (bytes[1] === 0 && bytes[0] === 1) return [completedByKernel(packet, view)];
  if (bytes[1] === 0) {
    if (bytes.slice(0, VIRTIO_BYTES).some((byte) => byte !== 0)) throw new Error("not plain");
    return [packet];
  }
  const all = parsePacket(packet);
  const step = view.getUint16(4, true);
  const expected = gsoPacket(all, step);
  if (!Buffer.from(bytes).equals(expected)) throw new Error("not as the kernel would have it");
  return naiveSegments(all, step);
}
