/**
 * The loops' vectors for sendmmsg, recvmmsg and writev: `struct mmsghdr`, `iovec`, `sockaddr_in` or
 * `sockaddr_in6`, and `cmsghdr` of 64-bit Linux (`linux/socket.h`, `linux/uio.h`, `linux/in.h`,
 * `linux/in6.h`). Message i has one name and room for one control message. Pointers are the
 * memory's native address + offset.
 */
import {
  BATCH_SIZE_MAX,
  CONTROL_SIZE,
  FRAGMENT_IOVECS_OFFSET,
  ICMP_ERROR_OFFSET,
  ICMP_IOVEC_OFFSET,
  ICMP_MESSAGE_OFFSET,
  ICMP_NAME_OFFSET,
  IOVEC_SIZE,
  MMSGHDR_SIZE,
  NAME_SIZE,
  PACKET_SIZE_MAX,
  RECEIVE_BUFFER_STRIDE,
  RECEIVE_BUFFERS_OFFSET,
  RECEIVE_IOVECS_OFFSET,
  SINGLE_MESSAGE_OFFSET,
  SOCKADDR_IN6_SIZE,
  SOCKADDR_IN_SIZE,
  WORK_COMMON_SIZE,
  WORK_CONTROLS_OFFSET,
  WORK_MESSAGES_OFFSET,
  WORK_NAMES_OFFSET,
} from "./layout.ts";
import { AF_INET, AF_INET6, SOL_UDP, UDP_GRO, UDP_SEGMENT } from "./kernel.ts";
import * as lane from "./lane.ts";
import { writeName } from "./peer.ts";

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
const SIN6_ADDR = 8;
const CMSG_LEN = 0;
const CMSG_LEVEL = 8;
const CMSG_TYPE = 12;
const CMSG_DATA = 16;
/** CMSG_SPACE of a u16 and of an int alike. */
const CONTROL_SPACE = 24;

/** Message i. */
export function message(index: i32): i32 {
  return lane.work + WORK_MESSAGES_OFFSET + index * MMSGHDR_SIZE;
}

/** Where message i goes to, or came from. */
export function name(index: i32): i32 {
  return lane.work + WORK_NAMES_OFFSET + index * NAME_SIZE;
}

function control(index: i32): i32 {
  return lane.work + WORK_CONTROLS_OFFSET + index * CONTROL_SIZE;
}

/** Bytes of a name of the lane's family. */
export function nameSize(): i32 {
  return lane.isV6 ? SOCKADDR_IN6_SIZE : SOCKADDR_IN_SIZE;
}

/** An iovec: `size` bytes at the offset `buffer`. */
export function setIovec(at: i32, buffer: i32, size: i32): void {
  store<u64>(at + IOV_BASE, lane.base + <u64> buffer);
  store<u64>(at + IOV_LEN, size);
}

/** Where what an iovec says starts. */
export function iovecBuffer(at: i32): i32 {
  return <i32> (load<u64>(at + IOV_BASE) - lane.base);
}

/** How many bytes it says. */
export function iovecSize(at: i32): i32 {
  return load<i32>(at + IOV_LEN);
}

function setName(at: i32, nameAt: i32): void {
  store<u64>(at + MSG_NAME, lane.base + <u64> nameAt);
  store<u32>(at + MSG_NAMELEN, nameSize());
}

function setIovecs(at: i32, iovecs: i32, count: i32): void {
  store<u64>(at + MSG_IOV, lane.base + <u64> iovecs);
  store<u64>(at + MSG_IOVLEN, count);
}

/** What both loops begin with. */
function prepare(): void {
  memory.fill(lane.work, 0, WORK_COMMON_SIZE);
  for (let i = 0; i < BATCH_SIZE_MAX; i++) {
    const at = message(i);
    setName(at, name(i));
    store<u64>(at + MSG_CONTROL, lane.base + <u64> control(i));
  }
  const icmp = lane.work + ICMP_MESSAGE_OFFSET;
  setName(icmp, lane.work + ICMP_NAME_OFFSET);
  setIovecs(icmp, lane.work + ICMP_IOVEC_OFFSET, 1);
}

/** Makes the ICMP message carry `size` bytes to the IP address at `to`; returns the message. */
export function addressIcmp(to: i32, size: i32): i32 {
  const at = lane.work + ICMP_NAME_OFFSET;
  store<u16>(at, lane.isV6 ? AF_INET6 : AF_INET);
  if (lane.isV6) memory.copy(at + SIN6_ADDR, to, 16);
  else store<u32>(at + SIN_ADDR, load<u32>(to));
  setIovec(lane.work + ICMP_IOVEC_OFFSET, lane.work + ICMP_ERROR_OFFSET, size);
  return lane.work + ICMP_MESSAGE_OFFSET;
}

