/** ICMP echo (RFC 792), as ping(8) does it. It blocks the thread: for a process of its own. */
import { IcmpSocket } from "../../ffi/icmp_socket.ts";
import { internetChecksum } from "../net/internet_checksum.ts";
import type { IpAddress } from "../net/ip.ts";

const ECHO_REPLY = 0;
const ECHO_REQUEST = 8;
const HEADER_BYTES = 8;
const PAYLOAD_BYTES = 56;

export interface PingResult {
  readonly sent: number;
  readonly received: number;
  /** Round trips in ms, in the order of the requests; a lost one is left out. */
  readonly times_ms: number[];
  /** Which requests were not answered, counted from 1. */
  readonly lost: number[];
}

function echoRequest(identifier: number, sequence: number): Uint8Array {
  const message = new Uint8Array(HEADER_BYTES + PAYLOAD_BYTES);
  const view = new DataView(message.buffer);
  message.forEach((_, i) => message[i] = i & 0xff);
  view.setUint32(0, ECHO_REQUEST << 24);
  view.setUint16(4, identifier);
  view.setUint16(6, sequence);
  view.setUint16(2, internetChecksum(message));
  return message;
}

/** Whether the packet, IP header included, answers this very request. */
function isReply(packet: Uint8Array, request: Uint8Array): boolean {
  const headerLength = ((packet[0] ?? 0) & 0x0f) * 4;
  const message = packet.subarray(headerLength);
  // Identifier, sequence number and payload come back as they were sent.
  return message.length === request.length && message[0] === ECHO_REPLY &&
    message.subarray(4).every((byte, i) => byte === request[i + 4]);
}

/** Sends one request and waits for its answer; null if it does not come in time. */
function roundTrip_ms(
  socket: IcmpSocket,
  address: IpAddress,
  request: Uint8Array,
  timeout_ms: number,
): number | null {
  const start_ms = performance.now();
  socket.send(address.toBytes(), request);
  while (true) {
    const left_ms = timeout_ms - (performance.now() - start_ms);
    if (left_ms <= 0) return null;
    const packet = socket.receive(left_ms);
    if (packet === null) return null;
    if (isReply(packet, request)) return performance.now() - start_ms;
  }
}

/** Pings an IPv4 address `count` times, each after the last was answered or timed out. */
export function ping(address: IpAddress, count: number, timeout_ms: number): PingResult {
  const socket = new IcmpSocket();
  const times_ms: number[] = [];
  const lost: number[] = [];
  try {
    for (let sequence = 1; sequence <= count; sequence++) {
      const request = echoRequest(process.pid & 0xffff, sequence);
      const time_ms = roundTrip_ms(socket, address, request, timeout_ms);
      if (time_ms === null) lost.push(sequence);
      else times_ms.push(time_ms);
    }
  } finally {
    socket.close();
  }
  return { sent: count, received: times_ms.length, times_ms, lost };
}
