/**
 * A packet that is longer than the path to its peer carries: it is cut where it may be, and else
 * dropped and its sender told (RFC 1191, RFC 8201). The kernel refuses what is longer than our own
 * interface carries; ICMP messages of routers are not believed before the control side has
 * confirmed them by probes (`src/agent/path_prober.ts`). Egress only.
 */
import {
  COUNTER_NARROW_PATHS,
  COUNTER_PACKETS_IN,
  DROP_TOO_BIG,
  FRAGMENT_HEADER_OFFSET,
  FRAGMENT_IOVECS_OFFSET,
  IOVEC_SIZE,
  PACKET_HEADROOM,
  PATH_MTU_BELIEVED_MAX_MS,
  PATH_MTU_FLOOR,
} from "./layout.ts";
import { count } from "./counters.ts";
import * as encapsulation from "./encapsulation.ts";
import * as fragment from "./fragment.ts";
import * as icmpError from "./icmp_error.ts";
import * as lane from "./lane.ts";
import {
  iovecBuffer,
  iovecSize,
  name,
  nameSize,
  partIovecs,
  setIovec,
  singleFragment,
} from "./messages.ts";
import * as outbox from "./outbox.ts";
import { notePathMtu, pathMtu, pathMtuUntil_ms } from "./peer.ts";
import { now_ms, path_mtu } from "./sys.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as ipv6 from "./wire/ipv6.ts";
import * as udp from "./wire/udp.ts";

/** How long a size that our interface refused is believed; then one packet tries the path again. */
const KNOWN_FOR_MS: u64 = 10_000;
/** What every link carries: RFC 791 section 3.2. */
const IPV4_MTU_MIN = 68;

/** Bytes of the largest inner packet that the message's path carries; 0: not asked yet. */
let mtu: i32 = 0;
/** Whether one of the message's senders was told; and a digest of the last one's address. */
let isTold: bool = false;
let told: u64 = 0;
/** Bytes of the last fragment that was written. */
let written: i32 = 0;

/** Bytes of the largest inner packet that the path to a peer is known to carry; 0: all. */
export function known(slot: i32): i32 {
  const found = pathMtu(slot);
  if (found === 0) return 0;
  const left_ms = pathMtuUntil_ms(slot) - now_ms();
  return left_ms > 0 && left_ms <= <f64> PATH_MTU_BELIEVED_MAX_MS ? found : 0;
}

/** Tells a packet's sender what the path carries; the first `size` bytes are there to be quoted. */
export function answer(packet: i32, size: i32, carried: i32): void {
  const least = lane.isV6 ? ipv6.MTU_MIN : IPV4_MTU_MIN;
  icmpError.answer(icmpError.TOO_BIG, packet, size, max(carried, least));
}

/** Before a message's first packet. */
export function open(): void {
  mtu = 0;
  isTold = false;
}

/** Whether it is known already that a packet of so many bytes is too long. */
export function isKnownFor(size: i32): bool {
  return mtu > 0 && size > mtu;
}

/**
 * Asks the kernel what the path of message i carries; whether that is why it refused a packet. What
 * it says may come from a forged message, so it is not taken for less than the floor unless our own
 * interface refuses that, too.
 */
export function isFoundFor(index: i32, size: i32): bool {
  const outer = (lane.isV6 ? ipv6.HEADER_LEN : ipv4.HEADER_LEN) + udp.HEADER_LEN;
  const overhead = outer + encapsulation.size;
  mtu = path_mtu(name(index), nameSize()) - overhead;
  const floor = PATH_MTU_FLOOR - overhead;
  if (mtu > 0 && mtu < floor && size > floor) mtu = floor;
  if (!isKnownFor(size)) return false;
  notePathMtu(outbox.slot(index), mtu, <u64> now_ms() + KNOWN_FOR_MS);
  count(COUNTER_NARROW_PATHS, 1);
  return true;
}

/** Tells the sender, unless it was the last of this message that was told. */
function answerOnce(packet: i32, size: i32): void {
  const source = packet + (lane.isV6 ? ipv6.SOURCE : ipv4.SOURCE);
  const digest = lane.isV6
    ? load<u64>(source) ^ rotl<u64>(load<u64>(source + 8), 1)
    : <u64> load<u32>(source);
  if (isTold && digest === told) return;
  answer(packet, size, mtu);
  isTold = true;
  told = digest;
}

/** Opens the packet at these iovecs for cutting; 0: it must not be cut, or cannot. */
function openFragments(iovecs: i32, size: i32): i32 {
  const packet = iovecBuffer(iovecs) + encapsulation.size;
  const contiguous = iovecSize(iovecs) - encapsulation.size;
  if (contiguous < size) {
    const payload = iovecBuffer(iovecs + IOVEC_SIZE);
    return fragment.open(packet, contiguous, payload, size - contiguous, mtu);
  }
  const headers = ipv4.headerLength(packet);
  return fragment.open(packet, headers, packet + headers, size - headers, mtu);
}

/**
 * Cuts packet `part` of message i. Returns how many fragments it is, which then count as what came
 * in; 0 if it was dropped.
 */
export function cut(index: i32, part: i32): i32 {
  const iovecs = partIovecs(index, part, outbox.packets(index));
  const size = outbox.packetSize(index, part);
  // Only its sender cuts an IPv6 packet (RFC 8200 section 5).
  const fragments = lane.isV6 ? 0 : openFragments(iovecs, size);
  if (fragments > 0) {
    count(COUNTER_PACKETS_IN, fragments - 1);
    return fragments;
  }
  count(DROP_TOO_BIG, 1);
  const packet = iovecBuffer(iovecs) + encapsulation.size;
  const contiguous = iovecSize(iovecs) - encapsulation.size;
  answerOnce(packet, contiguous);
  return 0;
}

/** Bytes of the fragment last written. */
export function fragmentSize(): i32 {
  return written;
}

/** Writes fragment `part` of what was cut out of message i; returns the message that carries it. */
export function fragmentMessage(index: i32, part: i32): i32 {
  const at = lane.work + FRAGMENT_HEADER_OFFSET + PACKET_HEADROOM;
  const headers = fragment.writeHeaders(at, part);
  written = headers + fragment.payloadSize(part);
  encapsulation.write(at, outbox.slot(index));
  const iovecs = lane.work + FRAGMENT_IOVECS_OFFSET;
  setIovec(iovecs, at - encapsulation.size, headers + encapsulation.size);
  setIovec(iovecs + IOVEC_SIZE, fragment.payloadAt(part), fragment.payloadSize(part));
  return singleFragment(index);
}
