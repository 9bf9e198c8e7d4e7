/**
 * One peer's entry, of the lane's family. Each counter is of one direction; the loops of several
 * lanes add to it, once a message, hence atomically.
 */
import {
  PEER_ADDRESS_OFFSET,
  PEER_ENDPOINT_OFFSET,
  PEER_LAST_HEARD_OFFSET,
  PEER_PATH_MTU_OFFSET,
  PEER_PATH_MTU_UNTIL_OFFSET,
  PEER_RECEIVED_BYTES_OFFSET,
  PEER_RECEIVED_PACKETS_OFFSET,
  PEER_SENT_BYTES_OFFSET,
  PEER_SENT_PACKETS_OFFSET,
  PEER_SIZE,
  PEER_VTEP_MAC_OFFSET,
} from "./layout.ts";
import * as lane from "./lane.ts";

/** The IPv6 address of the endpoint last asked for, in the order of its bytes. */
let first: u64 = 0;
let second: u64 = 0;

function entry(slot: i32): i32 {
  return lane.peers + slot * PEER_SIZE;
}

function word(at: i32): u64 {
  return atomic.load<u64>(at + PEER_ENDPOINT_OFFSET);
}

/**
 * Where packets to the peer go, as `PEER_ENDPOINT_OFFSET` has it; 0 if it has no endpoint. An IPv6
 * address is kept for `writeName` and `isAt`: it is two words, of one endpoint if the word that
 * every change changes is the same before and after.
 */
export function endpoint(slot: i32): u64 {
  const at = entry(slot);
  const before = word(at);
  if (!lane.isV6) return before;
  first = atomic.load<u64>(at + PEER_ADDRESS_OFFSET);
  second = atomic.load<u64>(at + PEER_ADDRESS_OFFSET, 8);
  return word(at) === before ? before : 0;
}

/** Writes an endpoint, the one last asked for, as the kernel's `sockaddr_in` or `sockaddr_in6`. */
export function writeName(at: i32, to: u64): void {
  if (!lane.isV6) return store<u64>(at, to);
  // Behind family and port is the flow label, which is left to the kernel.
  store<u64>(at, to & 0xffffffff);
  store<u64>(at + 8, first);
  store<u64>(at + 16, second);
}

/** Whether a `sockaddr_in` or `sockaddr_in6` has the peer's outer address. */
export function isAt(slot: i32, name: i32): bool {
  const to = endpoint(slot);
  if (to === 0) return false;
  if (!lane.isV6) return <u32> (to >> 32) === load<u32>(name + 4);
  return load<u64>(name + 8) === first && load<u64>(name + 16) === second;
}

/** The MAC address of the peer's VTEP, as in `LANE_VTEP_MAC_OFFSET`. */
export function vtepMac(slot: i32): u64 {
  return atomic.load<u64>(entry(slot) + PEER_VTEP_MAC_OFFSET);
}

function add(at: i32, amount: i32): void {
  atomic.add<u64>(at, <u64> amount);
}

export function countSent(slot: i32, packets: i32, size: i32): void {
  add(entry(slot) + PEER_SENT_PACKETS_OFFSET, packets);
  add(entry(slot) + PEER_SENT_BYTES_OFFSET, size);
}

export function countReceived(slot: i32, packets: i32, size: i32, now: u64): void {
  add(entry(slot) + PEER_RECEIVED_PACKETS_OFFSET, packets);
  add(entry(slot) + PEER_RECEIVED_BYTES_OFFSET, size);
  store<u64>(entry(slot) + PEER_LAST_HEARD_OFFSET, now);
}

/** What the path to the peer was last found to carry, in bytes of inner packets; 0: all. */
export function pathMtu(slot: i32): i32 {
  return <i32> load<u64>(entry(slot) + PEER_PATH_MTU_OFFSET);
}

/** Until when that is believed, in ms since 1970. */
export function pathMtuUntil_ms(slot: i32): f64 {
  return <f64> load<u64>(entry(slot) + PEER_PATH_MTU_UNTIL_OFFSET);
}

/** Notes what the path to the peer was found to carry, in bytes of inner packets. */
export function notePathMtu(slot: i32, mtu: i32, until_ms: u64): void {
  store<u64>(entry(slot) + PEER_PATH_MTU_UNTIL_OFFSET, until_ms);
  store<u64>(entry(slot) + PEER_PATH_MTU_OFFSET, <u64> mtu);
}
