/**
 * The packets of a batch on their way to the socket: what follows each other to one peer in one
 * size goes in one message (UDP_SEGMENT), and all messages in one sendmmsg.
 */
import {
  BATCH_SIZE_MAX,
  IOVEC_SIZE,
  MESSAGE_PAYLOAD_MAX,
  OFFLOAD_UDP_SEGMENT,
  PACKET_HEADROOM,
  SEGMENT_COUNT_MAX,
  SEND_HEADER_SIZE,
  SEND_HEADERS_OFFSET,
  SEND_INFO_BYTES,
  SEND_INFO_OFFSET,
  SEND_INFO_PACKETS,
  SEND_INFO_SEGMENT,
  SEND_INFO_SIZE,
  SEND_IOVECS_OFFSET,
  SEND_PACKET_COUNT_MAX,
} from "./layout.ts";
import * as encapsulation from "./encapsulation.ts";
import * as lane from "./lane.ts";
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
export function setUp(): void {
  packetsMax = lane.has(OFFLOAD_UDP_SEGMENT) ? SEGMENT_COUNT_MAX : 1;
  return clear();
}

/** Forgets everything: what it held is no longer lent. */
export function clear(): void {
  messageCount = 0;
  packetCount = 0;
  nextIovec = lane.work + SEND_IOVECS_OFFSET;
  openSize = 0;
}

/** Whether it must be sent before it takes another packet. */
export function isFull(): bool {
  return packetCount === SEND_PACKET_COUNT_MAX || messageCount === BATCH_SIZE_MAX;
}

/** Whether it takes so many packets more, whatever they are. */
export function hasRoomFor(more: i32): bool {
  return packetCount + more <= SEND_PACKET_COUNT_MAX && messageCount + more <= BATCH_SIZE_MAX;
}

/** Messages ready to be sent. */
export function count(): i32 {
  return messageCount;
}

/** Where the next packet's headers may be written, behind some headroom, unless it is full. */
export function headersPlace(): i32 {
  return lane.work + SEND_HEADERS_OFFSET + packetCount * SEND_HEADER_SIZE + PACKET_HEADROOM;
}

function info(index: i32): i32 {
  return lane.work + SEND_INFO_OFFSET + index * SEND_INFO_SIZE;
}

/** The peer that message i goes to. */
export function slot(index: i32): i32 {
  return load<i32>(info(index));
}

/** How many packets message i has. */
export function packets(index: i32): i32 {
  return load<i32>(info(index) + SEND_INFO_PACKETS);
}

/** Bytes of all packets of message i, and of what encapsulates each. */
export function bytes(index: i32): i32 {
  return load<i32>(info(index) + SEND_INFO_BYTES);
}

/** Bytes of all packets of message i alone. */
export function innerBytes(index: i32): i32 {
  return bytes(index) - packets(index) * encapsulation.size;
}

/** Bytes of one packet of message i alone. */
export function packetSize(index: i32, packet: i32): i32 {
  const segment = load<i32>(info(index) + SEND_INFO_SEGMENT);
  return min(segment, bytes(index) - packet * segment) - encapsulation.size;
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
  address(last, to, firstIovec, count, total > 1 ? segment : 0);
}

/**
 * Takes a packet that lies in one piece behind `PACKET_HEADROOM`. It must not be full; `to` is what
 * `peer.endpoint` gave last.
 */
export function add(to: u64, peerSlot: i32, packet: i32, size: i32): void {
  encapsulation.write(packet, peerSlot);
  const before = encapsulation.size;
  setIovec(nextIovec, packet - before, size + before);
  append(to, peerSlot, size + before, 1);
}

/** The same of a packet whose headers, behind `PACKET_HEADROOM`, and payload lie apart. */
export function addSegment(
  to: u64,
  peerSlot: i32,
  headers: i32,
  headersSize: i32,
  payload: i32,
  payloadSize: i32,
): void {
  encapsulation.write(headers, peerSlot);
  const before = encapsulation.size;
  setIovec(nextIovec, headers - before, headersSize + before);
  setIovec(nextIovec + IOVEC_SIZE, payload, payloadSize);
  append(to, peerSlot, headersSize + payloadSize + before, 2);
}
