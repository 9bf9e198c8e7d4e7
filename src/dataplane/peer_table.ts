/**
 * The peers' entries in shared memory, of one address family: endpoints are written here, counters
 * by the loops.
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
  PEERS4_OFFSET,
  PEERS6_OFFSET,
} from "../../wasm/layout.ts";
import type { ForwardingEntry } from "../backend/backend.ts";
import type { Family } from "../net/ip.ts";
import { macNumber } from "./lanes.ts";
import type { SharedMemory } from "./memory.ts";

/** Inner packets and their bytes, since the peer was added. */
export interface PeerCounters {
  readonly sentPackets: number;
  readonly sentBytes: number;
  readonly receivedPackets: number;
  readonly receivedBytes: number;
  /** ms since 1970 when a packet last came from it; null if none has. */
  readonly lastHeard_ms: number | null;
  /** Of the largest inner packet, where the path was found to carry less than assumed. */
  readonly pathMtu_bytes: number | null;
}

const AF_INET = 2;
const AF_INET6 = 10;

export class PeerTable {
  readonly #u64: BigUint64Array<SharedArrayBuffer>;
  readonly #start: number;
  /** Makes each IPv6 endpoint's word another; see `PEER_ENDPOINT_OFFSET`. */
  #change = 0;

  constructor(shared: SharedMemory, family: Family) {
    this.#u64 = shared.u64;
    this.#start = family === 4 ? PEERS4_OFFSET : PEERS6_OFFSET;
  }

  /** Clears everything of a slot. No loop may hold it. */
  reset(slot: number): void {
    const first = (this.#start + slot * PEER_SIZE) / 8;
    for (let index = first; index < first + PEER_SIZE / 8; index++) {
      Atomics.store(this.#u64, index, 0n);
    }
  }

  /** Where packets to the peer go from now on. What its path carries is not known then. */
  setEndpoint(slot: number, { address, port, vtepMac }: ForwardingEntry): void {
    this.#store(slot, PEER_VTEP_MAC_OFFSET, vtepMac === null ? 0n : macNumber(vtepMac));
    this.#store(slot, PEER_PATH_MTU_OFFSET, 0n);
    const word = new DataView(new ArrayBuffer(8));
    word.setUint16(0, address.family === 4 ? AF_INET : AF_INET6, true);
    word.setUint16(2, port);
    const bytes = address.toBytes();
    if (address.family === 4) {
      word.setUint32(4, address.toUint32());
    } else {
      // Between two addresses there is none, or a reader could take half of each.
      this.clearEndpoint(slot);
      const halves = new DataView(bytes.buffer);
      this.#store(slot, PEER_ADDRESS_OFFSET, halves.getBigUint64(0, true));
      this.#store(slot, PEER_ADDRESS_OFFSET + 8, halves.getBigUint64(8, true));
      this.#change = (this.#change + 1) >>> 0;
      word.setUint32(4, this.#change);
    }
    this.#store(slot, PEER_ENDPOINT_OFFSET, word.getBigUint64(0, true));
  }

  /**
   * What the path to the peer carries, in bytes of inner packets; 0: all. It is believed until
   * then, in ms since 1970, and for `PATH_MTU_BELIEVED_MAX_MS` at most.
   */
  setPathMtu(slot: number, mtu_bytes: number, until_ms: number): void {
    this.#store(slot, PEER_PATH_MTU_UNTIL_OFFSET, BigInt(Math.floor(until_ms)));
    this.#store(slot, PEER_PATH_MTU_OFFSET, BigInt(mtu_bytes));
  }

  /** Packets to the peer are dropped from now on. */
  clearEndpoint(slot: number): void {
    this.#store(slot, PEER_ENDPOINT_OFFSET, 0n);
  }

  counters(slot: number): PeerCounters {
    const load = (field_offset: number) =>
      Number(Atomics.load(this.#u64, this.#index(slot, field_offset)));
    return {
      sentPackets: load(PEER_SENT_PACKETS_OFFSET),
      sentBytes: load(PEER_SENT_BYTES_OFFSET),
      receivedPackets: load(PEER_RECEIVED_PACKETS_OFFSET),
      receivedBytes: load(PEER_RECEIVED_BYTES_OFFSET),
      lastHeard_ms: load(PEER_LAST_HEARD_OFFSET) || null,
      pathMtu_bytes: load(PEER_PATH_MTU_OFFSET) || null,
    };
  }

  #index(slot: number, field_offset: number): number {
    return (this.#start + slot * PEER_SIZE + field_offset) / 8;
  }

  #store(slot: number, field_offset: number, value: bigint): void {
    Atomics.store(this.#u64, this.#index(slot, field_offset), value);
  }
}
