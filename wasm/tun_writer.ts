/**
 * Writing packets to the TUN, in the order they come. With a virtio header one write takes many
 * packets of a flow; the last group waits for the batch to end and no longer. Ingress only.
 */
import {
  COUNTER_BYTES_OUT,
  COUNTER_PACKETS_OUT,
  DROP_TUN_WRITE_FAILED,
  INGRESS_COUNTERS_OFFSET,
  IOVEC_SIZE,
  OFFLOAD_CSUM,
  OFFLOAD_TSO,
  OFFLOAD_USO,
  PLAIN_HEADER_OFFSET,
  PLAIN_IOVECS_OFFSET,
  WRITE_IOVECS_OFFSET,
} from "./layout.ts";
import * as coalesce from "./coalesce.ts";
import { count } from "./counters.ts";
import { isDead } from "./kernel.ts";
import { setIovec } from "./messages.ts";
import { write, writev } from "./sys.ts";
import * as virtio from "./wire/virtio.ts";

let tunFd: i32 = -1;
let hasVirtio: bool = false;
/** -errno if a write showed that the TUN is gone. */
let error: i32 = 0;

/** Before a loop's first batch; `offloads` as for `runIngress`. */
export function setUp(fd: i32, offloads: i32): void {
  tunFd = fd;
  error = 0;
  hasVirtio = (offloads & OFFLOAD_CSUM) !== 0;
  coalesce.setUp((offloads & OFFLOAD_TSO) !== 0, (offloads & OFFLOAD_USO) !== 0);
  // A header of zeros: nothing is to be done to the packet.
  memory.fill(PLAIN_HEADER_OFFSET, 0, virtio.SIZE);
  setIovec(PLAIN_IOVECS_OFFSET, PLAIN_HEADER_OFFSET, virtio.SIZE);
}

/** 0, or -errno of a TUN that is gone. */
export function lastError(): i32 {
  return error;
}

function countOut(packets: i32, bytes: i32): void {
  count(INGRESS_COUNTERS_OFFSET, COUNTER_PACKETS_OUT, packets);
  count(INGRESS_COUNTERS_OFFSET, COUNTER_BYTES_OUT, bytes);
}

/** Whether a write has done it; if not, remembers a TUN that is gone. */
function isWritten(result: i32): bool {
  if (result >= 0) return true;
  if (isDead(result)) error = result;
  return false;
}

function writeOne(packet: i32, size: i32): void {
  let result = 0;
  if (hasVirtio) {
    setIovec(PLAIN_IOVECS_OFFSET + IOVEC_SIZE, packet, size);
    result = writev(tunFd, PLAIN_IOVECS_OFFSET, 2);
  } else {
    result = write(tunFd, packet, size);
  }
  if (isWritten(result)) countOut(1, size);
  else count(INGRESS_COUNTERS_OFFSET, DROP_TUN_WRITE_FAILED, 1);
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
  if (isWritten(writev(tunFd, WRITE_IOVECS_OFFSET, coalesce.finish()))) {
    countOut(packets, coalesce.bytes());
    return;
  }
  for (let i = 0; i < packets; i++) writeOne(coalesce.packet(i), coalesce.packetSize(i));
}

/** Writes the packet, now or with others of its flow at the next `flush`. Its place is lent. */
export function deliver(packet: i32, size: i32): void {
  if (!hasVirtio) {
    writeOne(packet, size);
  } else if (!coalesce.append(packet, size)) {
    flush();
    coalesce.begin(packet, size);
  }
}
