/** The loops' own counters: what passed, and what was dropped for which reason. */
import {
  COUNTER_BYTES_OUT,
  COUNTER_ICMP_FAILED,
  COUNTER_ICMP_LIMITED,
  COUNTER_ICMP_SENT,
  COUNTER_NARROW_PATHS,
  COUNTER_PACKETS_IN,
  COUNTER_PACKETS_OUT,
  COUNTER_READ_ERRORS,
  DROP_BAD_HEADER_LENGTH,
  DROP_BAD_OFFLOAD,
  DROP_BAD_TOTAL_LENGTH,
  DROP_BAD_VERSION,
  DROP_BAD_VXLAN,
  DROP_DATAGRAM_TRUNCATED,
  DROP_DESTINATION_NOT_OURS,
  DROP_IPV6,
  DROP_NO_PEER,
  DROP_NOT_IP,
  DROP_NOT_OUR_MAC,
  DROP_SEND_FAILED,
  DROP_SOURCE_NOT_PEER,
  DROP_SOURCE_OUTSIDE,
  DROP_SOURCE_SPOOFED,
  DROP_SPECIAL_ADDRESS,
  DROP_TOO_BIG,
  DROP_TRUNCATED,
  DROP_TTL_EXPIRED,
  DROP_TUN_WRITE_FAILED,
  LANE_COUNT_MAX,
  LANE_EGRESS_COUNTERS_OFFSET,
  LANE_INGRESS_COUNTERS_OFFSET,
  LANE_SIZE,
  LANES_OFFSET,
} from "../../wasm/layout.ts";
import type { SharedMemory } from "./memory.ts";

/** Egress: from the TUN to peers. Ingress: from peers to the TUN. */
export type Role = "egress" | "ingress";

/** One reason for which one loop drops packets. */
export interface DropReason {
  readonly role: Role;
  /** Unique; what the status calls it. */
  readonly name: string;
  /** The counter's place in the loop's block. */
  readonly slot: number;
  /**
   * It counts packets by which kernels and containers announce themselves on every device: no
   * fault.
   */
  readonly isHarmless?: true;
}

/** Every reason there is. */
export const DROP_REASONS: readonly DropReason[] = [
  { role: "egress", name: "egress_truncated", slot: DROP_TRUNCATED },
  { role: "egress", name: "egress_ipv6", slot: DROP_IPV6, isHarmless: true },
  { role: "egress", name: "egress_bad_version", slot: DROP_BAD_VERSION },
  { role: "egress", name: "egress_bad_header_length", slot: DROP_BAD_HEADER_LENGTH },
  { role: "egress", name: "egress_bad_total_length", slot: DROP_BAD_TOTAL_LENGTH },
  { role: "egress", name: "egress_bad_offload", slot: DROP_BAD_OFFLOAD },
  { role: "egress", name: "egress_special_address", slot: DROP_SPECIAL_ADDRESS, isHarmless: true },
  { role: "egress", name: "egress_source_spoofed", slot: DROP_SOURCE_SPOOFED },
  { role: "egress", name: "egress_source_outside", slot: DROP_SOURCE_OUTSIDE },
  { role: "egress", name: "egress_no_peer", slot: DROP_NO_PEER },
  { role: "egress", name: "egress_ttl_expired", slot: DROP_TTL_EXPIRED },
  { role: "egress", name: "egress_too_big", slot: DROP_TOO_BIG },
  { role: "egress", name: "egress_send_failed", slot: DROP_SEND_FAILED },
  { role: "ingress", name: "ingress_source_not_peer", slot: DROP_SOURCE_NOT_PEER },
  { role: "ingress", name: "ingress_datagram_truncated", slot: DROP_DATAGRAM_TRUNCATED },
  { role: "ingress", name: "ingress_bad_vxlan", slot: DROP_BAD_VXLAN },
  { role: "ingress", name: "ingress_not_our_mac", slot: DROP_NOT_OUR_MAC },
  { role: "ingress", name: "ingress_not_ip", slot: DROP_NOT_IP },
  { role: "ingress", name: "ingress_truncated", slot: DROP_TRUNCATED },
  { role: "ingress", name: "ingress_bad_version", slot: DROP_BAD_VERSION },
  { role: "ingress", name: "ingress_bad_header_length", slot: DROP_BAD_HEADER_LENGTH },
  { role: "ingress", name: "ingress_bad_total_length", slot: DROP_BAD_TOTAL_LENGTH },
  { role: "ingress", name: "ingress_special_address", slot: DROP_SPECIAL_ADDRESS },
  { role: "ingress", name: "ingress_destination_not_ours", slot: DROP_DESTINATION_NOT_OURS },
  { role: "ingress", name: "ingress_source_spoofed", slot: DROP_SOURCE_SPOOFED },
  { role: "ingress", name: "ingress_source_outside", slot: DROP_SOURCE_OUTSIDE },
  { role: "ingress", name: "ingress_ttl_expired", slot: DROP_TTL_EXPIRED },
  { role: "ingress", name: "ingress_bad_offload", slot: DROP_BAD_OFFLOAD },
  { role: "ingress", name: "ingress_tun_write_failed", slot: DROP_TUN_WRITE_FAILED },
];

