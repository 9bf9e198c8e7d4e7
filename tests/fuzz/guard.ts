/** Places of the shared memory in which a loop has no business: filled, remembered, compared. */
import {
  COUNTERS_SIZE,
  DESTINATIONS6_OFFSET,
  EGRESS_WORK_OFFSET,
  EGRESS_WORK_SIZE,
  FIB_LEVEL1_OFFSET,
  FIB_LEVEL2_OFFSET,
  INGRESS_WORK_OFFSET,
  INGRESS_WORK_SIZE,
  LANE_EGRESS_COUNTERS_OFFSET,
  LANE_EGRESS_EPOCH_OFFSET,
  LANE_INGRESS_COUNTERS_OFFSET,
  LANE_INGRESS_EPOCH_OFFSET,
  LANE_REFUSED_OFFSET,
  LANES_OFFSET,
  PACKET_SIZE_MAX,
  PEER_ENDPOINT_OFFSET,
  PEER_LAST_HEARD_OFFSET,
  PEER_RECEIVED_PACKETS_OFFSET,
  PEER_SENT_PACKETS_OFFSET,
  PEER_SIZE,
  PEERS4_OFFSET,
  PEERS6_OFFSET,
  RECEIVE_BUFFER_STRIDE,
  RECEIVE_BUFFERS_OFFSET,
  REFUSED_CELL_COUNT,
  REFUSED_CELL_SIZE,
  SOURCE_TABLE_A_OFFSET,
  STATIC_DATA_END,
} from "../../wasm/layout.ts";
import type { Role } from "../../src/dataplane/counters.ts";
import type { SharedMemory } from "../../src/dataplane/memory.ts";
import type { FuzzNetwork } from "./network.ts";

type Place = readonly [first: number, end: number];

const FILL = 0xa5;
const NEAR = 65_536;
/** Entries of 10.0.0.0/8 and so on, which the peers use. */
const FIB_USED_OFFSET = FIB_LEVEL1_OFFSET + (10 << 16) * 4;

function peersOffset({ family }: FuzzNetwork): number {
  return family === 4 ? PEERS4_OFFSET : PEERS6_OFFSET;
}

/** Nobody uses them. */
function emptyPlaces(role: Role, network: FuzzNetwork): Place[] {
  const end = INGRESS_WORK_OFFSET + INGRESS_WORK_SIZE;
  const other = role === "egress"
    ? [INGRESS_WORK_OFFSET, end] as const
    : [EGRESS_WORK_OFFSET, EGRESS_WORK_OFFSET + EGRESS_WORK_SIZE] as const;
  const unused = peersOffset(network) + network.peers.length * PEER_SIZE;
  const places: Place[] = [
    [0, STATIC_DATA_END],
    [unused, unused + NEAR],
    other,
    // The next lane's.
    [end, end + NEAR],
  ];
  if (role === "egress") return places;
  for (let at = INGRESS_WORK_OFFSET + RECEIVE_BUFFERS_OFFSET; at + RECEIVE_BUFFER_STRIDE < end;) {
    places.push([at + PACKET_SIZE_MAX, at + RECEIVE_BUFFER_STRIDE]);
    at += RECEIVE_BUFFER_STRIDE;
  }
  return places;
}

/** Others write them, or nobody after the start. */
function foreignPlaces(role: Role, network: FuzzNetwork): Place[] {
  const isEgress = role === "egress";
  const epoch = LANES_OFFSET + (isEgress ? LANE_INGRESS_EPOCH_OFFSET : LANE_EGRESS_EPOCH_OFFSET);
  const counters = LANES_OFFSET +
    (isEgress ? LANE_INGRESS_COUNTERS_OFFSET : LANE_EGRESS_COUNTERS_OFFSET);
  const [first, end] = isEgress
    ? [PEER_RECEIVED_PACKETS_OFFSET, PEER_LAST_HEARD_OFFSET + 8]
    : [PEER_ENDPOINT_OFFSET, PEER_RECEIVED_PACKETS_OFFSET];
  const peers = network.peers.flatMap((_, i): Place[] => {
    const at = peersOffset(network) + i * PEER_SIZE;
    const endpoint = at + PEER_ENDPOINT_OFFSET;
    return [[endpoint, at + PEER_SENT_PACKETS_OFFSET], [at + first, at + end]];
  });
  const refused = LANES_OFFSET + LANE_REFUSED_OFFSET;
  const refusedPlaces: Place[] = isEgress
    ? [[refused, refused + REFUSED_CELL_COUNT * REFUSED_CELL_SIZE]]
    : [];
  return [
    ...refusedPlaces,
    [STATIC_DATA_END, LANES_OFFSET + LANE_EGRESS_EPOCH_OFFSET],
    [epoch, epoch + 4],
    [counters, counters + COUNTERS_SIZE],
    [FIB_LEVEL1_OFFSET, FIB_LEVEL1_OFFSET + NEAR],
    [FIB_USED_OFFSET, FIB_USED_OFFSET + NEAR],
    [FIB_LEVEL2_OFFSET, FIB_LEVEL2_OFFSET + NEAR],
    ...peers,
    [SOURCE_TABLE_A_OFFSET, SOURCE_TABLE_A_OFFSET + NEAR],
    [DESTINATIONS6_OFFSET, DESTINATIONS6_OFFSET + NEAR],
    [EGRESS_WORK_OFFSET - NEAR, EGRESS_WORK_OFFSET],
  ];
}

/**
 * Guards what the loop of a role must not write. What it returns throws if anything has changed
 * since, and says where.
 */
export function guard(shared: SharedMemory, role: Role, network: FuzzNetwork): () => void {
  const empty = emptyPlaces(role, network);
  for (const [first, end] of empty) shared.bytes.fill(FILL, first, end);
  const places = [...empty, ...foreignPlaces(role, network)]
    .map(([first, end]) => ({ first, end, before: shared.bytes.slice(first, end) }));
  return () => {
    for (const { first, end, before } of places) {
      const now = shared.bytes.subarray(first, end);
      if (Buffer.compare(now, before) === 0) continue;
      const at = first + now.findIndex((byte, i) => byte !== before[i]);
      throw new Error(`the ${role} loop wrote to ${at}, between ${first} and ${end}`);
    }
  };
}
