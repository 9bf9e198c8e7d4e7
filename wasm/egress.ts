/**
 * The loop from the TUN to the peers: reads inner packets, looks up whose subnet holds the
 * destination, and sends each as the payload of one UDP datagram (flannel's udp backend).
 */
import {
  BATCH_SIZE_MAX,
  COUNTER_BYTES_IN,
  COUNTER_ICMP_FAILED,
  COUNTER_ICMP_SENT,
  COUNTER_PACKETS_IN,
  DROP_IPV6,
  DROP_NO_PEER,
  DROP_TTL_EXPIRED,
  EGRESS_COUNTERS_OFFSET,
  EGRESS_EPOCH_OFFSET,
  EGRESS_WORK_OFFSET,
  PACKET_SIZE_MAX,
  WORK_SLOTS_OFFSET,
} from "./layout.ts";
import { count } from "./counters.ts";
import { enter, leave } from "./epoch.ts";
import { lookupPeer } from "./fib.ts";
import { build, mayAnswer } from "./icmp_reply.ts";
import { address, addressIcmp, packetBuffer, prepare } from "./messages.ts";
import { endpoint } from "./peer.ts";
import { sendBatch } from "./send.ts";
import { read, sendmmsg } from "./sys.ts";
import { MSG_DONTWAIT } from "./kernel.ts";
import { isStopped, startWaiting, waitForMore, WOKEN } from "./wait.ts";
import * as icmpv4 from "./wire/icmpv4.ts";
import * as ipv4 from "./wire/ipv4.ts";

let tunFd: i32 = -1;
let udpFd: i32 = -1;
let icmpFd: i32 = -1;
let wakeFd: i32 = -1;
let tunAddress: u32 = 0;
/** Messages ready to be sent. */
let messageCount: i32 = 0;

/**
 * Tells the sender why its packet goes no further. Not through the TUN: the kernel takes what comes
 * in with one of its own addresses as source for spoofed ("martian") and drops it.
 */
function answer(packet: i32, size: i32, type: u32, code: u32): void {
  if (!mayAnswer(packet)) return;
  const errorSize = build(EGRESS_WORK_OFFSET, packet, size, tunAddress, type, code);
  const message = addressIcmp(EGRESS_WORK_OFFSET, ipv4.source(packet), errorSize);
  const sent = sendmmsg(icmpFd, message, 1, MSG_DONTWAIT);
  count(EGRESS_COUNTERS_OFFSET, sent === 1 ? COUNTER_ICMP_SENT : COUNTER_ICMP_FAILED, 1);
}

/** Makes the packet the next message; returns 0, or the reason why it is dropped. */
function forward(packet: i32, size: i32): i32 {
  if (size > 0 && ipv4.version(packet) === 6) return DROP_IPV6;
  const reason = ipv4.check(packet, size);
  if (reason !== 0) return reason;
  const slot = lookupPeer(ipv4.destination(packet));
  // A peer that is being removed loses its endpoint before its slot is used again.
  const to = slot < 0 ? 0 : endpoint(slot);
  if (to === 0) {
    answer(packet, size, icmpv4.DESTINATION_UNREACHABLE, icmpv4.CODE_NET_UNREACHABLE);
    return DROP_NO_PEER;
  }
  if (!ipv4.decrementTtl(packet)) {
    answer(packet, size, icmpv4.TIME_EXCEEDED, icmpv4.CODE_TTL_EXCEEDED);
    return DROP_TTL_EXPIRED;
  }
  address(EGRESS_WORK_OFFSET, messageCount, to, size);
  store<i32>(EGRESS_WORK_OFFSET + WORK_SLOTS_OFFSET + (messageCount << 2), slot);
  messageCount++;
  return 0;
}

/**
 * Reads until nothing is there or `BATCH_SIZE_MAX` packets were read; a dropped packet's buffer
 * serves the next. Returns how many were read; if none, -errno. An error behind a packet comes
 * again with the next read.
 */
function gather(): i32 {
  messageCount = 0;
  for (let i = 0; i < BATCH_SIZE_MAX; i++) {
    const packet = packetBuffer(EGRESS_WORK_OFFSET, messageCount);
    const size = read(tunFd, packet, PACKET_SIZE_MAX);
    if (size < 0) return i > 0 ? i : size;
    count(EGRESS_COUNTERS_OFFSET, COUNTER_PACKETS_IN, 1);
    count(EGRESS_COUNTERS_OFFSET, COUNTER_BYTES_IN, size);
    const reason = forward(packet, size);
    if (reason !== 0) count(EGRESS_COUNTERS_OFFSET, reason, 1);
  }
  return BATCH_SIZE_MAX;
}

/**
 * Runs until it is asked to stop (0) or a descriptor is dead (-errno). `base` is the native address
 * of the shared memory; ICMP errors leave through the raw socket `icmp` with `sourceAddress`.
 */
export function runEgress(
  base: f64,
  tun: i32,
  udp: i32,
  icmp: i32,
  wake: i32,
  sourceAddress: u32,
): i32 {
  tunFd = tun;
  udpFd = udp;
  icmpFd = icmp;
  wakeFd = wake;
  tunAddress = sourceAddress;
  prepare(EGRESS_WORK_OFFSET, <u64> base);
  startWaiting();
  let end = 0;
  while (end === 0 && !isStopped()) {
    enter(EGRESS_EPOCH_OFFSET);
    const result = gather();
    end = sendBatch(EGRESS_WORK_OFFSET, udpFd, wakeFd, messageCount);
    leave(EGRESS_EPOCH_OFFSET);
    if (end === 0) {
      end = waitForMore(EGRESS_WORK_OFFSET, EGRESS_COUNTERS_OFFSET, tunFd, wakeFd, result);
    }
  }
  return end === WOKEN ? 0 : end;
}
