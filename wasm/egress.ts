/**
 * The loop from the TUN to the peers: reads inner packets, looks up whose subnet holds the
 * destination, and sends each as the payload of one UDP datagram (flannel's udp backend). With
 * offloads a read brings up to 64 KiB of one flow, which is cut on the way.
 */
import {
  ARENA_OFFSET,
  ARENA_SIZE,
  BATCH_SIZE_MAX,
  CACHE_LINE_SIZE,
  COUNTER_BYTES_IN,
  COUNTER_ICMP_FAILED,
  COUNTER_ICMP_LIMITED,
  COUNTER_ICMP_SENT,
  COUNTER_PACKETS_IN,
  DROP_BAD_OFFLOAD,
  DROP_IPV6,
  DROP_NO_PEER,
  DROP_TRUNCATED,
  DROP_TTL_EXPIRED,
  EGRESS_COUNTERS_OFFSET,
  EGRESS_EPOCH_OFFSET,
  EGRESS_WORK_OFFSET,
  ICMP_ERROR_OFFSET,
  OFFLOAD_CSUM,
  OFFLOAD_UDP_SEGMENT,
  PACKET_HEADROOM,
  PACKET_SIZE_MAX,
} from "./layout.ts";
import { count } from "./counters.ts";
import { enter, leave } from "./epoch.ts";
import { lookupPeer } from "./fib.ts";
import { mayAnswerNow, startLimit } from "./icmp_limit.ts";
import { build, mayAnswer } from "./icmp_reply.ts";
import { addressIcmp, prepareEgress } from "./messages.ts";
import * as outbox from "./outbox.ts";
import { endpoint } from "./peer.ts";
import * as segment from "./segment.ts";
import { dropBatch, sendBatch } from "./send.ts";
import { read, sendmmsg } from "./sys.ts";
import { MSG_DONTWAIT } from "./kernel.ts";
import { isStopped, startWaiting, waitForMore, WOKEN } from "./wait.ts";
import * as icmpv4 from "./wire/icmpv4.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as virtio from "./wire/virtio.ts";

const ARENA_END = ARENA_OFFSET + ARENA_SIZE;

let tunFd: i32 = -1;
let udpFd: i32 = -1;
let icmpFd: i32 = -1;
let wakeFd: i32 = -1;
let tunAddress: u32 = 0;
/** Bytes of the virtio header before each packet; 0: the TUN has none. */
let virtioSize: i32 = 0;
/** What the loop is to end with; 0: nothing yet. */
let end: i32 = 0;
/** Segments of the packet at hand; 0: it goes as it is. */
let segmentCount: i32 = 0;

function flush(): void {
  if (end === 0) end = sendBatch(EGRESS_WORK_OFFSET, udpFd, wakeFd);
  else dropBatch();
}

/**
 * Tells the sender why its packet goes no further. Not through the TUN: the kernel takes what comes
 * in with one of its own addresses as source for spoofed ("martian") and drops it. Of a packet of
 * many segments the first is quoted, as if they had come one by one.
 */
function answer(packet: i32, size: i32, type: u32, code: u32): void {
  if (!mayAnswer(packet)) return;
  if (!mayAnswerNow()) return count(EGRESS_COUNTERS_OFFSET, COUNTER_ICMP_LIMITED, 1);
  let quoted = packet;
  if (segmentCount > 0) {
    if (outbox.isFull()) flush();
    quoted = outbox.headersPlace();
    segment.writeHeaders(quoted, 0);
  }
  const errorSize = build(ICMP_ERROR_OFFSET, quoted, size, tunAddress, type, code, 0);
  const message = addressIcmp(ipv4.source(packet), errorSize);
  const sent = sendmmsg(icmpFd, message, 1, MSG_DONTWAIT);
  count(EGRESS_COUNTERS_OFFSET, sent === 1 ? COUNTER_ICMP_SENT : COUNTER_ICMP_FAILED, 1);
}

/** Does what the virtio header asks for, or prepares it. Returns 0, or the reason for a drop. */
function applyVirtio(packet: i32, size: i32): i32 {
  const header = packet - virtio.SIZE;
  const type = <u32> load<u8>(header + virtio.GSO_TYPE);
  if (type !== virtio.GSO_NONE) {
    segmentCount = segment.open(packet, size, type, load<u16>(header + virtio.GSO_SIZE));
    return segmentCount === 0 ? DROP_BAD_OFFLOAD : 0;
  }
  if ((load<u8>(header + virtio.FLAGS) & virtio.NEEDS_CSUM) === 0) return 0;
  const start = <i32> load<u16>(header + virtio.CSUM_START);
  const offset = <i32> load<u16>(header + virtio.CSUM_OFFSET);
  return segment.completeChecksum(packet, size, start, offset) ? 0 : DROP_BAD_OFFLOAD;
}

