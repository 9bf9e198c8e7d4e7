/** One peer's entry. Each function touches only the cache line that its loop writes. */
import {
  PEER_ENDPOINT_OFFSET,
  PEER_LAST_HEARD_OFFSET,
  PEER_RECEIVED_BYTES_OFFSET,
  PEER_RECEIVED_PACKETS_OFFSET,
  PEER_SENT_BYTES_OFFSET,
  PEER_SENT_PACKETS_OFFSET,
  PEER_SIZE,
  PEERS_OFFSET,
} from "./layout.ts";
import { add } from "./counters.ts";

/** The first 8 bytes of a `sockaddr_in`, whole; 0 if the peer has no endpoint. */
export function endpoint(slot: i32): u64 {
  return atomic.load<u64>(PEERS_OFFSET + slot * PEER_SIZE + PEER_ENDPOINT_OFFSET);
}

/** The outer IPv4 address, as a number in host order; 0 if the peer has no endpoint. */
export function endpointAddress(slot: i32): u32 {
  return bswap<u32>(<u32> (endpoint(slot) >> 32));
}

export function countSent(slot: i32, packets: i32, size: i32): void {
  const peer = PEERS_OFFSET + slot * PEER_SIZE;
  add(peer + PEER_SENT_PACKETS_OFFSET, packets);
  add(peer + PEER_SENT_BYTES_OFFSET, size);
}

export function countReceived(slot: i32, packets: i32, size: i32, now: u64): void {
  const peer = PEERS_OFFSET + slot * PEER_SIZE;
  add(peer + PEER_RECEIVED_PACKETS_OFFSET, packets);
  add(peer + PEER_RECEIVED_BYTES_OFFSET, size);
  store<u64>(peer + PEER_LAST_HEARD_OFFSET, now);
}