// ---------------------------------------------------------------- egress

/** Before a loop's first batch. */
export function prepareEgress(): void {
  prepare();
  for (let i = 0; i < BATCH_SIZE_MAX; i++) {
    const at = control(i);
    store<u64>(at + CMSG_LEN, CMSG_DATA + sizeof<u16>());
    store<i32>(at + CMSG_LEVEL, SOL_UDP);
    store<i32>(at + CMSG_TYPE, UDP_SEGMENT);
  }
  memory.fill(lane.work + SINGLE_MESSAGE_OFFSET, 0, MMSGHDR_SIZE);
}

/**
 * Makes message i carry what `count` iovecs say to an endpoint (which `peer.endpoint` gave last):
 * one datagram, or where `segment` is not 0, datagrams of so many bytes each, the last maybe less.
 */
export function address(index: i32, endpoint: u64, iovecs: i32, count: i32, segment: i32): void {
  const at = message(index);
  writeName(name(index), endpoint);
  setIovecs(at, iovecs, count);
  store<u16>(control(index) + CMSG_DATA, <u16> segment);
  store<u64>(at + MSG_CONTROLLEN, segment === 0 ? 0 : CONTROL_SPACE);
}

/** Iovecs of each of the `packets` in message i. */
function iovecCount(index: i32, packets: i32): i32 {
  return <i32> load<u64>(message(index) + MSG_IOVLEN) / packets;
}

/** The first iovec of packet `part` of the `packets` in message i. */
export function partIovecs(index: i32, part: i32, packets: i32): i32 {
  const first = <i32> (load<u64>(message(index) + MSG_IOV) - lane.base);
  return first + part * iovecCount(index, packets) * IOVEC_SIZE;
}

function singleMessage(index: i32, iovecs: i32, count: i32): i32 {
  const at = lane.work + SINGLE_MESSAGE_OFFSET;
  setName(at, name(index));
  setIovecs(at, iovecs, count);
  return at;
}

/** The message that carries packet `part` of the `packets` in message i to where that goes. */
export function single(index: i32, part: i32, packets: i32): i32 {
  return singleMessage(index, partIovecs(index, part, packets), iovecCount(index, packets));
}

/** The message that carries what the two iovecs for fragments say to where message i goes. */
export function singleFragment(index: i32): i32 {
  return singleMessage(index, lane.work + FRAGMENT_IOVECS_OFFSET, 2);
}

// ---------------------------------------------------------------- ingress

/** Before a loop's first batch. */
export function prepareIngress(): void {
  prepare();
  for (let i = 0; i < BATCH_SIZE_MAX; i++) {
    const iovec = lane.work + RECEIVE_IOVECS_OFFSET + i * IOVEC_SIZE;
    setIovec(iovec, receiveBuffer(i), PACKET_SIZE_MAX);
    setIovecs(message(i), iovec, 1);
  }
  resetReceived(BATCH_SIZE_MAX);
}

/** Where message i is received to. */
export function receiveBuffer(index: i32): i32 {
  return lane.work + RECEIVE_BUFFERS_OFFSET + index * RECEIVE_BUFFER_STRIDE;
}

/** The kernel wrote the lengths of names and controls of the first `count`: sets them back. */
export function resetReceived(count: i32): void {
  for (let i = 0; i < count; i++) {
    const at = message(i);
    store<u32>(at + MSG_NAMELEN, nameSize());
    store<u64>(at + MSG_CONTROLLEN, CONTROL_SIZE);
  }
}

export function receivedSize(index: i32): i32 {
  return load<i32>(message(index) + MSG_LEN);
}

export function receivedFlags(index: i32): i32 {
  return load<i32>(message(index) + MSG_FLAGS);
}

/** Bytes of each datagram but the last in message i; all that it has, if it is one datagram. */
export function receivedSegment(index: i32): i32 {
  const size = receivedSize(index);
  const controlSize = <i32> load<u64>(message(index) + MSG_CONTROLLEN);
  if (controlSize < CMSG_DATA + <i32> sizeof<i32>()) return size;
  const at = control(index);
  if (load<i32>(at + CMSG_LEVEL) !== SOL_UDP || load<i32>(at + CMSG_TYPE) !== UDP_GRO) return size;
  const segment = load<i32>(at + CMSG_DATA);
  return segment > 0 ? min(segment, size) : size;
}
