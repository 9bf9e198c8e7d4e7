/**
 * The loop from the peers to the TUN: receives datagrams, checks that a peer sent each, that it is
 * encapsulated as the lane says and holds one whole IP packet, and writes that to the TUN. With
 * offloads a message brings many datagrams of one sender.
 */
import {
  BATCH_SIZE_MAX,
  COUNTER_PACKETS_IN,
  DROP_DATAGRAM_TRUNCATED,
  DROP_SOURCE_NOT_PEER,
  DROP_TTL_EXPIRED,
  LANE_RECEIVE_FD_OFFSET,
} from "./layout.ts";
import * as admission from "./admission.ts";
import { count } from "./counters.ts";
import * as encapsulation from "./encapsulation.ts";
import { enter, leave } from "./epoch.ts";
import * as icmpError from "./icmp_error.ts";
import { startLimit } from "./icmp_limit.ts";
import * as ip from "./ip.ts";
import { MSG_DONTWAIT, MSG_TRUNC } from "./kernel.ts";
import * as lane from "./lane.ts";
import * as lookup from "./lookup.ts";
import {
  message,
  name,
  prepareIngress,
  receiveBuffer,
  receivedFlags,
  receivedSegment,
  receivedSize,
  resetReceived,
} from "./messages.ts";
import { countReceived } from "./peer.ts";
import * as refused from "./refused.ts";
import { now_ms, recvmmsg } from "./sys.ts";
import * as tun from "./tun_writer.ts";
import { isStopped, startWaiting, waitForMore, WOKEN } from "./wait.ts";

/** Packets of the message at hand that its peer is credited with, and their bytes. */
let heardPackets: i32 = 0;
let heardBytes: i32 = 0;

/** Handles one datagram from the outer address in `from`. */
function forward(datagram: i32, datagramSize: i32, from: i32, now: u64): void {
  let reason = encapsulation.check(datagram, datagramSize);
  if (reason !== 0) return count(reason, 1);
  const packet = datagram + encapsulation.size;
  const isFrame = encapsulation.size > 0;
  const size = isFrame ? ip.sizeInFrame(packet, datagramSize - encapsulation.size) : datagramSize;
  reason = ip.check(packet, size);
  if (reason !== 0) return count(reason, 1);
  reason = admission.checkReceived(packet, from);
  if (reason !== 0) return count(reason, 1);
  // A frame crosses a link; a router is only its sender. flannel's udp takes one off at both ends.
  if (!isFrame && !ip.decrementTtl(packet)) {
    icmpError.answer(icmpError.TIME_EXCEEDED, packet, size, 0);
    return count(DROP_TTL_EXPIRED, 1);
  }
  if (!admission.isAnyOuterSource) {
    heardPackets++;
    heardBytes += size;
  } else if (admission.sender >= 0) {
    countReceived(admission.sender, 1, size, now);
  }
  tun.deliver(packet, size);
}

/** Handles message i, of one datagram or of many; returns how many. */
function handle(index: i32, now: u64): i32 {
  const size = receivedSize(index);
  const segment = receivedSegment(index);
  const datagrams = size === 0 ? 1 : (size + segment - 1) / segment;
  const from = name(index);
  const slot = lookup.ofName(from);
  const isTruncated = (receivedFlags(index) & MSG_TRUNC) !== 0;
  const isRefused = slot < 0 && !admission.isAnyOuterSource;
  const buffer = receiveBuffer(index);
  if (isRefused || isTruncated) {
    count(isRefused ? DROP_SOURCE_NOT_PEER : DROP_DATAGRAM_TRUNCATED, datagrams);
    if (isRefused) refused.note(buffer, min(segment, size), from, datagrams, now);
    return datagrams;
  }
  heardPackets = heardBytes = 0;
  for (let i = 0; i < datagrams; i++) {
    const at = i * segment;
    forward(buffer + at, min(segment, size - at), from, now);
  }
  if (heardPackets > 0) countReceived(slot, heardPackets, heardBytes, now);
  return datagrams;
}

/** Receives and handles one batch. Returns how many messages came, or -errno. */
function receiveBatch(): i32 {
  const fd = lane.field(LANE_RECEIVE_FD_OFFSET);
  const received = recvmmsg(fd, message(0), BATCH_SIZE_MAX, MSG_DONTWAIT);
  if (received < 0) return received;
  const now = <u64> now_ms();
  let datagrams = 0;
  for (let i = 0; i < received; i++) {
    datagrams += handle(i, now);
  }
  tun.flush();
  count(COUNTER_PACKETS_IN, datagrams);
  resetReceived(received);
  return received;
}

/**
 * Runs a lane's loop until it is asked to stop (0) or a descriptor is dead (-errno). `base` is the
 * native address of the shared memory.
 */
export function runIngress(base: f64, index: i32): i32 {
  lane.openIngress(<u64> base, index);
  encapsulation.setUp();
  admission.setUp();
  prepareIngress();
  tun.setUp();
  startLimit();
  startWaiting();
  const fd = lane.field(LANE_RECEIVE_FD_OFFSET);
  let end = 0;
  while (end === 0 && !isStopped()) {
    enter();
    const result = receiveBatch();
    leave();
    end = tun.lastError();
    if (end === 0) end = waitForMore(fd, result);
  }
  return end === WOKEN ? 0 : end;
}
