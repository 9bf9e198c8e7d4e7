/** Outer addresses whose datagrams the ingress loops refused, because no peer has them. */
import {
  LANE_REFUSED_OFFSET,
  LANE_SIZE,
  LANES_OFFSET,
  REFUSED_ADDRESS_OFFSET,
  REFUSED_CELL_COUNT,
  REFUSED_CELL_SIZE,
  REFUSED_COUNT_OFFSET,
  REFUSED_LAST_OFFSET,
  REFUSED_PEER_OFFSET,
} from "../../wasm/layout.ts";
import { type Family, IpAddress } from "../net/ip.ts";
import type { SharedMemory } from "./memory.ts";

/** One address, as one lane noted it. */
export interface NotedSource {
  readonly address: string;
  readonly datagrams: number;
  /** ms since 1970 when the last one came. */
  readonly last_ms: number;
  /** Slot of the peer whose subnet held the inner source of the last one; null: of no peer. */
  readonly peerSlot: number | null;
}

/** Reads what lane number `lane` noted; at most `REFUSED_CELL_COUNT` addresses. */
export function readRefusedSources(
  { u64 }: SharedMemory,
  lane: number,
  family: Family,
): NotedSource[] {
  const start = LANES_OFFSET + lane * LANE_SIZE + LANE_REFUSED_OFFSET;
  const found: NotedSource[] = [];
  for (let cell = 0; cell < REFUSED_CELL_COUNT; cell++) {
    const load = (field_offset: number): bigint =>
      Atomics.load(u64, (start + cell * REFUSED_CELL_SIZE + field_offset) / 8);
    const datagrams = load(REFUSED_COUNT_OFFSET);
    const [high, low] = [load(REFUSED_ADDRESS_OFFSET), load(REFUSED_ADDRESS_OFFSET + 8)];
    const last_ms = Number(load(REFUSED_LAST_OFFSET));
    const peer = Number(load(REFUSED_PEER_OFFSET));
    // The loop writes 0 first: the same count before and after means that nothing was written.
    if (datagrams === 0n || load(REFUSED_COUNT_OFFSET) !== datagrams) continue;
    const value = family === 6 ? high << 64n | low : low;
    found.push({
      address: IpAddress.of(family, value).toString(),
      datagrams: Number(datagrams),
      last_ms,
      peerSlot: peer === 0 ? null : peer - 1,
    });
  }
  return found;
}
