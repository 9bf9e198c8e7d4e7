/** What the benchmark of etcd and the processes that it starts agree on. */

export const ETCD_PREFIX = "/coreos.com/network";
export const ETCD_NETWORK = "10.0.0.0/8";

export interface JoinTime {
  /** From the start of the process to the plan with the last peer. */
  readonly time_ms: number;
  /** Calls to etcd, the watch among them. */
  readonly callCount: number;
}
