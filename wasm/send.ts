/** Sending a batch of messages, whatever the socket makes of it. Egress only. */
import {
  COUNTER_BYTES_OUT,
  COUNTER_PACKETS_OUT,
  DROP_SEND_FAILED,
  EGRESS_COUNTERS_OFFSET,
  WORK_SLOTS_OFFSET,
} from "./layout.ts";
import { count } from "./counters.ts";
import { EAGAIN, EINTR, isDead, MSG_DONTWAIT, POLLOUT } from "./kernel.ts";
import { message, sendSize } from "./messages.ts";
import { countSent } from "./peer.ts";
import { sendmmsg } from "./sys.ts";
import { wait, WOKEN } from "./wait.ts";

/** A socket that takes nothing for so long loses the rest of the batch: it is stale by then. */
const SEND_WAIT_MS = 1000;

function countSentMessages(work: i32, first: i32, end: i32): void {
  let bytes = 0;
  for (let i = first; i < end; i++) {
    const size = sendSize(work, i);
    countSent(load<i32>(work + WORK_SLOTS_OFFSET + (i << 2)), size);
    bytes += size;
  }
  count(EGRESS_COUNTERS_OFFSET, COUNTER_PACKETS_OUT, end - first);
  count(EGRESS_COUNTERS_OFFSET, COUNTER_BYTES_OUT, bytes);
}

/**
 * Sends the first `total` messages in order and counts each as sent or failed. One that fails is
 * skipped. Returns 0, WOKEN if the wake descriptor cut it short, or -errno of a dead socket.
 */
export function sendBatch(work: i32, udpFd: i32, wakeFd: i32, total: i32): i32 {
  let done = 0;
  let end = 0;
  while (done < total && end === 0) {
    const sent = sendmmsg(udpFd, message(work, done), total - done, MSG_DONTWAIT);
    if (sent > 0) {
      countSentMessages(work, done, done + sent);
      done += sent;
    } else if (sent === -EAGAIN) {
      const ready = wait(work, udpFd, POLLOUT, wakeFd, SEND_WAIT_MS);
      if (ready === 0) break;
      if (ready < 0 || ready === WOKEN) end = ready;
    } else if (isDead(sent)) {
      end = sent;
    } else if (sent !== -EINTR) {
      count(EGRESS_COUNTERS_OFFSET, DROP_SEND_FAILED, 1);
      done++;
    }
  }
  if (done < total) count(EGRESS_COUNTERS_OFFSET, DROP_SEND_FAILED, total - done);
  return end;
}
