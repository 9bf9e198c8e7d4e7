/**
 * A packet that is longer than the path to its peer carries, as the kernel found (RFC 1191,
 * RFC 8201): it is cut where it may be, and else dropped and its sender told. Egress only.
 */
import {
  COUNTER_BYTES_IN,
  COUNTER_NARROW_PATHS,
  COUNTER_PACKETS_IN,
  DROP_TOO_BIG,
  FRAGMENT_HEADER_OFFSET,
  FRAGMENT_IOVECS_OFFSET,
  IOVEC_SIZE,
  PACKET_HEADROOM,
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
import { notePathMtu } from "./peer.ts";
import { now_ms, path_mtu } from "./sys.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as ipv6 from "./wire/ipv6.ts";
import * as udp from "./wire/udp.ts";

/** Bytes of the largest inner packet that the message's path carries; 0: not asked yet. */
let mtu: i32 = 0;
/** Whether the sender of the message's packets was told. */
let isTold: bool = false;
/** Bytes of the last fragment that was written. */
let written: i32 = 0;

/** Before a message's first packet. */
export function open(): void {
  mtu = 0;
  isTold = false;
}

/** Whether it is known already that a packet of so many bytes is too long. */
export function isKnownFor(size: i32): bool {
  return mtu > 0 && size > mtu;
}

/** Asks the kernel what the path of message i carries; whether that is why it refused a packet. */
export function isFoundFor(index: i32, size: i32): bool {
  const outer = (lane.isV6 ? ipv6.HEADER_LEN : ipv4.HEADER_LEN) + udp.HEADER_LEN;
  mtu = path_mtu(name(index), nameSize()) - outer - encapsulation.size;
  if (!isKnownFor(size)) return false;
  notePathMtu(outbox.slot(index), mtu, <u64> now_ms());
  count(COUNTER_NARROW_PATHS, 1);
  return true;
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
    count(COUNTER_BYTES_IN, -size);
    return fragments;
  }
  count(DROP_TOO_BIG, 1);
  const packet = iovecBuffer(iovecs) + encapsulation.size;
  const contiguous = iovecSize(iovecs) - encapsulation.size;
  if (!isTold) icmpError.answer(icmpError.TOO_BIG, packet, contiguous, mtu);
  isTold = true;
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
  count(COUNTER_BYTES_IN, written);
  encapsulation.write(at, outbox.slot(index));
  const iovecs = lane.work + FRAGMENT_IOVECS_OFFSET;
  setIovec(iovecs, at - encapsulation.size, headers + encapsulation.size);
  setIovec(iovecs + IOVEC_SIZE, fragment.payloadAt(part), fragment.payloadSize(part));
  return singleFragment(index);
}
