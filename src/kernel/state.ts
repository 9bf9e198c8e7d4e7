/** Desired kernel state: what a backend's plan asks for and the reconciler brings about. */
import type { IpAddress, IpPrefix } from "../net/ip.ts";

/**
 * Marks our routes in the kernel's tables (`struct rtmsg.rtm_protocol`); 83 is in nobody's list in
 * `rtnetlink.h` or iproute2's `rt_protos`. A route without it is never ours.
 */
export const RTPROT_SELVAGE = 83;

/** A device that carries our name. A TUN device exists as long as its file is open. */
export interface DesiredLink {
  readonly name: string;
  readonly kind: "tun";
  /** Largest inner IP packet, in bytes, headers included. */
  readonly mtu_bytes: number;
}

export interface DesiredAddress {
  readonly linkName: string;
  readonly address: IpAddress;
  readonly prefixLength: number;
}

export interface DesiredRoute {
  readonly destination: IpPrefix;
  readonly linkName: string;
  /** null: the destination is on the link itself. */
  readonly gateway: IpAddress | null;
}

export interface KernelState {
  readonly links: readonly DesiredLink[];
  readonly addresses: readonly DesiredAddress[];
  readonly routes: readonly DesiredRoute[];
}
