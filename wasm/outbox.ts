/**
 * The packets of a batch on their way to the socket: what follows each other to one peer in one
 * size goes in one message (UDP_SEGMENT), and all messages in one sendmmsg.
 */
import {
  BATCH_SIZE_MAX,
  EGRESS_WORK_OFFSET,
  IOVEC_SIZE,
  MESSAGE_PAYLOAD_MAX,
  SEGMENT_COUNT_MAX,
  SEGMENT_HEADER_SIZE,
  SEND_HEADERS_OFFSET,
  SEND_INFO_BYTES,
  SEND_INFO_OFFSET,
  SEND_INFO_PACKETS,
  SEND_INFO_SEGMENT,
  SEND_INFO_SIZE,
  SEND_IOVECS_OFFSET,
  SEND_PACKET_COUNT_MAX,
} from "./layout.ts";
import { address, setIovec } from "./messages.ts";

/** Packets in one message at most; 1 without UDP_SEGMENT. */
let packetsMax: i32 = 1;
let messageCount: i32 = 0;
/** Packets of all messages; each has a place for its headers. */
let packetCount: i32 = 0;
/** The first iovec of the last message, and the next one that is free. */
let firstIovec: i32 = 0;
let nextIovec: i32 = 0;
/** Of the last message: where it goes, and what more it may take. */
let openTo: u64 = 0;
/** Size that the next packet has at most; 0: it takes none. */
let openSize: i32 = 0;
let openIovecs: i32 = 0;

/** Before a loop's first batch. */
export function setUp(isSegmenting: bool): void {
  packetsMax = isSegmenting ? SEGMENT_COUNT_MAX : 1;
  return clear();
}

/** Forgets everything: what it held is no longer lent. */
export function clear(): void {
  messageCount = 0;
  packetCount = 0;
  nextIovec = SEND_IOVECS_OFFSET;
  openSize = 0;
}

/** Whether it must be sent before it takes another packet. */
export function isFull(): bool {
  return packetCount === SEND_PACKET_COUNT_MAX || messageCount === BATCH_SIZE_MAX;
}

/** Messages ready to be sent. */
export function count(): i32 {
  return messageCount;
}

/** Where the next packet's headers may be written, unless it is full. */
export function headersPlace(): i32 {
  return SEND_HEADERS_OFFSET + packetCount * SEGMENT_HEADER_SIZE;
}

function info(index: i32): i32 {
  return SEND_INFO_OFFSET + index * SEND_INFO_SIZE;
}

/** The peer that message i goes to. */
export function slot(index: i32): i32 {
  return load<i32>(info(index));
}

/** How many packets message i has. */
export function packets(index: i32): i32 {
  return load<i32>(info(index) + SEND_INFO_PACKETS);
}

/** Bytes of all packets of message i. */
export function bytes(index: i32): i32 {
  return load<i32>(info(index) + SEND_INFO_BYTES);
}

/** Bytes of one packet of message i. */
export function packetSize(index: i32, packet: i32): i32 {
  const segment = load<i32>(info(index) + SEND_INFO_SEGMENT);
  return min(segment, bytes(index) - packet * segment);
}

/** Whether the last message may take this packet too. */
function fits(to: u64, peerSlot: i32, size: i32, iovecs: i32): bool {
  if (size > openSize || to !== openTo || iovecs !== openIovecs) return false;
  const last = messageCount - 1;
  return slot(last) === peerSlot && packets(last) < packetsMax &&
    bytes(last) + size <= MESSAGE_PAYLOAD_MAX;
}

/** Takes `size` bytes of iovecs, written already, into the last message or a new one. */
function append(to: u64, peerSlot: i32, size: i32, iovecs: i32): void {
  const isMore = fits(to, peerSlot, size, iovecs);
  if (!isMore) {
    const at = info(messageCount);
    store<i32>(at, peerSlot);
    store<i32>(at + SEND_INFO_PACKETS, 0);
    store<i32>(at + SEND_INFO_BYTES, 0);
    store<i32>(at + SEND_INFO_SEGMENT, size);
    firstIovec = nextIovec;
    openTo = to;
    openIovecs = iovecs;
    messageCount++;
  }
  const last = messageCount - 1;
  const at = info(last);
  const segment = load<i32>(at + SEND_INFO_SEGMENT);
  const total = packets(last) + 1;
  store<i32>(at + SEND_INFO_PACKETS, total);
  store<i32>(at + SEND_INFO_BYTES, bytes(last) + size);
  nextIovec += iovecs * IOVEC_SIZE;
  packetCount++;
  // A shorter one is the last (udp(7)), and one of no bytes cannot be told apart.
  openSize = size < segment || total === packetsMax ? 0 : segment;
  const count = total * iovecs;
  address(EGRESS_WORK_OFFSET, last, to, firstIovec, count, total > 1 ? segment : 0);
}

/** Takes a packet that lies in one piece. It must not be full. */
export function add(to: u64, peerSlot: i32, packet: i32, size: i32): void {
  setIovec(nextIovec, packet, size);
  append(to, peerSlot, size, 1);
}

/** Takes a packet whose headers and payload lie apart. It must not be full. */
export function addSegment(
  to: u64,
  peerSlot: i32,
  headers: i32,
  headersSize: i32,
  payload: i32,
  payloadSize: i32,
): void {
  setIovec(nextIovec, headers, headersSize);
  setIovec(nextIovec + IOVEC_SIZE, payload, payloadSize);
  append(to, peerSlot, headersSize + payloadSize, 2);
}
