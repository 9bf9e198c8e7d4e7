/** What the benchmark of many peers and the process that it starts agree on. */

/** The outer interface, and its address, of RFC 6598's; the peers' are those after it. */
export const OUTER_DEVICE = "eth0";
export const OUTER_ADDRESS = "100.64.0.1";
export const OUTER_PREFIX_LENGTH = 10;

export interface PeersTime {
  /** From leases in memory to the dump that shows everything as desired. */
  readonly time_ms: number;
  /** What was written to the kernel's tables. */
  readonly changeCount: number;
}
