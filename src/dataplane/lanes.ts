/** What the loops of each lane are told before they start. */
import type { Encapsulation } from "../backend/backend.ts";
import type { Family, IpAddress, IpPrefix } from "../net/ip.ts";
import type { Offload } from "./offloads.ts";

/** One queue of a TUN device. Its descriptors do not block; borrowed until `Dataplane.stop`. */
export interface Queue {
  readonly tun_fd: number;
  readonly receive_fd: number;
  /** It may be the same as `receive_fd`. */
  readonly send_fd: number;
}

/** An overlay network of one family, inner and outer, with a TUN device of its own. */
export interface Overlay {
  readonly family: Family;
  /** The TUN's address: the source of ICMP errors. */
  readonly tunAddress: IpAddress;
  /** Nobody sends as one of its addresses but the peer who has it. */
  readonly network: IpPrefix;
  /** Of the TUN: bytes of the largest inner packet. */
  readonly mtu_bytes: number;
  readonly encapsulation: Encapsulation;
  /** A raw socket for ICMP errors, borrowed as a queue's are. */
  readonly icmp_fd: number;
  /** One to `QUEUE_COUNT_MAX`. */
  readonly queues: readonly Queue[];
  /** What is active on the descriptors. */
  readonly offloads: readonly Offload[];
}