/** Totals since the start; bytes are those of inner packets. */
export interface LoopCounters {
  /** Read from the TUN. Between batches: `tunPackets = sentPackets + the egress drops`. */
  readonly tunPackets: number;
  readonly sentPackets: number;
  readonly sentBytes: number;
  /** Datagrams received: `receivedPackets + the ingress drops`, between batches. */
  readonly datagrams: number;
  /** Written to the TUN. */
  readonly receivedPackets: number;
  readonly receivedBytes: number;
  /** ICMP errors sent back about dropped packets, and those the kernel did not take. */
  readonly icmpErrorsSent: number;
  readonly icmpErrorsFailed: number;
  /** Not sent, because there had been too many. */
  readonly icmpErrorsLimited: number;
  /** How often a path was found to carry less than assumed; `PeerCounters` says which. */
  readonly narrowPaths: number;
  /** Failed reads of the TUN and of the socket. */
  readonly readErrors: number;
  /** By `DropReason.name`; every one is there. */
  readonly drops: Readonly<Record<string, number>>;
}

/** Reads the counters of all loops, added up. Each is right; all together are not of one moment. */
export function readCounters(shared: SharedMemory): LoopCounters {
  const read = (role: Role, slot: number): number => {
    const block = role === "egress" ? LANE_EGRESS_COUNTERS_OFFSET : LANE_INGRESS_COUNTERS_OFFSET;
    let sum = 0;
    for (let lane = 0; lane < LANE_COUNT_MAX; lane++) {
      const start = LANES_OFFSET + lane * LANE_SIZE + block;
      sum += Number(Atomics.load(shared.u64, start / 8 + slot));
    }
    return sum;
  };
  const both = (slot: number): number => read("egress", slot) + read("ingress", slot);
  return {
    tunPackets: read("egress", COUNTER_PACKETS_IN),
    sentPackets: read("egress", COUNTER_PACKETS_OUT),
    sentBytes: read("egress", COUNTER_BYTES_OUT),
    datagrams: read("ingress", COUNTER_PACKETS_IN),
    receivedPackets: read("ingress", COUNTER_PACKETS_OUT),
    receivedBytes: read("ingress", COUNTER_BYTES_OUT),
    icmpErrorsSent: both(COUNTER_ICMP_SENT),
    icmpErrorsFailed: both(COUNTER_ICMP_FAILED),
    icmpErrorsLimited: both(COUNTER_ICMP_LIMITED),
    narrowPaths: read("egress", COUNTER_NARROW_PATHS),
    readErrors: both(COUNTER_READ_ERRORS),
    drops: Object.fromEntries(DROP_REASONS.map((r) => [r.name, read(r.role, r.slot)])),
  };
}
