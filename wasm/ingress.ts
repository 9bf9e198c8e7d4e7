/**
 * The loop from the peers to the TUN: receives datagrams, checks that a peer sent each and that it
 * is one whole IPv4 packet, and writes it to the TUN (flannel's udp backend).
 */
import {
  BATCH_SIZE_MAX,
  COUNTER_BYTES_IN,
  COUNTER_BYTES_OUT,
  COUNTER_PACKETS_IN,
  COUNTER_PACKETS_OUT,
  DROP_DATAGRAM_TRUNCATED,
  DROP_SOURCE_NOT_PEER,
  DROP_TTL_EXPIRED,
  DROP_TUN_WRITE_FAILED,
  INGRESS_COUNTERS_OFFSET,
  INGRESS_EPOCH_OFFSET,
  INGRESS_WORK_OFFSET,
} from "./layout.ts";
import { count } from "./counters.ts";
import { enter, leave } from "./epoch.ts";
import { isDead, MSG_DONTWAIT, MSG_TRUNC } from "./kernel.ts";
import {
  message,
  packetBuffer,
  prepare,
  receivedFlags,
  receivedFrom,
  receivedSize,
  resetReceived,
} from "./messages.ts";
import { countReceived } from "./peer.ts";
import { lookupSource } from "./source_table.ts";
import { now_ms, recvmmsg, write } from "./sys.ts";
import { isStopped, startWaiting, waitForMore, WOKEN } from "./wait.ts";
import * as ipv4 from "./wire/ipv4.ts";

let tunFd: i32 = -1;
let udpFd: i32 = -1;
/** -errno if a write showed that the TUN is gone. */
let tunError: i32 = 0;

/** Handles message i; returns 0, or the reason why it is dropped. */
function forward(index: i32, now: u64): i32 {
  const size = receivedSize(INGRESS_WORK_OFFSET, index);
  const slot = lookupSource(receivedFrom(INGRESS_WORK_OFFSET, index));
  if (slot < 0) return DROP_SOURCE_NOT_PEER;
  if ((receivedFlags(INGRESS_WORK_OFFSET, index) & MSG_TRUNC) !== 0) return DROP_DATAGRAM_TRUNCATED;
  const packet = packetBuffer(INGRESS_WORK_OFFSET, index);
  const reason = ipv4.check(packet, size);
  if (reason !== 0) return reason;
  countReceived(slot, size, now);
  if (!ipv4.decrementTtl(packet)) return DROP_TTL_EXPIRED;
  const written = write(tunFd, packet, size);
  if (written < 0) {
    if (isDead(written)) tunError = written;
    return DROP_TUN_WRITE_FAILED;
  }
  count(INGRESS_COUNTERS_OFFSET, COUNTER_PACKETS_OUT, 1);
  count(INGRESS_COUNTERS_OFFSET, COUNTER_BYTES_OUT, size);
  return 0;
}

/** Receives and handles one batch. Returns how many came, or -errno. */
function receiveBatch(): i32 {
  const messages = message(INGRESS_WORK_OFFSET, 0);
  const received = recvmmsg(udpFd, messages, BATCH_SIZE_MAX, MSG_DONTWAIT);
  if (received < 0) return received;
  const now = <u64> now_ms();
  let bytes = 0;
  for (let i = 0; i < received; i++) {
    bytes += receivedSize(INGRESS_WORK_OFFSET, i);
    const reason = forward(i, now);
    if (reason !== 0) count(INGRESS_COUNTERS_OFFSET, reason, 1);
  }
  count(INGRESS_COUNTERS_OFFSET, COUNTER_PACKETS_IN, received);
  count(INGRESS_COUNTERS_OFFSET, COUNTER_BYTES_IN, bytes);
  resetReceived(INGRESS_WORK_OFFSET, received);
  return received;
}

/**
 * Runs until it is asked to stop (0) or a descriptor is dead (-errno). `base` is the native address
 * of the shared memory.
 */
export function runIngress(base: f64, tun: i32, udp: i32, wakeFd: i32): i32 {
  tunFd = tun;
  udpFd = udp;
  tunError = 0;
  prepare(INGRESS_WORK_OFFSET, <u64> base);
  startWaiting();
  let end = 0;
  while (end === 0 && !isStopped()) {
    enter(INGRESS_EPOCH_OFFSET);
    const result = receiveBatch();
    leave(INGRESS_EPOCH_OFFSET);
    end = tunError;
    if (end === 0) {
      end = waitForMore(INGRESS_WORK_OFFSET, INGRESS_COUNTERS_OFFSET, udpFd, wakeFd, result);
    }
  }
  return end === WOKEN ? 0 : end;
}
