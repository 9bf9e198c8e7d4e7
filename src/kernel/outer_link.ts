/** The outer link: the interface that carries the encapsulated packets. */
import type { IpAddress } from "../net/ip.ts";

export interface OuterLink {
  readonly name: string;
  readonly index: number;
  readonly mtu_bytes: number;
  /** The interface's own addresses that were chosen, at most one a family. */
  readonly addresses: readonly IpAddress[];
  /** What the peers are told, at most one a family: `addresses` unless --public-ip says else. */
  readonly publicAddresses: readonly IpAddress[];
}

/** The flags that choose it; flannel's, tried in this order, else the default route's interface. */
export interface OuterLinkChoice {
  readonly interfaces: readonly string[];
  readonly interfaceRegexes: readonly string[];
  readonly canReach: string | null;
  readonly publicAddresses: readonly IpAddress[];
}
