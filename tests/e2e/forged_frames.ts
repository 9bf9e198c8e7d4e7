/** What a stranger writes into VXLAN to take a host over, made without the code under test. */
import { closeFd } from "../../ffi/fd.ts";
import { check, libc } from "../../ffi/libc.ts";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import { sockaddrOf } from "../../ffi/socket_address.ts";
import { openUdpSocket } from "../../ffi/udp_socket.ts";
import { IpAddress } from "../../src/net/ip.ts";
import { naiveChecksum, packet } from "../wasm/packets.ts";

const VXLAN_PORT = 8472;
const VXLAN_HEADER = [0x08, 0, 0, 0, 0, 0, 1, 0];
const BROADCAST = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
const ETH_P_IP = 0x0800;
const ETH_P_ARP = 0x0806;
const ETH_P_IPV6 = 0x86dd;
const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const ROUTER_ADVERTISEMENT = 134;
const NEIGHBOUR_SOLICITATION = 135;

/** The router that nobody may believe, and the prefix that it announces. */
export const ROGUE_ROUTER = "fe80::bad";
export const ROGUE_PREFIX = "fd66::";

const bytesOf = (address: string) => [...IpAddress.parse(address).toBytes()];
const u16 = (value: number) => [value >> 8, value & 0xff];

function frame(to: readonly number[], type: number, payload: Iterable<number>): Uint8Array {
  const from = [0x02, 0xba, 0xd0, 0, 0, 1];
  return Uint8Array.from([...VXLAN_HEADER, ...to, ...from, ...u16(type), ...payload]);
}

/** RFC 4443: the checksum counts the addresses too. */
function icmpv6(from: string, to: string, message: readonly number[]): number[] {
  const pseudo = [...bytesOf(from), ...bytesOf(to), 0, 0, ...u16(message.length)];
  const sum = naiveChecksum(Uint8Array.from([...pseudo, 0, 0, 0, IPPROTO_ICMPV6, ...message]));
  const body = [...message.slice(0, 2), ...u16(sum), ...message.slice(4)];
  const header = [0x60, 0, 0, 0, ...u16(body.length), IPPROTO_ICMPV6, 255];
  return [...header, ...bytesOf(from), ...bytesOf(to), ...body];
}

/** RFC 4861 section 4.2: a default router, and a prefix to make addresses of. */
export function routerAdvertisement(): Uint8Array {
  const lifetime = u16(1800);
  const prefix = [3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0, ...bytesOf(ROGUE_PREFIX)];
  const message = [ROUTER_ADVERTISEMENT, 0, 0, 0, 64, 0, ...lifetime, 0, 0, 0, 0, 0, 0, 0, 0];
  const inner = icmpv6(ROGUE_ROUTER, "ff02::1", [...message, ...prefix]);
  return frame([0x33, 0x33, 0, 0, 0, 1], ETH_P_IPV6, inner);
}

/** RFC 792: for `destination` take `gateway` instead of `router`, about a packet of `host`'s. */
export function redirect(
  mac: string,
  { router, host, destination, gateway }: Readonly<Record<string, string>>,
): Uint8Array {
  // An answer to a ping: of other protocols the kernel wants to see the socket that sent it.
  const about = packet({
    from: host!,
    to: destination!,
    protocol: IPPROTO_ICMP,
    payload: new Uint8Array(8),
  });
  const message = [5, 1, 0, 0, ...bytesOf(gateway!), ...about];
  const sum = naiveChecksum(Uint8Array.from(message));
  const payload = Uint8Array.from([5, 1, ...u16(sum), ...message.slice(4)]);
  const to = mac.split(":").map((byte) => parseInt(byte, 16));
  return frame(to, ETH_P_IP, packet({ from: router!, to: host!, protocol: IPPROTO_ICMP, payload }));
}

/** RFC 826: who has `target`, asked by `sender`, whose MAC the asked one is to remember. */
export function arpRequest(sender: string, target: string): Uint8Array {
  const ethernetAndIp = [0, 1, 8, 0, 6, 4];
  const senderMac = [0x02, 0xba, 0xd0, 0, 0, 2];
  const question = [0, 1, ...senderMac, ...bytesOf(sender), 0, 0, 0, 0, 0, 0, ...bytesOf(target)];
  return frame(BROADCAST, ETH_P_ARP, [...ethernetAndIp, ...question]);
}

