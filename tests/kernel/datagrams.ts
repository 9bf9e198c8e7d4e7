/** Datagrams between namespaces, seen at the far end's link as they arrive there. */
import { closeFd } from "../../ffi/fd.ts";
import { check, libc } from "../../ffi/libc.ts";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import {
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  sockaddrIn,
  sockaddrIn6,
  SOL_SOCKET,
} from "../../ffi/socket_address.ts";
import { openUdpSocket } from "../../ffi/udp_socket.ts";
import { type Family, IpAddress } from "../../src/net/ip.ts";

/** `linux/if_packet.h`, `linux/if_ether.h` */
const AF_PACKET = 17;
const ETH_P: Readonly<Record<Family, number>> = { 4: 0x0800, 6: 0x86dd };
const SO_RCVTIMEO = 20;
const TIMEOUT_S = 5;
const IPPROTO_UDP = 17;
const IPV6_HEADER_LEN = 40;

/** Sends one datagram from an address of the namespace. */
export function sendDatagram(
  netns: Netns,
  from: { readonly address: string; readonly port: number },
  to: { readonly address: string; readonly port: number },
): void {
  const [source, destination] = [from, to].map(({ address }) => IpAddress.parse(address).toBytes());
  const fd = withNetns(netns, () => openUdpSocket(source!, from.port));
  try {
    const name = destination!.length === 4
      ? sockaddrIn(destination!, to.port)
      : sockaddrIn6(destination!, to.port);
    const payload = new TextEncoder().encode("selvage");
    check(libc.sendto(fd, payload, payload.length, 0, name, name.length), `send to ${to.address}`);
  } finally {
    closeFd(fd);
  }
}

/** Where a datagram came from and what for, by its own headers. */
export interface Arrival {
  readonly source: string;
  readonly sourcePort: number;
  readonly port: number;
}

function parseArrival(packet: Uint8Array, family: Family): Arrival | null {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const protocol = view.getUint8(family === 4 ? 9 : 6);
  if (protocol !== IPPROTO_UDP) return null;
  const header = family === 4 ? (view.getUint8(0) & 15) * 4 : IPV6_HEADER_LEN;
  const source = family === 4 ? packet.subarray(12, 16) : packet.subarray(8, 24);
  return {
    source: IpAddress.fromBytes(source).toString(),
    sourcePort: view.getUint16(header),
    port: view.getUint16(header + 2),
  };
}

/** Sees what comes to the links of a namespace. */
export class LinkWatch {
  readonly #fd: number;
  readonly #buffer = new Uint8Array(2048);

  constructor(netns: Netns, private readonly family: Family) {
    const protocol = new DataView(new ArrayBuffer(2));
    protocol.setUint16(0, ETH_P[family]);
    const type = SOCK_DGRAM | SOCK_CLOEXEC;
    this.#fd = withNetns(
      netns,
      () => check(libc.socket(AF_PACKET, type, protocol.getUint16(0, true)), "watch a link"),
    );
    const timeout = new Uint8Array(new BigInt64Array([BigInt(TIMEOUT_S), 0n]).buffer);
    libc.setsockopt(this.#fd, SOL_SOCKET, SO_RCVTIMEO, timeout, timeout.length);
  }

  /** The next datagram to one of these ports. Throws `SystemError` if there is none for 5 s. */
  next(ports: readonly number[]): Arrival {
    for (;;) {
      const size = check(
        libc.recv(this.#fd, this.#buffer, this.#buffer.length, 0),
        "see a datagram",
      );
      const arrival = parseArrival(this.#buffer.subarray(0, size), this.family);
      if (arrival !== null && ports.includes(arrival.port)) return arrival;
    }
  }

  close(): void {
    closeFd(this.#fd);
  }
}
