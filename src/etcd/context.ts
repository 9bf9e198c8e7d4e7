/** What all that the store does is done with. */
import type { UnreadableKeys } from "../lease/unreadable_keys.ts";
import type { Etcd } from "./client/kv.ts";
import type { KeySpace } from "./lease_key.ts";

export interface StoreContext {
  readonly etcd: Etcd;
  readonly keys: KeySpace;
  readonly unreadable: UnreadableKeys;
  /** How long leases of etcd are asked for. */
  readonly ttl_s: number;
  /** For how long races that others win are run again. */
  readonly raceLimit_ms: number;
  /** Gives numbers in [0, 1). */
  readonly random: () => number;
  /** The lease of etcd that our key hangs on, or hung on last; 0n: none. */
  ownGrantId: bigint;
  /** The time of day in ms since 1970. */
  readonly now_ms: () => number;
}
