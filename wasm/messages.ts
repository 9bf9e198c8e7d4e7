/**
 * A loop's vector of messages for sendmmsg and recvmmsg: `struct mmsghdr`, `struct iovec` and
 * `struct sockaddr_in` of 64-bit Linux (`linux/socket.h`, `linux/uio.h`, `linux/in.h`). Message i
 * has one iovec, one name and packet buffer i; an ICMP error has a message of its own. Pointers are
 * the memory's native address + offset.
 */
import {
  BATCH_SIZE_MAX,
  IOVEC_SIZE,
  MMSGHDR_SIZE,
  PACKET_SIZE_MAX,
  PACKET_STRIDE,
  SOCKADDR_IN_SIZE,
  WORK_ICMP_IOVEC_OFFSET,
  WORK_ICMP_MESSAGE_OFFSET,
  WORK_ICMP_NAME_OFFSET,
  WORK_ICMP_OFFSET,
  WORK_IOVECS_OFFSET,
  WORK_MESSAGES_OFFSET,
  WORK_NAMES_OFFSET,
  WORK_PACKETS_OFFSET,
} from "./layout.ts";
import { AF_INET } from "./kernel.ts";

const MSG_NAME = 0;
const MSG_NAMELEN = 8;
const MSG_IOV = 16;
const MSG_IOVLEN = 24;
const MSG_FLAGS = 48;
const MSG_LEN = 56;
const IOV_BASE = 0;
const IOV_LEN = 8;
const SIN_ADDR = 4;

export function message(work: i32, index: i32): i32 {
  return work + WORK_MESSAGES_OFFSET + index * MMSGHDR_SIZE;
}

function name(work: i32, index: i32): i32 {
  return work + WORK_NAMES_OFFSET + index * SOCKADDR_IN_SIZE;
}

function iovec(work: i32, index: i32): i32 {
  return work + WORK_IOVECS_OFFSET + index * IOVEC_SIZE;
}

export function packetBuffer(work: i32, index: i32): i32 {
  return work + WORK_PACKETS_OFFSET + index * PACKET_STRIDE;
}

/** Lays out one message; the parts are given by their offsets in the memory. */
function layOut(base: u64, at: i32, iovecAt: i32, nameAt: i32, bufferAt: i32): void {
  store<u64>(at + MSG_NAME, base + <u64> nameAt);
  store<u32>(at + MSG_NAMELEN, SOCKADDR_IN_SIZE);
  store<u64>(at + MSG_IOV, base + <u64> iovecAt);
  store<u64>(at + MSG_IOVLEN, 1);
  store<u64>(iovecAt + IOV_BASE, base + <u64> bufferAt);
  store<u64>(iovecAt + IOV_LEN, PACKET_SIZE_MAX);
}

/** Lays out every message; `base` is the native address of the memory. The rest stays zero. */
export function prepare(work: i32, base: u64): void {
  memory.fill(work, 0, WORK_PACKETS_OFFSET);
  for (let i = 0; i < BATCH_SIZE_MAX; i++) {
    layOut(base, message(work, i), iovec(work, i), name(work, i), packetBuffer(work, i));
  }
  layOut(
    base,
    work + WORK_ICMP_MESSAGE_OFFSET,
    work + WORK_ICMP_IOVEC_OFFSET,
    work + WORK_ICMP_NAME_OFFSET,
    work + WORK_ICMP_OFFSET,
  );
}

/** Makes the ICMP message carry `size` bytes to an IPv4 address; returns the message. */
export function addressIcmp(work: i32, to: u32, size: i32): i32 {
  store<u16>(work + WORK_ICMP_NAME_OFFSET, AF_INET);
  store<u32>(work + WORK_ICMP_NAME_OFFSET + SIN_ADDR, bswap<u32>(to));
  store<u64>(work + WORK_ICMP_IOVEC_OFFSET + IOV_LEN, size);
  return work + WORK_ICMP_MESSAGE_OFFSET;
}

/** Makes message i carry `size` bytes of buffer i to an endpoint (as `peer.endpoint` gives it). */
export function address(work: i32, index: i32, endpoint: u64, size: i32): void {
  store<u64>(name(work, index), endpoint);
  store<u64>(iovec(work, index) + IOV_LEN, size);
}

/** Bytes that message i carries. */
export function sendSize(work: i32, index: i32): i32 {
  return <i32> load<u64>(iovec(work, index) + IOV_LEN);
}

/** The kernel wrote the names' lengths of the first `count`: sets them back. */
export function resetReceived(work: i32, count: i32): void {
  for (let i = 0; i < count; i++) {
    store<u32>(message(work, i) + MSG_NAMELEN, SOCKADDR_IN_SIZE);
  }
}

export function receivedSize(work: i32, index: i32): i32 {
  return load<i32>(message(work, index) + MSG_LEN);
}

export function receivedFlags(work: i32, index: i32): i32 {
  return load<i32>(message(work, index) + MSG_FLAGS);
}

export function receivedFrom(work: i32, index: i32): u32 {
  return bswap<u32>(load<u32>(name(work, index) + SIN_ADDR));
}
