/**
 * The packets that tell what a path carries: messages of routers (RFC 792, RFC 4443), and our own
 * probes, which are echo requests in datagrams of the size in question.
 */
import type { Encapsulation, ForwardingEntry } from "../backend/backend.ts";
import {
  ETHERNET_HEADER_BYTES,
  ipHeaderBytes,
  UDP_HEADER_BYTES,
  VXLAN_HEADER_BYTES,
} from "../net/header_length.ts";
import { internetChecksum } from "../net/internet_checksum.ts";
import { bitsOf, type Family, IpAddress } from "../net/ip.ts";

/** Types of ICMP and ICMPv6: the router's message, our question, its answer. */
export const ICMP_TYPES: Readonly<
  Record<Family, { readonly tooBig: number; readonly request: number; readonly reply: number }>
> = {
  4: { tooBig: 3, request: 8, reply: 0 },
  6: { tooBig: 2, request: 128, reply: 129 },
};
const CODE_FRAGMENTATION_NEEDED = 4;
const IPPROTO_ICMP = 1;
const IPPROTO_UDP = 17;
const IPPROTO_ICMPV6 = 58;
const TTL = 64;
/** The upper byte of IPv4's flags and fragment offset. */
const DONT_FRAGMENT = 0x40;
const VXLAN_AND_ETHERNET_BYTES = VXLAN_HEADER_BYTES + ETHERNET_HEADER_BYTES;
const ICMP_HEADER_BYTES = 8;
/** Random bytes, so that only a host that sees the question can forge an answer. */
export const TOKEN_BYTES = 16;

/** Bytes around an inner packet, the outer IP header included. */
export function overheadBytes(family: Family, { type }: Encapsulation): number {
  const inner = type === "vxlan" ? VXLAN_AND_ETHERNET_BYTES : 0;
  return ipHeaderBytes(family) + UDP_HEADER_BYTES + inner;
}

/** What a router says of a datagram that it could not pass on. */
export interface TooBig {
  /** Where the datagram was going. */
  readonly destination: IpAddress;
  readonly port: number;
  /** Bytes of the largest outer packet; 0: an old router that does not say. */
  readonly mtu_bytes: number;
}

/** The ICMP message in what a raw socket gave: of IPv4 it is behind an IP header. */
function icmpIn(bytes: Uint8Array, family: Family): Uint8Array {
  return family === 4 ? bytes.subarray(((bytes[0] ?? 0) & 0xf) * 4) : bytes;
}

/** Reads a message that a raw socket gave; null: it says something else, or is broken. */
export function readTooBig(bytes: Uint8Array, family: Family): TooBig | null {
  const message = icmpIn(bytes, family);
  const quoted = message.subarray(ICMP_HEADER_BYTES);
  const ipBytes = family === 4 ? ((quoted[0] ?? 0) & 0xf) * 4 : ipHeaderBytes(6);
  if (ipBytes < ipHeaderBytes(family) || quoted.length < ipBytes + UDP_HEADER_BYTES) return null;
  const code = family === 4 ? CODE_FRAGMENTATION_NEEDED : 0;
  if (message[0] !== ICMP_TYPES[family].tooBig || message[1] !== code) return null;
  if (quoted[0]! >> 4 !== family || quoted[family === 4 ? 9 : 6] !== IPPROTO_UDP) return null;
  const view = new DataView(message.buffer, message.byteOffset, message.length);
  const addressBytes = bitsOf(family) / 8;
  const destination_offset = ipHeaderBytes(family) - addressBytes;
  return {
    destination: IpAddress.readFrom(quoted, destination_offset, family),
    port: view.getUint16(ICMP_HEADER_BYTES + ipBytes + 2),
    mtu_bytes: family === 4 ? view.getUint16(6) : view.getUint32(4),
  };
}

export interface Probe {
  readonly encapsulation: Encapsulation;
  /** The address of our tunnel's device. */
  readonly from: IpAddress;
  /** The peer; the address of its tunnel's device is asked, the first of its subnet. */
  readonly to: Pick<ForwardingEntry, "subnet" | "vtepMac">;
  /** Of the inner packet: `IP header + 24` at least. */
  readonly size_bytes: number;
  /** `TOKEN_BYTES` of random bytes. */
  readonly token: Uint8Array;
}

/** An IP packet that must not be cut, with zeros where the ICMP message is to be. */
function emptyPacket(from: IpAddress, to: IpAddress, size_bytes: number): Uint8Array {
  const packet = new Uint8Array(size_bytes);
  const view = new DataView(packet.buffer);
  const start = ipHeaderBytes(from.family) - 2 * bitsOf(from.family) / 8;
  packet.set(from.toBytes(), start);
  packet.set(to.toBytes(), start + bitsOf(from.family) / 8);
  if (from.family === 6) {
    packet.set([0x60, 0, 0, 0, 0, 0, IPPROTO_ICMPV6, TTL]);
    view.setUint16(4, size_bytes - ipHeaderBytes(6));
    return packet;
  }
  packet.set([0x45, 0, 0, 0, 0, 0, DONT_FRAGMENT, 0, TTL, IPPROTO_ICMP]);
  view.setUint16(2, size_bytes);
  view.setUint16(10, internetChecksum(packet.subarray(0, ipHeaderBytes(4))));
  return packet;
}

/** The payload of a UDP datagram that asks the peer's kernel for an answer. */
export function buildProbe({ encapsulation, from, to, size_bytes, token }: Probe): Uint8Array {
  const { family } = from;
  const packet = emptyPacket(from, to.subnet.address, size_bytes);
  const message = packet.subarray(ipHeaderBytes(family));
  message[0] = ICMP_TYPES[family].request;
  message.set(token.subarray(0, 4), 4);
  message.set(token, ICMP_HEADER_BYTES);
  const view = new DataView(packet.buffer, message.byteOffset, message.length);
  const pseudo = new Uint8Array(family === 4 ? 0 : 40);
  if (family === 6) {
    pseudo.set(packet.subarray(8, 40));
    new DataView(pseudo.buffer).setUint32(32, message.length);
    pseudo[39] = IPPROTO_ICMPV6;
  }
  view.setUint16(2, internetChecksum(pseudo, message));
  return encapsulation.type === "none" ? packet : framed(packet, encapsulation, to);
}

/** The packet behind a VXLAN and an Ethernet header (RFC 7348). */
function framed(
  packet: Uint8Array,
  { vni, vtepMac }: Extract<Encapsulation, { type: "vxlan" }>,
  to: Probe["to"],
): Uint8Array {
  const bytes = new Uint8Array(VXLAN_AND_ETHERNET_BYTES + packet.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 8;
  view.setUint32(4, vni * 256);
  if (to.vtepMac !== null) bytes.set(to.vtepMac.toBytes(), 8);
  bytes.set(vtepMac.toBytes(), 14);
  view.setUint16(20, packet[0]! >> 4 === 4 ? 0x0800 : 0x86dd);
  bytes.set(packet, VXLAN_AND_ETHERNET_BYTES);
  return bytes;
}

/** The token in an answer that a raw socket gave, as `tokenText` has it; null: it is no answer. */
export function readAnswer(bytes: Uint8Array, family: Family): string | null {
  const message = icmpIn(bytes, family);
  if (message[0] !== ICMP_TYPES[family].reply) return null;
  const token = message.subarray(ICMP_HEADER_BYTES, ICMP_HEADER_BYTES + TOKEN_BYTES);
  return token.length === TOKEN_BYTES ? tokenText(token) : null;
}

export function tokenText(token: Uint8Array): string {
  return Buffer.from(token.buffer, token.byteOffset, token.length).toString("hex");
}
