/** What the loops of each lane are told before they start; `wasm/lane.ts` reads. */
import {
  LANE_ADDRESS_OFFSET,
  LANE_COUNT_MAX,
  LANE_CUT_FD_OFFSET,
  LANE_FAMILY_OFFSET,
  LANE_FLAG_ANY_OUTER_SOURCE,
  LANE_FLAG_OUTSIDE_SOURCES,
  LANE_FLAGS_OFFSET,
  LANE_ICMP_FD_OFFSET,
  LANE_ICMP_RATE_OFFSET,
  LANE_MASK_OFFSET,
  LANE_MTU_OFFSET,
  LANE_NETWORK_OFFSET,
  LANE_OFFLOADS_OFFSET,
  LANE_OUTER_ADDRESS_OFFSET,
  LANE_RECEIVE_FD_OFFSET,
  LANE_SEND_FD_OFFSET,
  LANE_SIZE,
  LANE_SUBNET_MASK_OFFSET,
  LANE_TUN_FD_OFFSET,
  LANE_VNI_OFFSET,
  LANE_VTEP_MAC_OFFSET,
  LANE_WAKE_FD_OFFSET,
  LANES_OFFSET,
} from "../../wasm/layout.ts";
import type { Encapsulation } from "../backend/backend.ts";
import { bitsOf, type Family, type IpAddress, type IpPrefix } from "../net/ip.ts";
import type { MacAddress } from "../net/mac_address.ts";
import type { SharedMemory } from "./memory.ts";
import { type Offload, offloadBits } from "./offloads.ts";

/** As fast as Linux sends its own (`net.ipv4.icmp_msgs_per_sec`): all loops together. */
const ICMP_ERRORS_PER_SECOND = 1000;
const NO_VNI = -1;

/** One queue of a TUN device. Descriptors that do not block, borrowed until `Dataplane.stop`. */
export interface Queue {
  readonly tun_fd: number;
  readonly receive_fd: number;
  /** It may be the same as `receive_fd`. */
  readonly send_fd: number;
}

/** An overlay network of one family, inner and outer, with a TUN device of its own. */
export interface Overlay {
  readonly family: Family;
  /** Our own subnet. Its first address is the TUN's, which ICMP errors come from. */
  readonly subnet: IpPrefix;
  /** The address that our datagrams leave from. */
  readonly outerAddress: IpAddress;
  /** The whole network: only the peer that has an address of it sends from that address. */
  readonly network: IpPrefix;
  /** Datagrams are accepted from any outer address; see `RunOptions`. */
  readonly trustsUnderlay: boolean;
  /** Packets may come from sources outside of the network; see `RunOptions`. */
  readonly allowsOutsideSources: boolean;
  /** Of the TUN: bytes of the largest inner packet. */
  readonly mtu_bytes: number;
  readonly encapsulation: Encapsulation;
  /** A raw socket for ICMP errors, borrowed as a queue's are. */
  readonly icmp_fd: number;
  /**
   * IPv6: a socket whose datagrams may be cut on their way, borrowed too; -1: what is not longer
   * than every IPv6 link carries is lost where the way does not carry it encapsulated.
   */
  readonly cut_fd: number;
  /** One to `QUEUE_COUNT_MAX`. */
  readonly queues: readonly Queue[];
  /** What is active on the descriptors. */
  readonly offloads: readonly Offload[];
}

/** A MAC address as a number: its bytes in order, as the processor reads them. */
export function macNumber(mac: MacAddress): bigint {
  return mac.toBytes().reduceRight((value, byte) => value << 8n | BigInt(byte), 0n);
}

/** The two halves of an address; of IPv4 the upper one is 0. */
export function halvesOf(value: bigint): readonly [high: bigint, low: bigint] {
  return [value >> 64n, value & 0xffff_ffff_ffff_ffffn];
}

function maskValue({ family, length }: IpPrefix): bigint {
  const bits = bitsOf(family);
  return (1n << BigInt(bits)) - (1n << BigInt(bits - length));
}

/**
 * Writes the configuration of all lanes; returns how many there are. They are numbered through, the
 * overlays in order.
 */
export function writeLanes(
  shared: SharedMemory,
  overlays: readonly Overlay[],
  wake_fd: number,
): number {
  const count = overlays.reduce((sum, { queues }) => sum + queues.length, 0);
  if (count > LANE_COUNT_MAX) throw new RangeError(`${count} lanes: at most ${LANE_COUNT_MAX}`);
  const lanes = overlays.flatMap((overlay) => overlay.queues.map((queue) => ({ overlay, queue })));
  lanes.forEach(({ overlay, queue }, index) => {
    const start = LANES_OFFSET + index * LANE_SIZE;
    const setNumber = (offset: number, value: number): void => {
      Atomics.store(shared.u32, (start + offset) / 4, value);
    };
    const setWide = (offset: number, value: bigint): void => {
      Atomics.store(shared.u64, (start + offset) / 8, value);
    };
    const setAddress = (offset: number, value: bigint): void => {
      halvesOf(value).forEach((half, i) => setWide(offset + i * 8, half));
    };
    const { encapsulation } = overlay;
    setNumber(LANE_FAMILY_OFFSET, overlay.family);
    setNumber(LANE_TUN_FD_OFFSET, queue.tun_fd);
    setNumber(LANE_RECEIVE_FD_OFFSET, queue.receive_fd);
    setNumber(LANE_SEND_FD_OFFSET, queue.send_fd);
    setNumber(LANE_ICMP_FD_OFFSET, overlay.icmp_fd);
    setNumber(LANE_CUT_FD_OFFSET, overlay.cut_fd);
    setNumber(LANE_WAKE_FD_OFFSET, wake_fd);
    setNumber(LANE_OFFLOADS_OFFSET, offloadBits(overlay.offloads));
    setNumber(LANE_MTU_OFFSET, overlay.mtu_bytes);
    setNumber(LANE_ICMP_RATE_OFFSET, Math.ceil(ICMP_ERRORS_PER_SECOND / (2 * count)));
    const isVxlan = encapsulation.type === "vxlan";
    setNumber(LANE_VNI_OFFSET, isVxlan ? encapsulation.vni : NO_VNI);
    setWide(LANE_VTEP_MAC_OFFSET, isVxlan ? macNumber(encapsulation.vtepMac) : 0n);
    setNumber(
      LANE_FLAGS_OFFSET,
      (overlay.trustsUnderlay ? LANE_FLAG_ANY_OUTER_SOURCE : 0) |
        (overlay.allowsOutsideSources ? LANE_FLAG_OUTSIDE_SOURCES : 0),
    );
    shared.bytes.set(overlay.subnet.address.toBytes(), start + LANE_ADDRESS_OFFSET);
    shared.bytes.set(overlay.outerAddress.toBytes(), start + LANE_OUTER_ADDRESS_OFFSET);
    setAddress(LANE_SUBNET_MASK_OFFSET, maskValue(overlay.subnet));
    setAddress(LANE_NETWORK_OFFSET, overlay.network.address.value);
    setAddress(LANE_MASK_OFFSET, maskValue(overlay.network));
  });
  return count;
}
