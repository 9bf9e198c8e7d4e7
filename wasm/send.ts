/** Sending a batch of messages, whatever the socket makes of it. Egress only. */
import {
  COUNTER_BYTES_OUT,
  COUNTER_PACKETS_OUT,
  DROP_SEND_FAILED,
  LANE_CUT_FD_OFFSET,
  LANE_SEND_FD_OFFSET,
} from "./layout.ts";
import { count } from "./counters.ts";
import * as encapsulation from "./encapsulation.ts";
import * as icmpError from "./icmp_error.ts";
import {
  EAGAIN,
  EINTR,
  EMSGSIZE,
  isDead,
  isNoWay,
  isTooMuchAtOnce,
  MSG_DONTWAIT,
  POLLOUT,
} from "./kernel.ts";
import * as lane from "./lane.ts";
import { iovecBuffer, iovecSize, message, partIovecs, single } from "./messages.ts";
import * as outbox from "./outbox.ts";
import { countSent } from "./peer.ts";
import { sendmmsg } from "./sys.ts";
import * as tooBig from "./too_big.ts";
import { wait, WOKEN } from "./wait.ts";
import * as ipv6 from "./wire/ipv6.ts";

/** A socket that takes nothing for so long loses the rest of the batch: it is stale by then. */
const SEND_WAIT_MS = 1000;
/** The lane's own. */
let sendFd: i32 = -1;
/** It took nothing for so long. */
const NO_ROOM: i32 = 1 << 17;

/** Before a loop's first batch. */
export function startSending(): void {
  sendFd = lane.field(LANE_SEND_FD_OFFSET);
}

function countOut(slot: i32, packets: i32, bytes: i32): void {
  countSent(slot, packets, bytes);
  count(COUNTER_PACKETS_OUT, packets);
  count(COUNTER_BYTES_OUT, bytes);
}

function countFailed(packets: i32): void {
  count(DROP_SEND_FAILED, packets);
}

/**
 * Offers messages until the socket has taken some: returns how many; NO_ROOM; WOKEN; or -errno
 * about the first of them.
 */
function offer(fd: i32, vector: i32, total: i32): i32 {
  while (true) {
    const sent = sendmmsg(fd, vector, total, MSG_DONTWAIT);
    if (sent === -EINTR) continue;
    if (sent !== -EAGAIN) return sent;
    const ready = wait(fd, POLLOUT, SEND_WAIT_MS);
    if (ready === 0) return NO_ROOM;
    if (ready < 0 || ready === WOKEN) return ready;
  }
}

/** Whether a result says that nothing more is to be sent of this batch. */
function isEnd(result: i32): bool {
  return result === NO_ROOM || result === WOKEN || isDead(result);
}

/** Counts what was made of one packet. Returns 0, or what ends the batch. */
function account(result: i32, slot: i32, size: i32): i32 {
  if (result === 1) countOut(slot, 1, size);
  else countFailed(1);
  return isEnd(result) ? result : 0;
}

/** Sends what packet `part` of message i is cut into, if it may be cut. */
function sendFragments(index: i32, part: i32): i32 {
  const fragments = tooBig.cut(index, part);
  for (let i = 0; i < fragments; i++) {
    const result = offer(sendFd, tooBig.fragmentMessage(index, i), 1);
    const end = account(result, outbox.slot(index), tooBig.fragmentSize());
    if (end === 0) continue;
    countFailed(fragments - i - 1);
    return end;
  }
  return 0;
}

/**
 * Sends packet `part` of message i, which is longer than its path carries. What every IPv6 link
 * must carry is cut outside where it must be (RFC 8200 section 5): its sender will not go below.
 */
function sendNarrow(index: i32, part: i32): i32 {
  const size = outbox.packetSize(index, part);
  if (!lane.isV6 || size > ipv6.MTU_MIN) return sendFragments(index, part);
  const cutFd = lane.field(LANE_CUT_FD_OFFSET);
  if (cutFd < 0) return account(-EMSGSIZE, outbox.slot(index), size);
  const result = offer(cutFd, single(index, part, outbox.packets(index)), 1);
  return account(result, outbox.slot(index), size);
}

function sendPart(index: i32, part: i32): i32 {
  const size = outbox.packetSize(index, part);
  if (tooBig.isKnownFor(size)) return sendNarrow(index, part);
  const result = offer(sendFd, single(index, part, outbox.packets(index)), 1);
  if (result === -EMSGSIZE && tooBig.isFoundFor(index, size)) return sendNarrow(index, part);
  return account(result, outbox.slot(index), size);
}

/** Sends the packets of message i one by one. Returns 0, or what ends the batch. */
function sendSingly(index: i32): i32 {
  const packets = outbox.packets(index);
  tooBig.open();
  for (let part = 0; part < packets; part++) {
    const end = sendPart(index, part);
    if (end === 0) continue;
    countFailed(packets - part - 1);
    return end;
  }
  return 0;
}

/** What to do about message i, which the socket refused. Returns 0, or what ends the batch. */
function handleRefused(index: i32, result: i32): i32 {
  const packets = outbox.packets(index);
  const mayGoSingly = packets > 1 && isTooMuchAtOnce(result);
  if (mayGoSingly || result === -EMSGSIZE) return sendSingly(index);
  countFailed(packets);
  if (isNoWay(result)) tellUnreachable(index);
  return 0;
}

/** Tells the sender of message i's first packet that there is no way to the peer. */
function tellUnreachable(index: i32): void {
  const iovecs = partIovecs(index, 0, outbox.packets(index));
  const packet = iovecBuffer(iovecs) + encapsulation.size;
  const contiguous = iovecSize(iovecs) - encapsulation.size;
  icmpError.answer(icmpError.UNREACHABLE, packet, contiguous, 0);
}

/** Counts the packets of messages that are not even tried. */
function giveUp(first: i32, total: i32): void {
  for (let i = first; i < total; i++) countFailed(outbox.packets(i));
}

/**
 * Sends what the outbox holds, in order, counts each packet as sent or failed, and clears it. A
 * message that fails is skipped. Returns 0, WOKEN if the wake descriptor cut it short, or -errno of
 * a dead socket.
 */
export function sendBatch(): i32 {
  const total = outbox.count();
  let done = 0;
  let end = 0;
  while (done < total && end === 0) {
    const result = offer(sendFd, message(done), total - done);
    if (isEnd(result)) {
      end = result;
    } else if (result > 0) {
      for (let i = done; i < done + result; i++) {
        countOut(outbox.slot(i), outbox.packets(i), outbox.innerBytes(i));
      }
      done += result;
    } else {
      end = handleRefused(done, result);
      done++;
    }
  }
  giveUp(done, total);
  outbox.clear();
  return end === NO_ROOM ? 0 : end;
}

/** Counts what the outbox holds as failed, and clears it: there is nothing to send it by. */
export function dropBatch(): void {
  giveUp(0, outbox.count());
  outbox.clear();
}
