/**
 * The loops' vectors for sendmmsg, recvmmsg and writev: `struct mmsghdr`, `iovec`, `sockaddr_in`
 * and `cmsghdr` of 64-bit Linux (`linux/socket.h`, `linux/uio.h`, `linux/in.h`). Message i has one
 * name and room for one control message. Pointers are the memory's native address + offset.
 */
import {
  BATCH_SIZE_MAX,
  CONTROL_SIZE,
  ICMP_ERROR_OFFSET,
  ICMP_IOVEC_OFFSET,
  ICMP_MESSAGE_OFFSET,
  ICMP_NAME_OFFSET,
  IOVEC_SIZE,
  MMSGHDR_SIZE,
  PACKET_SIZE_MAX,
  RECEIVE_BUFFER_STRIDE,
  RECEIVE_BUFFERS_OFFSET,
  RECEIVE_IOVECS_OFFSET,
  SINGLE_MESSAGE_OFFSET,
  SOCKADDR_IN_SIZE,
  WORK_COMMON_SIZE,
  WORK_CONTROLS_OFFSET,
  WORK_MESSAGES_OFFSET,
  WORK_NAMES_OFFSET,
} from "./layout.ts";
import { AF_INET, SOL_UDP, UDP_GRO, UDP_SEGMENT } from "./kernel.ts";

const MSG_NAME = 0;
const MSG_NAMELEN = 8;
const MSG_IOV = 16;
const MSG_IOVLEN = 24;
const MSG_CONTROL = 32;
const MSG_CONTROLLEN = 40;
const MSG_FLAGS = 48;
const MSG_LEN = 56;
const IOV_BASE = 0;
const IOV_LEN = 8;
const SIN_ADDR = 4;
const CMSG_LEN = 0;
const CMSG_LEVEL = 8;
const CMSG_TYPE = 12;
const CMSG_DATA = 16;
/** CMSG_SPACE of a u16 and of an int alike. */
const CONTROL_SPACE = 24;

/** Native address of the memory; of this instance, which runs one loop. */
let base: u64 = 0;

export function message(work: i32, index: i32): i32 {
  return work + WORK_MESSAGES_OFFSET + index * MMSGHDR_SIZE;
}

function name(work: i32, index: i32): i32 {
  return work + WORK_NAMES_OFFSET + index * SOCKADDR_IN_SIZE;
}

function control(work: i32, index: i32): i32 {
  return work + WORK_CONTROLS_OFFSET + index * CONTROL_SIZE;
}

/** An iovec: `size` bytes at the offset `buffer`. */
export function setIovec(at: i32, buffer: i32, size: i32): void {
  store<u64>(at + IOV_BASE, base + <u64> buffer);
  store<u64>(at + IOV_LEN, size);
}

/** The offset that `setIovec` was given. */
export function iovecBuffer(at: i32): i32 {
  return <i32> (load<u64>(at + IOV_BASE) - base);
}

function setName(at: i32, nameAt: i32): void {
  store<u64>(at + MSG_NAME, base + <u64> nameAt);
  store<u32>(at + MSG_NAMELEN, SOCKADDR_IN_SIZE);
}

function setIovecs(at: i32, iovecs: i32, count: i32): void {
  store<u64>(at + MSG_IOV, base + <u64> iovecs);
  store<u64>(at + MSG_IOVLEN, count);
}

/** What both loops begin with; `nativeBase` is the native address of the memory. */
function prepare(work: i32, nativeBase: u64): void {
  base = nativeBase;
  memory.fill(work, 0, WORK_COMMON_SIZE);
  for (let i = 0; i < BATCH_SIZE_MAX; i++) {
    const at = message(work, i);
    setName(at, name(work, i));
    store<u64>(at + MSG_CONTROL, base + <u64> control(work, i));
  }
}

// ---------------------------------------------------------------- egress

