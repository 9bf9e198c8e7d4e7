/** Sending a batch of messages, whatever the socket makes of it. Egress only. */
import {
  COUNTER_BYTES_OUT,
  COUNTER_PACKETS_OUT,
  DROP_SEND_FAILED,
  EGRESS_COUNTERS_OFFSET,
} from "./layout.ts";
import { count } from "./counters.ts";
import { EAGAIN, EINTR, isDead, isTooMuchAtOnce, MSG_DONTWAIT, POLLOUT } from "./kernel.ts";
import { message, single } from "./messages.ts";
import * as outbox from "./outbox.ts";
import { countSent } from "./peer.ts";
import { sendmmsg } from "./sys.ts";
import { wait, WOKEN } from "./wait.ts";

/** A socket that takes nothing for so long loses the rest of the batch: it is stale by then. */
const SEND_WAIT_MS = 1000;

function countOut(slot: i32, packets: i32, bytes: i32): void {
  countSent(slot, packets, bytes);
  count(EGRESS_COUNTERS_OFFSET, COUNTER_PACKETS_OUT, packets);
  count(EGRESS_COUNTERS_OFFSET, COUNTER_BYTES_OUT, bytes);
}

function countFailed(packets: i32): void {
  count(EGRESS_COUNTERS_OFFSET, DROP_SEND_FAILED, packets);
}

/**
 * Offers messages until the socket has taken some: returns how many; 0 if it had no room for long;
 * WOKEN; or -errno about the first of them.
 */
function offer(work: i32, udpFd: i32, wakeFd: i32, vector: i32, total: i32): i32 {
  while (true) {
    const sent = sendmmsg(udpFd, vector, total, MSG_DONTWAIT);
    if (sent === -EINTR) continue;
    if (sent !== -EAGAIN) return sent;
    const ready = wait(work, udpFd, POLLOUT, wakeFd, SEND_WAIT_MS);
    if (ready <= 0 || ready === WOKEN) return ready;
  }
}

/** Whether a result says that nothing more is to be sent; the loop's end then. */
function isEnd(result: i32): bool {
  return result === WOKEN || isDead(result);
}

/** Sends the packets of message i one by one. Returns 0, or what ends the loop. */
function sendSingly(work: i32, udpFd: i32, wakeFd: i32, index: i32): i32 {
  const packets = outbox.packets(index);
  for (let part = 0; part < packets; part++) {
    const result = offer(work, udpFd, wakeFd, single(work, index, part, packets), 1);
    if (result === 1) {
      countOut(outbox.slot(index), 1, outbox.packetSize(index, part));
    } else if (result === 0 || isEnd(result)) {
      countFailed(packets - part);
      return result;
    } else {
      countFailed(1);
    }
  }
  return 0;
}

/** What to do about message i, which the socket refused. Returns 0, or what ends the loop. */
function handleRefused(work: i32, udpFd: i32, wakeFd: i32, index: i32, result: i32): i32 {
  const packets = outbox.packets(index);
  if (packets > 1 && isTooMuchAtOnce(result)) return sendSingly(work, udpFd, wakeFd, index);
  countFailed(packets);
  return 0;
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
export function sendBatch(work: i32, udpFd: i32, wakeFd: i32): i32 {
  const total = outbox.count();
  let done = 0;
  let end = 0;
  while (done < total && end === 0) {
    const result = offer(work, udpFd, wakeFd, message(work, done), total - done);
    if (result === 0) break;
    if (isEnd(result)) {
      end = result;
    } else if (result > 0) {
      for (let i = done; i < done + result; i++) {
        countOut(outbox.slot(i), outbox.packets(i), outbox.bytes(i));
      }
      done += result;
    } else {
      end = handleRefused(work, udpFd, wakeFd, done, result);
      done++;
    }
  }
  giveUp(done, total);
  outbox.clear();
  return end;
}

/** Counts what the outbox holds as failed, and clears it: there is nothing to send it by. */
export function dropBatch(): void {
  giveUp(0, outbox.count());
  outbox.clear();
}
