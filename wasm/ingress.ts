/**
 * The loop from the peers to the TUN: receives datagrams, checks that a peer sent each and that it
 * is one whole IPv4 packet, and writes it to the TUN (flannel's udp backend). With offloads a
 * message brings many datagrams of one sender.
 */
import {
  BATCH_SIZE_MAX,
  COUNTER_BYTES_IN,
  COUNTER_PACKETS_IN,
  DROP_DATAGRAM_TRUNCATED,
  DROP_SOURCE_NOT_PEER,
  DROP_SOURCE_SPOOFED,
  DROP_TTL_EXPIRED,
  INGRESS_COUNTERS_OFFSET,
  INGRESS_EPOCH_OFFSET,
  INGRESS_WORK_OFFSET,
} from "./layout.ts";
import { count } from "./counters.ts";
import { enter, leave } from "./epoch.ts";
import { MSG_DONTWAIT, MSG_TRUNC } from "./kernel.ts";
import {
  message,
  prepareIngress,
  receiveBuffer,
  receivedFlags,
  receivedFrom,
  receivedSegment,
  receivedSize,
  resetReceived,
} from "./messages.ts";
import { lookupPeer } from "./fib.ts";
import { countReceived, endpointAddress } from "./peer.ts";
import { lookupSource } from "./source_table.ts";
import { now_ms, recvmmsg } from "./sys.ts";
import * as tun from "./tun_writer.ts";
import { isStopped, startWaiting, waitForMore, WOKEN } from "./wait.ts";
import * as ipv4 from "./wire/ipv4.ts";

let udpFd: i32 = -1;
/** The overlay's network, as address and mask. */
let network: u32 = 0;
let networkMask: u32 = 0;
/** Packets of the message at hand that its peer is credited with, and their bytes. */
let heardPackets: i32 = 0;
let heardBytes: i32 = 0;

function drop(reason: i32, packets: i32): void {
  count(INGRESS_COUNTERS_OFFSET, reason, packets);
}

/**
 * Whether a peer at the outer address `from` may send as the inner address: as any outside of the
 * overlay, and inside of it as its own subnet alone. Several peers may share an outer address.
 */
function maySendAs(inner: u32, from: u32): bool {
  if ((inner & networkMask) !== network) return true;
  const slot = lookupPeer(inner);
  return slot >= 0 && endpointAddress(slot) === from;
}

/** Handles one datagram of a peer. */
function forward(packet: i32, size: i32, from: u32): void {
  const reason = ipv4.check(packet, size);
  if (reason !== 0) return drop(reason, 1);
  heardPackets++;
  heardBytes += size;
  if (!maySendAs(ipv4.source(packet), from)) return drop(DROP_SOURCE_SPOOFED, 1);
  if (!ipv4.decrementTtl(packet)) return drop(DROP_TTL_EXPIRED, 1);
  tun.deliver(packet, size);
}

/** Handles message i, of one datagram or of many; returns how many. */
function handle(index: i32, now: u64): i32 {
  const size = receivedSize(INGRESS_WORK_OFFSET, index);
  const segment = receivedSegment(INGRESS_WORK_OFFSET, index);
  const datagrams = size === 0 ? 1 : (size + segment - 1) / segment;
  const from = receivedFrom(INGRESS_WORK_OFFSET, index);
  const slot = lookupSource(from);
  const isTruncated = (receivedFlags(INGRESS_WORK_OFFSET, index) & MSG_TRUNC) !== 0;
  if (slot < 0 || isTruncated) {
    drop(slot < 0 ? DROP_SOURCE_NOT_PEER : DROP_DATAGRAM_TRUNCATED, datagrams);
    return datagrams;
  }
  const buffer = receiveBuffer(index);
  heardPackets = heardBytes = 0;
  for (let i = 0; i < datagrams; i++) {
    const at = i * segment;
    forward(buffer + at, min(segment, size - at), from);
  }
  if (heardPackets > 0) countReceived(slot, heardPackets, heardBytes, now);
  return datagrams;
}

/** Receives and handles one batch. Returns how many messages came, or -errno. */
function receiveBatch(): i32 {
  const messages = message(INGRESS_WORK_OFFSET, 0);
  const received = recvmmsg(udpFd, messages, BATCH_SIZE_MAX, MSG_DONTWAIT);
  if (received < 0) return received;
  const now = <u64> now_ms();
  let datagrams = 0;
  let bytes = 0;
  for (let i = 0; i < received; i++) {
    bytes += receivedSize(INGRESS_WORK_OFFSET, i);
    datagrams += handle(i, now);
  }
  tun.flush();
  count(INGRESS_COUNTERS_OFFSET, COUNTER_PACKETS_IN, datagrams);
  count(INGRESS_COUNTERS_OFFSET, COUNTER_BYTES_IN, bytes);
  resetReceived(INGRESS_WORK_OFFSET, received);
  return received;
}

/**
 * Runs until it is asked to stop (0) or a descriptor is dead (-errno). `base` is the native address
 * of the shared memory; `offloads` says which bits of `OFFLOAD_…` the descriptors have; the overlay
 * is `networkAddress` under `mask`.
 */
export function runIngress(
  base: f64,
  tunFd: i32,
  udp: i32,
  wakeFd: i32,
  offloads: i32,
  networkAddress: u32,
  mask: u32,
): i32 {
  udpFd = udp;
  network = networkAddress;
  networkMask = mask;
  prepareIngress(INGRESS_WORK_OFFSET, <u64> base);
  tun.setUp(tunFd, offloads);
  startWaiting();
  let end = 0;
  while (end === 0 && !isStopped()) {
    enter(INGRESS_EPOCH_OFFSET);
    const result = receiveBatch();
    leave(INGRESS_EPOCH_OFFSET);
    end = tun.lastError();
    if (end === 0) {
      end = waitForMore(INGRESS_WORK_OFFSET, INGRESS_COUNTERS_OFFSET, udpFd, wakeFd, result);
    }
  }
  return end === WOKEN ? 0 : end;
}