function sendSegments(to: u64, slot: i32): void {
  const headersSize = segment.headersSize();
  for (let i = 0; i < segmentCount; i++) {
    if (outbox.isFull()) flush();
    const headers = outbox.headersPlace();
    segment.writeHeaders(headers, i);
    const size = segment.payloadSize(i);
    outbox.addSegment(to, slot, headers, headersSize, segment.payload(i), size);
  }
}

/** Gives the packet to the outbox; returns 0, or the reason why it is dropped. */
function forward(packet: i32, size: i32): i32 {
  if (size > 0 && ipv4.version(packet) === 6) return DROP_IPV6;
  let reason = ipv4.check(packet, size);
  if (reason === 0 && virtioSize > 0) reason = applyVirtio(packet, size);
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
  if (segmentCount > 0) {
    sendSegments(to, slot);
  } else {
    if (outbox.isFull()) flush();
    outbox.add(to, slot, packet, size);
  }
  return 0;
}

/** Forwards what was read and counts it, by the packets that it is or would be cut into. */
function take(packet: i32, size: i32): bool {
  segmentCount = 0;
  const reason = size < 0 ? DROP_TRUNCATED : forward(packet, size);
  const packets = max(1, segmentCount);
  const more = segmentCount > 0 ? (segmentCount - 1) * segment.headersSize() : 0;
  count(EGRESS_COUNTERS_OFFSET, COUNTER_PACKETS_IN, packets);
  count(EGRESS_COUNTERS_OFFSET, COUNTER_BYTES_IN, max(0, size) + more);
  if (reason !== 0) count(EGRESS_COUNTERS_OFFSET, reason, packets);
  return reason === 0;
}

/**
 * Reads until nothing is there, `BATCH_SIZE_MAX` times, or until the arena is full; a dropped
 * packet's place serves the next. Returns how often it read, `BATCH_SIZE_MAX` if there may be more;
 * if not once, -errno. An error behind a packet comes again with the next read.
 */
function gather(): i32 {
  let packet = ARENA_OFFSET + PACKET_HEADROOM;
  for (let i = 0; i < BATCH_SIZE_MAX && end === 0; i++) {
    if (packet + PACKET_SIZE_MAX > ARENA_END) return BATCH_SIZE_MAX;
    const result = read(tunFd, packet - virtioSize, virtioSize + PACKET_SIZE_MAX);
    if (result < 0) return i > 0 ? i : result;
    const size = result - virtioSize;
    if (take(packet, size)) {
      const next = packet + size + PACKET_HEADROOM + CACHE_LINE_SIZE - 1;
      packet = (next & ~(CACHE_LINE_SIZE - 1)) + PACKET_HEADROOM;
    }
  }
  return BATCH_SIZE_MAX;
}

/**
 * Runs until it is asked to stop (0) or a descriptor is dead (-errno). `base` is the native address
 * of the shared memory; ICMP errors leave through the raw socket `icmp` with `sourceAddress`.
 * `offloads` says which bits of `OFFLOAD_…` the descriptors have.
 */
export function runEgress(
  base: f64,
  tun: i32,
  udp: i32,
  icmp: i32,
  wake: i32,
  sourceAddress: u32,
  offloads: i32,
): i32 {
  tunFd = tun;
  udpFd = udp;
  icmpFd = icmp;
  wakeFd = wake;
  tunAddress = sourceAddress;
  virtioSize = (offloads & OFFLOAD_CSUM) !== 0 ? virtio.SIZE : 0;
  prepareEgress(EGRESS_WORK_OFFSET, <u64> base);
  outbox.setUp((offloads & OFFLOAD_UDP_SEGMENT) !== 0);
  startLimit();
  startWaiting();
  end = 0;
  while (end === 0 && !isStopped()) {
    enter(EGRESS_EPOCH_OFFSET);
    const result = gather();
    flush();
    leave(EGRESS_EPOCH_OFFSET);
    if (end === 0) {
      end = waitForMore(EGRESS_WORK_OFFSET, EGRESS_COUNTERS_OFFSET, tunFd, wakeFd, result);
    }
  }
  return end === WOKEN ? 0 : end;
}
