/** The lane that this instance runs a loop of: what the control side wrote about it. */
import {
  EGRESS_WORK_OFFSET,
  INGRESS_WORK_OFFSET,
  LANE_ADDRESS_OFFSET,
  LANE_EGRESS_COUNTERS_OFFSET,
  LANE_EGRESS_EPOCH_OFFSET,
  LANE_FAMILY_OFFSET,
  LANE_INGRESS_COUNTERS_OFFSET,
  LANE_INGRESS_EPOCH_OFFSET,
  LANE_OFFLOADS_OFFSET,
  LANE_OUTER_ADDRESS_OFFSET,
  LANE_REFUSED_OFFSET,
  LANE_SIZE,
  LANE_WORK_STRIDE,
  LANES_OFFSET,
  OFFLOAD_CSUM,
  PEERS4_OFFSET,
  PEERS6_OFFSET,
} from "./layout.ts";

/** Native address of the memory. */
export let base: u64 = 0;
/** Where the loop's work area starts. */
export let work: i32 = 0;
/** The loop's counters. */
export let counters: i32 = 0;
/** The loop's epoch. */
export let epoch: i32 = 0;
/** The lane's addresses, inner and outer, are IPv6. */
export let isV6: bool = false;
/** The peers of the lane's family. */
export let peers: i32 = 0;
/** Each packet at the TUN has a virtio header before it. */
export let hasVirtio: bool = false;

let lane: i32 = 0;

function open(nativeBase: u64, index: i32): void {
  lane = LANES_OFFSET + index * LANE_SIZE;
  base = nativeBase;
  isV6 = field(LANE_FAMILY_OFFSET) === 6;
  peers = isV6 ? PEERS6_OFFSET : PEERS4_OFFSET;
  hasVirtio = (field(LANE_OFFLOADS_OFFSET) & OFFLOAD_CSUM) !== 0;
}

/** Before anything else: this instance runs the egress loop of the lane. */
export function openEgress(nativeBase: u64, index: i32): void {
  open(nativeBase, index);
  work = EGRESS_WORK_OFFSET + index * LANE_WORK_STRIDE;
  counters = lane + LANE_EGRESS_COUNTERS_OFFSET;
  epoch = lane + LANE_EGRESS_EPOCH_OFFSET;
}

/** Before anything else: this instance runs the ingress loop of the lane. */
export function openIngress(nativeBase: u64, index: i32): void {
  open(nativeBase, index);
  work = INGRESS_WORK_OFFSET + index * LANE_WORK_STRIDE;
  counters = lane + LANE_INGRESS_COUNTERS_OFFSET;
  epoch = lane + LANE_INGRESS_EPOCH_OFFSET;
}

/** Whether the kernel has this `OFFLOAD_…` and it is to be used. */
export function has(offload: i32): bool {
  return (field(LANE_OFFLOADS_OFFSET) & offload) !== 0;
}

/** A u32 of the lane's configuration. */
export function field(offset: i32): i32 {
  return load<i32>(lane + offset);
}

/** A u64 of the lane's configuration. */
export function wideField(offset: i32): u64 {
  return load<u64>(lane + offset);
}

/** Where the lane's table of refused outer addresses starts. */
export function refused(): i32 {
  return lane + LANE_REFUSED_OFFSET;
}

/** Where our outer address lies, its bytes in order. */
export function outerAddress(): i32 {
  return lane + LANE_OUTER_ADDRESS_OFFSET;
}

/** Where the TUN's address lies, its bytes in order. */
export function address(): i32 {
  return lane + LANE_ADDRESS_OFFSET;
}
