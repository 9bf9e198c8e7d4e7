/**
 * The contract of every lease store. A store turns a cluster's storage into leases and nothing
 * else: it writes no files of the node, knows no backend, touches no kernel. One contract suite
 * (tests/store/contract.ts) runs against all of them.
 *
 * Every call may throw `unavailable` when the storage cannot be reached; the caller tries again.
 * Every call ends early, with the signal's reason, when its signal is aborted.
 */
import type { NetworkConfig } from "../config/network_config.ts";
import type { SelvageError } from "../errors.ts";
import type { Lease, LeaseAttributes, LeaseChange, LeaseRequest } from "../lease/lease.ts";
import type { UnreadableKey } from "../lease/unreadable_keys.ts";
import type { IpPrefix } from "../net/ip.ts";

/** How long a lease is good for without renewal; flannel's 24 hours. */
export const LEASE_TTL_MS = 24 * 60 * 60 * 1000;

/** How the store does, for status and readiness. */
export interface StoreState {
  /** "embedded", "remote" or "etcd"; later stores add theirs. */
  readonly kind: string;
  /** Where: a file, or an address. */
  readonly location: string;
  readonly connected: boolean;
  /** Since when `connected` has had its value, in ms since 1970. */
  readonly since_ms: number;
  /**
   * What fails, in one sentence; null: nothing. Also while it is connected: such as a full etcd,
   * which is read and takes no writes.
   */
  readonly lastError: string | null;
  /** Since when calls fail, in ms since 1970; null if `lastError` is. */
  readonly errorSince_ms: number | null;
  /** Entries that could not be read and were left out. */
  readonly unreadableCount: number;
  /** The first few of them. */
  readonly unreadable: readonly UnreadableKey[];
}

/** What a reservation by force did. */
export interface ForcedReservation {
  readonly lease: Lease;
  /** Leases and reservations that were in the way and are deleted. */
  readonly replaced: readonly Lease[];
}

/** What a node is known by. */
export type LeaseHolder = Pick<LeaseAttributes, "publicAddresses">;

export interface LeaseStore {
  /** The network's configuration. Throws `config_missing` while there is none. */
  readConfig(signal?: AbortSignal): Promise<NetworkConfig>;

  /**
   * Takes a lease: the one this node holds already, else the previous subnets, else random free
   * ones. Throws `out_of_subnets` when the network is full.
   */
  acquire(request: LeaseRequest, signal?: AbortSignal): Promise<Lease>;

  /**
   * Extends the lease to a whole TTL from now and publishes its attributes, if and only if this
   * node still holds it; a reservation stays one. `holder` is whose the lease is in the store,
   * where that is another: a node whose address has changed. Throws `lease_lost`
   * otherwise.
   */
  renew(lease: Lease, signal?: AbortSignal, holder?: LeaseHolder): Promise<Lease>;

  /** Gives the lease back. A reservation stays; a lease this node does not hold is left alone. */
  release(lease: Lease, signal?: AbortSignal): Promise<void>;

  /** All leases now, in the order of their subnets. */
  list(signal?: AbortSignal): Promise<Lease[]>;

  /**
   * Sets a subnet aside for the node with this public address, for ever. Throws `conflict` if
   * another node holds it, if it overlaps another lease, or if the node has a reservation of other
   * subnets; `invalid_argument` if it does not lie in the network.
   */
  reserve(
    subnets: readonly IpPrefix[],
    attributes: LeaseAttributes,
    signal?: AbortSignal,
  ): Promise<Lease>;

  /**
   * As `reserve`, but deletes what is in the way in the same step: leases that overlap, whose nodes
   * take others then, and the node's older reservation.
   */
  reserveByForce(
    subnets: readonly IpPrefix[],
    attributes: LeaseAttributes,
    signal?: AbortSignal,
  ): Promise<ForcedReservation>;

  /** Deletes a lease or a reservation. Throws `not_found` if there is none by that key. */
  revoke(key: string, signal?: AbortSignal): Promise<void>;

  /**
   * All leases as changes, then every change, without a gap, until the signal is aborted (then it
   * returns). It never resets: after a lost connection it yields the difference to what it yielded
   * before. It ends for no other reason: failures are retried with back-off and shown in `state`.
   * The first batch is yielded even when it is empty: it says that the store was read. Later ones
   * that are empty are signs of life, after which the node is at rest again.
   */
  watch(signal: AbortSignal): AsyncIterable<readonly LeaseChange[]>;

  /**
   * The network's configuration each time that it says something else than before: than `known`
   * at first; without that the present one comes first. One that cannot be read, or that was
   * deleted, comes as the error that `readConfig` throws of it. What changes twice in a row may
   * come once. Ends, and deals with failures, as `watch`.
   */
  watchConfig(
    signal: AbortSignal,
    known?: NetworkConfig,
  ): AsyncIterable<NetworkConfig | SelvageError>;

  /**
   * Says that this host's own addresses are others now, or that its link is back: connections from
   * before are dropped, and whoever used them connects anew.
   */
  reconnect(): void;

  state(): StoreState;

  /** Frees what it holds. Running calls end with `unavailable`. */
  close(): Promise<void>;
}
