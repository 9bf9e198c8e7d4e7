/** The configuration of the overlay network, as flannel's `net-conf.json` has it. */
import type { Family, IpAddress, IpPrefix } from "../net/ip.ts";

/** How subnets are cut out of the network of one family. */
export interface SubnetRange {
  readonly family: Family;
  readonly network: IpPrefix;
  /** Prefix length of the subnet that one node gets. */
  readonly subnetLength: number;
  /** The first address of the lowest and of the highest subnet that may be given out. */
  readonly subnetMin: IpAddress;
  readonly subnetMax: IpAddress;
}

export interface NetworkConfig {
  /** One for each family that is switched on, IPv4 first. */
  readonly ranges: readonly SubnetRange[];
  readonly enableNftables: boolean;
  /** Keys that mean nothing here, as written; flannel's other versions may know them. */
  readonly otherKeys: readonly string[];
  readonly backend: {
    /** Lower case; "udp" where the configuration names none. */
    readonly type: string;
    /** The keys of `Backend` but Type, as written. */
    readonly options: Readonly<Record<string, unknown>>;
  };
}
