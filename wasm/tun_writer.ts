/**
 * Writing packets to the TUN, in the order they come. With a virtio header one write takes many
 * packets of a flow; the last group waits for the batch to end and no longer. Ingress only.
 */
import {
  COUNTER_BYTES_OUT,
  COUNTER_PACKETS_IN,
  COUNTER_PACKETS_OUT,
  DROP_BAD_OFFLOAD,
  DROP_TUN_WRITE_FAILED,
  IOVEC_SIZE,
  LANE_TUN_FD_OFFSET,
  OFFLOAD_TSO,
  OFFLOAD_USO,
  PACKET_HEADROOM,
  PLAIN_HEADER_OFFSET,
  PLAIN_IOVECS_OFFSET,
  WRITE_HEADER_OFFSET,
  WRITE_IOVECS_OFFSET,
} from "./layout.ts";
import * as coalesce from "./coalesce.ts";
import { count } from "./counters.ts";
import { isDead } from "./kernel.ts";
import * as encapsulation from "./encapsulation.ts";
import * as lane from "./lane.ts";
import { setIovec } from "./messages.ts";
import * as segment from "./segment.ts";
import { write, writev } from "./sys.ts";
import * as unfinished from "./unfinished.ts";
import * as virtio from "./wire/virtio.ts";

/** Below this the headers leave no room in the MTU, or so little that the packet was made so. */
const SEGMENT_PAYLOAD_MIN = 8;

let tunFd: i32 = -1;
/** -errno if a write showed that the TUN is gone. */
let error: i32 = 0;

/** Before a loop's first batch. */
export function setUp(): void {
  tunFd = lane.field(LANE_TUN_FD_OFFSET);
  error = 0;
  coalesce.setUp(lane.has(OFFLOAD_TSO), lane.has(OFFLOAD_USO));
  // A header of zeros: nothing is to be done to the packet.
  memory.fill(lane.work + PLAIN_HEADER_OFFSET, 0, virtio.SIZE);
  setIovec(lane.work + PLAIN_IOVECS_OFFSET, lane.work + PLAIN_HEADER_OFFSET, virtio.SIZE);
}

/** 0, or -errno of a TUN that is gone. */
export function lastError(): i32 {
  return error;
}

function countOut(packets: i32, bytes: i32): void {
  count(COUNTER_PACKETS_OUT, packets);
  count(COUNTER_BYTES_OUT, bytes);
}

/** Whether a write has done it; if not, remembers a TUN that is gone. */
function isWritten(result: i32): bool {
  if (result >= 0) return true;
  if (isDead(result)) error = result;
  return false;
}

function account(result: i32, packets: i32, bytes: i32): void {
  if (isWritten(result)) countOut(packets, bytes);
  else count(DROP_TUN_WRITE_FAILED, packets);
}

function writeOne(packet: i32, size: i32): void {
  let result = 0;
  if (lane.hasVirtio) {
    const iovecs = lane.work + PLAIN_IOVECS_OFFSET;
    setIovec(iovecs + IOVEC_SIZE, packet, size);
    result = writev(tunFd, iovecs, 2);
  } else {
    result = write(tunFd, packet, size);
  }
  account(result, 1, size);
}

/** Writes and counts what is held back, if anything is. */
export function flush(): void {
  const packets = coalesce.count();
  if (packets > 1) writeGroup(packets);
  else if (packets === 1) writeOne(coalesce.packet(0), coalesce.packetSize(0));
  coalesce.clear();
}

/** A group that the kernel does not take, for want of memory or whatever, goes packet by packet. */
function writeGroup(packets: i32): void {
  if (isWritten(writev(tunFd, lane.work + WRITE_IOVECS_OFFSET, coalesce.finish()))) {
    countOut(packets, coalesce.bytes());
    return;
  }
  for (let i = 0; i < packets; i++) writeOne(coalesce.packet(i), coalesce.packetSize(i));
}

/** Writes a header and a payload that lies apart. */
function writeApart(headers: i32, headersSize: i32, payload: i32, payloadSize: i32): i32 {
  const iovecs = lane.work + WRITE_IOVECS_OFFSET;
  const before = lane.hasVirtio ? virtio.SIZE : 0;
  setIovec(iovecs, headers - before, before + headersSize);
  setIovec(iovecs + IOVEC_SIZE, payload, payloadSize);
  return writev(tunFd, iovecs, 2);
}

/** Has the kernel complete the checksum, and cut the packet if its type is one of many. */
function writeForKernel(packet: i32, size: i32, type: u32, packets: i32): void {
  const headersSize = unfinished.headersSize();
  const headers = lane.work + WRITE_HEADER_OFFSET + PACKET_HEADROOM;
  const header = headers - virtio.SIZE;
  memory.copy(headers, packet, headersSize);
  store<u8>(header + virtio.FLAGS, virtio.NEEDS_CSUM);
  store<u8>(header + virtio.GSO_TYPE, <u8> type);
  store<u16>(header + virtio.HDR_LEN, <u16> headersSize);
  store<u16>(header + virtio.GSO_SIZE, type === 0 ? 0 : <u16> unfinished.segmentSize());
  store<u16>(header + virtio.CSUM_START, <u16> unfinished.checksumStart());
  store<u16>(header + virtio.CSUM_OFFSET, <u16> unfinished.checksumOffset());
  const result = writeApart(headers, headersSize, packet + headersSize, size - headersSize);
  account(result, packets, size + (packets - 1) * headersSize);
}

/** Cuts the packet here. */
function writeSegments(packets: i32): void {
  const headers = lane.work + WRITE_HEADER_OFFSET + PACKET_HEADROOM;
  const headersSize = segment.headersSize();
  memory.fill(headers - virtio.SIZE, 0, virtio.SIZE);
  for (let i = 0; i < packets; i++) {
    segment.writeHeaders(headers, i);
    const size = segment.payloadSize(i);
    const result = writeApart(headers, headersSize, segment.payload(i), size);
    account(result, 1, headersSize + size);
  }
}

/** Finishes a packet that its kernel did not, or has ours do it. */
function writeUnfinished(packet: i32, size: i32): void {
  if (!unfinished.isMany(size)) {
    if (lane.hasVirtio) return writeForKernel(packet, size, virtio.GSO_NONE, 1);
    const start = unfinished.checksumStart();
    segment.completeChecksum(packet, size, start, unfinished.checksumOffset());
    return writeOne(packet, size);
  }
  const type = unfinished.gsoType(packet);
  const step = unfinished.segmentSize();
  const mayCut = type !== virtio.GSO_NONE && step >= SEGMENT_PAYLOAD_MIN;
  const packets = mayCut ? segment.open(packet, size, type, step) : 0;
  if (packets === 0) return count(DROP_BAD_OFFLOAD, 1);
  // It counts as what it is cut into.
  count(COUNTER_PACKETS_IN, packets - 1);
  if (lane.has(OFFLOAD_TSO)) writeForKernel(packet, size, type, packets);
  else writeSegments(packets);
}

/** Writes the packet, now or with others of its flow at the next `flush`. Its place is lent. */
export function deliver(packet: i32, size: i32): void {
  if (encapsulation.size > 0 && unfinished.isSo(packet, size)) {
    flush();
    writeUnfinished(packet, size);
  } else if (!lane.hasVirtio) {
    writeOne(packet, size);
  } else if (!coalesce.append(packet, size)) {
    flush();
    coalesce.begin(packet, size);
  }
}