/** RFC 4861 section 4.3, likewise. */
export function neighbourSolicitation(mac: string, sender: string, target: string): Uint8Array {
  const option = [1, 1, 0x02, 0xba, 0xd0, 0, 0, 2];
  const message = [NEIGHBOUR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0, ...bytesOf(target), ...option];
  const to = mac.split(":").map((byte) => parseInt(byte, 16));
  return frame(to, ETH_P_IPV6, icmpv6(sender, target, message));
}

/** Sends each to a host's VXLAN port, from an address of the namespace. */
export function sendVxlan(
  netns: Netns,
  from: IpAddress,
  to: IpAddress,
  payloads: Iterable<Uint8Array>,
): void {
  sendDatagrams(netns, from, to, VXLAN_PORT, payloads);
}

/** A frame in VXLAN for the VTEP with this MAC, which holds an IP packet of either family. */
export function ipFrame(mac: string, inner: Uint8Array): Uint8Array {
  const to = mac.split(":").map((byte) => parseInt(byte, 16));
  return frame(to, inner[0]! >> 4 === 4 ? ETH_P_IP : ETH_P_IPV6, inner);
}

const ETH_P_8021Q = 0x8100;

/** The same with a VLAN tag (IEEE 802.1Q), which the kernel takes off again. */
export function taggedFrame(mac: string, inner: Uint8Array): Uint8Array {
  const to = mac.split(":").map((byte) => parseInt(byte, 16));
  return frame(to, ETH_P_8021Q, [0, 0, ...u16(ETH_P_IP), ...inner]);
}

const IPPROTO_UDP = 17;

/** A UDP packet of either family that carries a text, or bytes. */
export function udpPacket(
  from: string,
  to: string,
  port: number,
  text: string | Uint8Array,
): Uint8Array {
  const data = [...(typeof text === "string" ? new TextEncoder().encode(text) : text)];
  const udp = [...u16(40_000), ...u16(port), ...u16(8 + data.length), 0, 0, ...data];
  // IPv4 may leave the checksum out.
  if (!from.includes(":")) return packet({ from, to, payload: Uint8Array.from(udp) });
  const pseudo = [...bytesOf(from), ...bytesOf(to), 0, 0, ...u16(udp.length), 0, 0, 0, IPPROTO_UDP];
  const sum = naiveChecksum(Uint8Array.from([...pseudo, ...udp])) || 0xffff;
  const header = [0x60, 0, 0, 0, ...u16(udp.length), IPPROTO_UDP, 64];
  const body = [...udp.slice(0, 6), ...u16(sum), ...data];
  return Uint8Array.from([...header, ...bytesOf(from), ...bytesOf(to), ...body]);
}

/** An ICMP message that a path carries so few bytes, about an echo reply between two addresses. */
export function tooBigPacket(
  router: string,
  to: string,
  about: { readonly from: string; readonly to: string; readonly mtu_bytes: number },
): Uint8Array {
  const quoted = packet({ ...about, protocol: 1, payload: new Uint8Array(8) });
  const message = Uint8Array.from([3, 4, 0, 0, 0, 0, ...u16(about.mtu_bytes), ...quoted]);
  message.set(u16(naiveChecksum(message)), 2);
  return packet({ from: router, to, protocol: 1, payload: message });
}

/** Sends each as a datagram to a port, from an address of the namespace. */
export function sendDatagrams(
  netns: Netns,
  from: IpAddress,
  to: IpAddress,
  port: number,
  payloads: Iterable<Uint8Array>,
): void {
  const fd = withNetns(netns, () => openUdpSocket(from.toBytes(), 0));
  try {
    const { name } = sockaddrOf(to.toBytes(), port);
    for (const payload of payloads) {
      check(libc.sendto(fd, payload, payload.length, 0, name, name.length), `send to ${to}`);
    }
  } finally {
    closeFd(fd);
  }
}
