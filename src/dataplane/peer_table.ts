/** The peers' entries in shared memory: endpoints are written here, counters by the loops. */
import {
  PEER_ENDPOINT_OFFSET,
  PEER_LAST_HEARD_OFFSET,
  PEER_RECEIVED_BYTES_OFFSET,
  PEER_RECEIVED_PACKETS_OFFSET,
  PEER_SENT_BYTES_OFFSET,
  PEER_SENT_PACKETS_OFFSET,
  PEER_SIZE,
  PEERS_OFFSET,
} from "../../wasm/layout.ts";
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

const AF_INET = 2n;

/** The first 8 bytes of a `sockaddr_in` (`linux/in.h`), as a little-endian number. */
function packEndpoint(address: number, port: number): bigint {
  const bytes = new DataView(new ArrayBuffer(8));
  bytes.setUint16(0, Number(AF_INET), true);
  bytes.setUint16(2, port);
  bytes.setUint32(4, address);
  return bytes.getBigUint64(0, true);
}

export class PeerTable {
  readonly #u64: BigUint64Array<SharedArrayBuffer>;

  constructor(shared: SharedMemory) {
    this.#u64 = shared.u64;
  }

  /** Clears everything of a slot. No loop may hold it. */
  reset(slot: number): void {
    const first = (PEERS_OFFSET + slot * PEER_SIZE) / 8;
    for (let index = first; index < first + PEER_SIZE / 8; index++) {
      Atomics.store(this.#u64, index, 0n);
    }
  }

  /** Where packets to the peer go from now on; IPv4 address and port in host order. */
  setEndpoint(slot: number, address: number, port: number): void {
    this.#store(slot, PEER_ENDPOINT_OFFSET, packEndpoint(address, port));
  }

  /** Packets to the peer are dropped from now on. */
  clearEndpoint(slot: number): void {
    this.#store(slot, PEER_ENDPOINT_OFFSET, 0n);
  }

  counters(slot: number): PeerCounters {
    const lastHeard_ms = this.#load(slot, PEER_LAST_HEARD_OFFSET);
    return {
      sentPackets: this.#load(slot, PEER_SENT_PACKETS_OFFSET),
      sentBytes: this.#load(slot, PEER_SENT_BYTES_OFFSET),
      receivedPackets: this.#load(slot, PEER_RECEIVED_PACKETS_OFFSET),
      receivedBytes: this.#load(slot, PEER_RECEIVED_BYTES_OFFSET),
      lastHeard_ms: lastHeard_ms === 0 ? null : lastHeard_ms,
      pathMtu_bytes: null,
    };
  }

  #load(slot: number, field_offset: number): number {
    return Number(Atomics.load(this.#u64, (PEERS_OFFSET + slot * PEER_SIZE + field_offset) / 8));
  }

  #store(slot: number, field_offset: number, value: bigint): void {
    Atomics.store(this.#u64, (PEERS_OFFSET + slot * PEER_SIZE + field_offset) / 8, value);
  }
}
