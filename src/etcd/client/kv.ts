/**
 * etcd as the store sees it: keys, revisions, leases of etcd, transactions and watches. It knows
 * nothing of subnets. `openEtcd` makes one that speaks to servers; tests have a twin in memory.
 *
 * Every call ends within its deadline, a list each of its pages, and early, with the signal's
 * reason, when its signal is aborted. Calls throw `unavailable` where no endpoint answers,
 * `unauthorized` and `forbidden` where the user is wrong or may not, and `too_large`. A write that
 * was sent and whose answer is missing throws `AmbiguousError`: it may have been done, and was not
 * repeated.
 */

/**
 * One key as etcd has it. Key and value are read as UTF-8, with a replacement character for what
 * is none. Revisions have 64 bits on the wire, hence bigint.
 */
export interface KeyValue {
  readonly key: string;
  readonly value: string;
  readonly createRevision: bigint;
  readonly modRevision: bigint;
  readonly version: bigint;
  /** The lease of etcd that the key hangs on; 0n: none. */
  readonly leaseId: bigint;
}

/** What a transaction asks of a key; a version or createRevision of 0n: the key is not there. */
export type Compare =
  | {
    readonly key: string;
    readonly target: "version" | "createRevision" | "modRevision" | "lease";
    readonly is: bigint;
  }
  | { readonly key: string; readonly target: "value"; readonly is: string };

/** One step of a transaction; `list` takes a prefix. A `leaseId` of 0n: no lease. */
export type Operation =
  | { readonly put: string; readonly value: string; readonly leaseId: bigint }
  | { readonly delete: string }
  | { readonly get: string }
  | { readonly list: string };

/** What a transaction did. */
export interface TransactionResult {
  /** Whether all compares held, so that `then` was done and not `otherwise`. */
  readonly succeeded: boolean;
  readonly revision: bigint;
  /** One entry an operation that was done: what `get` and `list` found, empty for the others. */
  readonly found: readonly (readonly KeyValue[])[];
}

/** One change of a key; of a deleted one only `key` and `modRevision` are known. */
export interface KeyEvent {
  readonly type: "put" | "delete";
  readonly entry: KeyValue;
}

/** A lease of etcd's own: what keys hang on, and end with. */
export interface EtcdLease {
  /** What it has left, in seconds. */
  readonly ttl_s: number;
  readonly keyCount: number;
}

export interface Etcd {
  /** All keys with the prefix, in their order, as they are at one revision. */
  list(
    prefix: string,
    signal?: AbortSignal,
  ): Promise<{ revision: bigint; entries: KeyValue[] }>;

  get(key: string, signal?: AbortSignal): Promise<{ revision: bigint; entry: KeyValue | null }>;

  /** Does `then` if all compares hold, else `otherwise`, as one step. */
  transact(
    compares: readonly Compare[],
    then: readonly Operation[],
    otherwise: readonly Operation[],
    signal?: AbortSignal,
  ): Promise<TransactionResult>;

  /** A new lease; the server may give it more time than was asked for. */
  grantLease(ttl_s: number, signal?: AbortSignal): Promise<{ id: bigint; ttl_s: number }>;

  /** Ends a lease, and with it the keys that hang on it. A lease that is not there: fine. */
  revokeLease(id: bigint, signal?: AbortSignal): Promise<void>;

  /** Null: there is no such lease. */
  findLease(id: bigint, signal?: AbortSignal): Promise<EtcdLease | null>;

  /**
   * Every event of keys with the prefix from this revision on: one batch a response, which never
   * ends in the middle of a revision. Empty batches are a sign of life. Throws `CompactedError`
   * where the revision is gone, and what the connection dies of; it never connects again by
   * itself. Returns when the signal is aborted.
   */
  watch(
    prefix: string,
    fromRevision: bigint,
    signal: AbortSignal,
  ): AsyncIterable<readonly KeyEvent[]>;

  /** How many calls were made so far, repeated ones and streams included. */
  readonly callCount: number;

  /** The endpoint in use. */
  readonly location: string;

  /**
   * The endpoint in use answers, but may be of another cluster by mistake: the next calls ask the
   * others first, for a while. Once a second at most; what runs runs on. False: there is no other.
   */
  tryElsewhere(): boolean;

  /**
   * Drops all connections: what runs on them fails as where a connection breaks, and the next call
   * makes new ones. For when this host's own addresses have changed.
   */
  reconnect(): void;

  /** Ends running calls with `unavailable`, and closes the connections. */
  close(): void;
}
