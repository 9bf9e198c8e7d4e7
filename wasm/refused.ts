/**
 * Outer addresses whose datagrams were refused because no peer has them, so that the status can
 * name them. Ingress only.
 */
import { load32, load64 } from "./bytes.ts";
import * as encapsulation from "./encapsulation.ts";
import * as ip from "./ip.ts";
import * as lane from "./lane.ts";
import {
  REFUSED_ADDRESS_OFFSET,
  REFUSED_CELL_COUNT,
  REFUSED_CELL_SIZE,
  REFUSED_COUNT_OFFSET,
  REFUSED_LAST_OFFSET,
  REFUSED_PEER_OFFSET,
} from "./layout.ts";
import * as lookup from "./lookup.ts";

/** Offsets of the address in `sockaddr_in` and `sockaddr_in6`. */
const SIN_ADDR = 4;
const SIN6_ADDR = 8;
/** 2^64 divided by the golden ratio. */
const HASH_MULTIPLIER: u64 = 0x9e3779b97f4a7c15;

/** 1 + the slot of the peer whose subnet holds the source of the packet in a datagram; 0: none. */
function peerOf(datagram: i32, size: i32): u64 {
  if (encapsulation.check(datagram, size) !== 0) return 0;
  const packet = datagram + encapsulation.size;
  const rest = size - encapsulation.size;
  const packetSize = encapsulation.size > 0 ? ip.sizeInFrame(packet, rest) : rest;
  if (ip.check(packet, packetSize) !== 0) return 0;
  return <u64> (lookup.ofSource(packet) + 1);
}

/**
 * Notes that `count` datagrams from the outer address in `name` were refused, the first of which
 * lies at `datagram`. An address that another one's cell is taken from begins at this count.
 */
export function note(datagram: i32, size: i32, name: i32, count: i32, now: u64): void {
  const high = lane.isV6 ? load64(name + SIN6_ADDR) : 0;
  const low = lane.isV6 ? load64(name + SIN6_ADDR + 8) : <u64> load32(name + SIN_ADDR);
  const hash = ((high ^ low) * HASH_MULTIPLIER) >> 32;
  const cell = lane.refused() + (<i32> hash & (REFUSED_CELL_COUNT - 1)) * REFUSED_CELL_SIZE;
  const isSame = load<u64>(cell + REFUSED_ADDRESS_OFFSET) === high &&
    load<u64>(cell + REFUSED_ADDRESS_OFFSET + 8) === low;
  const before = isSame ? load<u64>(cell + REFUSED_COUNT_OFFSET) : 0;
  // No count: the control side does not read an address while half of it is written.
  atomic.store<u64>(cell + REFUSED_COUNT_OFFSET, 0);
  atomic.store<u64>(cell + REFUSED_ADDRESS_OFFSET, high);
  atomic.store<u64>(cell + REFUSED_ADDRESS_OFFSET + 8, low);
  atomic.store<u64>(cell + REFUSED_LAST_OFFSET, now);
  atomic.store<u64>(cell + REFUSED_PEER_OFFSET, peerOf(datagram, size));
  atomic.store<u64>(cell + REFUSED_COUNT_OFFSET, before + <u64> count);
}
