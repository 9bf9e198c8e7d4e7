/**
 * The loop from the TUN to the peers: reads inner packets, looks up whose subnet holds the
 * destination, and sends each in one UDP datagram, encapsulated as the lane says. With offloads a
 * read brings up to 64 KiB of one flow, which is cut on the way.
 */
import {
  ARENA_OFFSET,
  ARENA_SIZE,
  BATCH_SIZE_MAX,
  CACHE_LINE_SIZE,
  COUNTER_PACKETS_IN,
  DROP_BAD_OFFLOAD,
  DROP_IPV6,
  DROP_NO_PEER,
  DROP_SPECIAL_ADDRESS,
  DROP_TOO_BIG,
  DROP_TRUNCATED,
  DROP_TTL_EXPIRED,
  ICMP_QUOTE_OFFSET,
  LANE_TUN_FD_OFFSET,
  PACKET_HEADROOM,
  PACKET_SIZE_MAX,
} from "./layout.ts";
import * as admission from "./admission.ts";
import { count } from "./counters.ts";
import * as encapsulation from "./encapsulation.ts";
import { enter, leave } from "./epoch.ts";
import * as fragment from "./fragment.ts";
import * as icmpError from "./icmp_error.ts";
import { startLimit } from "./icmp_limit.ts";
import * as ip from "./ip.ts";
import * as lane from "./lane.ts";
import * as lookup from "./lookup.ts";
import { prepareEgress } from "./messages.ts";
import * as outbox from "./outbox.ts";
import { endpoint } from "./peer.ts";
import * as segment from "./segment.ts";
import { dropBatch, sendBatch, startSending } from "./send.ts";
import { read } from "./sys.ts";
import * as tooBig from "./too_big.ts";
import { isStopped, startWaiting, waitForMore, WOKEN } from "./wait.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as ipv6 from "./wire/ipv6.ts";
import * as virtio from "./wire/virtio.ts";

/** More fragments of one packet are not made: it was 64 KiB long, or the path is no path. */
const FRAGMENT_COUNT_MAX = 48;

/** What the loop is to end with; 0: nothing yet. */
let end: i32 = 0;
/** Segments of the packet at hand; 0: it goes as it is. */
let segmentCount: i32 = 0;

function flush(): void {
  if (end === 0) end = sendBatch();
  else dropBatch();
}

/** What an error about the packet quotes: of many segments the first, as if they came singly. */
function quoted(packet: i32): i32 {
  if (segmentCount === 0) return packet;
  const at = lane.work + ICMP_QUOTE_OFFSET;
  segment.writeHeaders(at, 0);
  return at;
}

function quotedSize(size: i32): i32 {
  return segmentCount === 0 ? size : segment.headersSize();
}

function answer(kind: u32, packet: i32, size: i32): void {
  icmpError.answer(kind, quoted(packet), quotedSize(size), 0);
}