/** Before a loop's first batch. */
export function prepareEgress(work: i32, nativeBase: u64): void {
  prepare(work, nativeBase);
  for (let i = 0; i < BATCH_SIZE_MAX; i++) {
    const at = control(work, i);
    store<u64>(at + CMSG_LEN, CMSG_DATA + sizeof<u16>());
    store<i32>(at + CMSG_LEVEL, SOL_UDP);
    store<i32>(at + CMSG_TYPE, UDP_SEGMENT);
  }
  memory.fill(SINGLE_MESSAGE_OFFSET, 0, MMSGHDR_SIZE);
  memory.fill(ICMP_MESSAGE_OFFSET, 0, MMSGHDR_SIZE + IOVEC_SIZE + SOCKADDR_IN_SIZE);
  setName(ICMP_MESSAGE_OFFSET, ICMP_NAME_OFFSET);
  setIovecs(ICMP_MESSAGE_OFFSET, ICMP_IOVEC_OFFSET, 1);
}

/** Makes the ICMP message carry `size` bytes to an IPv4 address; returns the message. */
export function addressIcmp(to: u32, size: i32): i32 {
  store<u16>(ICMP_NAME_OFFSET, AF_INET);
  store<u32>(ICMP_NAME_OFFSET + SIN_ADDR, bswap<u32>(to));
  setIovec(ICMP_IOVEC_OFFSET, ICMP_ERROR_OFFSET, size);
  return ICMP_MESSAGE_OFFSET;
}

/**
 * Makes message i carry what `count` iovecs say to an endpoint (as `peer.endpoint` gives it): one
 * datagram, or where `segment` is not 0, datagrams of so many bytes each, the last maybe less.
 */
export function address(
  work: i32,
  index: i32,
  endpoint: u64,
  iovecs: i32,
  count: i32,
  segment: i32,
): void {
  const at = message(work, index);
  store<u64>(name(work, index), endpoint);
  setIovecs(at, iovecs, count);
  store<u16>(control(work, index) + CMSG_DATA, <u16> segment);
  store<u64>(at + MSG_CONTROLLEN, segment === 0 ? 0 : CONTROL_SPACE);
}

/** The message that carries packet `part` of the `packets` in message i to where that goes. */
export function single(work: i32, index: i32, part: i32, packets: i32): i32 {
  const at = message(work, index);
  const count = <i32> load<u64>(at + MSG_IOVLEN) / packets;
  const iovecs = <i32> (load<u64>(at + MSG_IOV) - base) + part * count * IOVEC_SIZE;
  setName(SINGLE_MESSAGE_OFFSET, name(work, index));
  setIovecs(SINGLE_MESSAGE_OFFSET, iovecs, count);
  return SINGLE_MESSAGE_OFFSET;
}

// ---------------------------------------------------------------- ingress

/** Before a loop's first batch. */
export function prepareIngress(work: i32, nativeBase: u64): void {
  prepare(work, nativeBase);
  for (let i = 0; i < BATCH_SIZE_MAX; i++) {
    const iovec = RECEIVE_IOVECS_OFFSET + i * IOVEC_SIZE;
    setIovec(iovec, receiveBuffer(i), PACKET_SIZE_MAX);
    setIovecs(message(work, i), iovec, 1);
  }
  resetReceived(work, BATCH_SIZE_MAX);
}

/** Where message i is received to. */
export function receiveBuffer(index: i32): i32 {
  return RECEIVE_BUFFERS_OFFSET + index * RECEIVE_BUFFER_STRIDE;
}

/** The kernel wrote the lengths of names and controls of the first `count`: sets them back. */
export function resetReceived(work: i32, count: i32): void {
  for (let i = 0; i < count; i++) {
    const at = message(work, i);
    store<u32>(at + MSG_NAMELEN, SOCKADDR_IN_SIZE);
    store<u64>(at + MSG_CONTROLLEN, CONTROL_SIZE);
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

/** Bytes of each datagram but the last in message i; all that it has, if it is one datagram. */
export function receivedSegment(work: i32, index: i32): i32 {
  const size = receivedSize(work, index);
  const controlSize = <i32> load<u64>(message(work, index) + MSG_CONTROLLEN);
  if (controlSize < CMSG_DATA + <i32> sizeof<i32>()) return size;
  const at = control(work, index);
  if (load<i32>(at + CMSG_LEVEL) !== SOL_UDP || load<i32>(at + CMSG_TYPE) !== UDP_GRO) return size;
  const segment = load<i32>(at + CMSG_DATA);
  return segment > 0 ? min(segment, size) : size;
}