function tellNarrow(packet: i32, size: i32, mtu: i32): void {
  tooBig.answer(quoted(packet), quotedSize(size), mtu);
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

function queue(packet: i32, size: i32, to: u64, slot: i32): void {
  if (segmentCount > 0) return sendSegments(to, slot);
  if (outbox.isFull()) flush();
  outbox.add(to, slot, packet, size);
}

/** Bytes of the longest packet that it is or would be cut into. */
function longest(size: i32): i32 {
  return segmentCount > 0 ? segment.headersSize() + segment.payloadSize(0) : size;
}

/**
 * Gives the outbox a packet that is longer than its path is known to carry, in fragments if it may
 * be cut. Segments that may be, and what every IPv6 link carries, go as they are: `send.ts` finds
 * what to do. Returns 0, or the reason why it is dropped.
 */
function forwardNarrow(packet: i32, size: i32, to: u64, slot: i32, mtu: i32): i32 {
  const mayCut = lane.isV6 ? longest(size) <= ipv6.MTU_MIN : !ipv4.isWholeAlone(packet);
  if (!mayCut) {
    tellNarrow(packet, size, mtu);
    return DROP_TOO_BIG;
  }
  if (segmentCount > 0 || lane.isV6) {
    queue(packet, size, to, slot);
    return 0;
  }
  // Sending what is in the outbox may cut as well: not between two fragments of this one.
  if (!outbox.hasRoomFor(FRAGMENT_COUNT_MAX)) flush();
  const headers = ipv4.headerLength(packet);
  const fragments = fragment.open(packet, headers, packet + headers, size - headers, mtu);
  if (fragments === 0 || fragments > FRAGMENT_COUNT_MAX) {
    tellNarrow(packet, size, mtu);
    return DROP_TOO_BIG;
  }
  for (let i = 0; i < fragments; i++) {
    const place = outbox.headersPlace();
    const placeSize = fragment.writeHeaders(place, i);
    const payload = fragment.payloadAt(i);
    outbox.addSegment(to, slot, place, placeSize, payload, fragment.payloadSize(i));
  }
  count(COUNTER_PACKETS_IN, fragments - 1);
  return 0;
}

/** Gives the packet to the outbox; returns 0, or the reason why it is dropped. */
function forward(packet: i32, size: i32): i32 {
  if (!lane.isV6 && size > 0 && ipv4.version(packet) === 6) return DROP_IPV6;
  let reason = ip.check(packet, size);
  if (reason === 0) reason = admission.checkSource(packet);
  if (reason === 0 && lane.hasVirtio) reason = applyVirtio(packet, size);
  if (reason !== 0) return reason;
  const slot = lookup.ofDestination(packet);
  if (slot < 0) {
    if (admission.isToSpecial(packet)) return DROP_SPECIAL_ADDRESS;
    answer(icmpError.UNREACHABLE, packet, size);
    return DROP_NO_PEER;
  }
  // A peer that is being removed loses its endpoint before its slot is used again, and one that
  // gets another address has none for a moment.
  const to = endpoint(slot);
  if (to === 0) return DROP_NO_PEER;
  if (!ip.decrementTtl(packet)) {
    answer(icmpError.TIME_EXCEEDED, packet, size);
    return DROP_TTL_EXPIRED;
  }
  const mtu = tooBig.known(slot);
  if (mtu > 0 && longest(size) > mtu) return forwardNarrow(packet, size, to, slot, mtu);
  queue(packet, size, to, slot);
  return 0;
}

/** Forwards what was read and counts it, by the packets that it is or would be cut into. */
function take(packet: i32, size: i32): bool {
  segmentCount = 0;
  const reason = size < 0 ? DROP_TRUNCATED : forward(packet, size);
  const packets = max(1, segmentCount);
  count(COUNTER_PACKETS_IN, packets);
  if (reason !== 0) count(reason, packets);
  return reason === 0;
}

/**
 * Reads until nothing is there, `BATCH_SIZE_MAX` times, or until the arena is full; a dropped
 * packet's place serves the next. Returns how often it read, `BATCH_SIZE_MAX` if there may be more;
 * if not once, -errno. An error behind a packet comes again with the next read.
 */
function gather(): i32 {
  const tunFd = lane.field(LANE_TUN_FD_OFFSET);
  const virtioSize = lane.hasVirtio ? virtio.SIZE : 0;
  const arena = lane.work + ARENA_OFFSET;
  let packet = arena + PACKET_HEADROOM;
  for (let i = 0; i < BATCH_SIZE_MAX && end === 0; i++) {
    if (packet + PACKET_SIZE_MAX > arena + ARENA_SIZE) return BATCH_SIZE_MAX;
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
 * Runs a lane's loop until it is asked to stop (0) or a descriptor is dead (-errno). `base` is the
 * native address of the shared memory.
 */
export function runEgress(base: f64, index: i32): i32 {
  lane.openEgress(<u64> base, index);
  encapsulation.setUp();
  admission.setUp();
  prepareEgress();
  outbox.setUp();
  startSending();
  startLimit();
  startWaiting();
  const tunFd = lane.field(LANE_TUN_FD_OFFSET);
  end = 0;
  while (end === 0 && !isStopped()) {
    enter();
    const result = gather();
    flush();
    leave();
    if (end === 0) end = waitForMore(tunFd, result);
  }
  return end === WOKEN ? 0 : end;
}
