/**
 * What a node keeps of its last run in the state directory, so that it can start while the store
 * is away: its lease with the network's configuration in one file, its peers in another.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";
import { MACHINE_CLOCK, type SteadyClock } from "../clock.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { formatNetworkConfig, parseNetworkConfig } from "../config/parse_network_config.ts";
import { errorText, hasCode } from "../errors.ts";
import { readFileBounded } from "../files.ts";
import { isReservable } from "../lease/allocator.ts";
import { type Lease, leaseKey, parseLeaseKey } from "../lease/lease.ts";
import {
  isLeaseValue,
  leaseValueSchema,
  readLeaseValue,
  toLeaseValue,
} from "../lease/lease_value.ts";
import { logger } from "../log.ts";
import { checkedJson, isObject } from "../net/checked.ts";
import { LEASE_TTL_MS } from "../store/store.ts";

const VERSION = 1;
const KEY_LENGTH_MAX = 128;
/** A lease and a configuration take a few KiB. */
const LEASE_SIZE_MAX_BYTES = 256 * 1024;
/** Some 150 bytes a peer: far more than 5,000 of them. */
export const PEERS_SIZE_MAX_BYTES = 8 * 1024 * 1024;

export const leaseFile = (stateDir: string): string => join(stateDir, "last_lease.json");
export const peersFile = (stateDir: string): string => join(stateDir, "last_peers.json");

/** One moment on both clocks, and the boot of the machine in which it is. */
const momentSchema = z.object({
  boot: z.string().max(64),
  steady_ms: z.number(),
  now_ms: z.number(),
});

const leaseSchema = z.object({
  version: z.literal(VERSION),
  /** Identifies the store; null: the node's own, which is never away. */
  store: z.string().nullable(),
  key: z.string().max(KEY_LENGTH_MAX),
  value: leaseValueSchema,
  isReservation: z.boolean(),
  /** When the store gave or confirmed the lease. */
  taken: momentSchema,
  config: z.unknown(),
});

const peersSchema = z.object({
  version: z.literal(VERSION),
  store: z.string(),
  peers: z.array(z.unknown()),
});

/** A moment that is kept in a file. */
export type Moment = z.infer<typeof momentSchema>;

/** Names the present boot of the machine; empty if the kernel does not say it. */
export function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "";
  }
}

export function momentNow(boot: string, clock: SteadyClock = MACHINE_CLOCK): Moment {
  return { boot, steady_ms: clock.steady_ms(), now_ms: clock.now_ms() };
}

/**
 * How long ago a moment was, at least. Within one boot the steady clock says it. After a new boot
 * the time of day says it, which a machine without a battery may not know yet; but no less time
 * has passed than since that boot.
 */
export function age_ms(then: Moment, now: Moment): number {
  if (then.boot !== "" && then.boot === now.boot) return now.steady_ms - then.steady_ms;
  return Math.max(now.now_ms - then.now_ms, now.steady_ms);
}

/** A node's lease as it was when the store last confirmed it. */
export interface RememberedLease {
  /** Identifies the store; null: the node's own. */
  readonly storeIdentity: string | null;
  readonly lease: Lease;
  readonly config: NetworkConfig;
  readonly taken: Moment;
}

/** The text of the file. */
export function formatLeaseFile({ storeIdentity, lease, config, taken }: RememberedLease): string {
  const file: z.infer<typeof leaseSchema> = {
    version: VERSION,
    store: storeIdentity,
    key: leaseKey(lease.subnets),
    value: toLeaseValue(lease),
    isReservation: lease.expiry_ms === null,
    taken,
    config: JSON.parse(formatNetworkConfig(config)),
  };
  return `${JSON.stringify(file)}\n`;
}

/** Throws `invalid_argument` if it is no such text; `where` names it. */
export function parseLeaseFile(text: string, where: string): RememberedLease {
  const file = checkedJson(leaseSchema, text, where);
  const expiry_ms = file.isReservation ? null : undefined;
  return {
    storeIdentity: file.store,
    lease: { ...readLeaseValue(file.value, where), subnets: parseLeaseKey(file.key), expiry_ms },
    config: parseNetworkConfig(JSON.stringify(file.config ?? null), where),
    taken: file.taken,
  };
}

/** The text of the file. When the peers' leases end is left out: it changes with each renewal. */
export function formatPeersFile(storeIdentity: string, peers: readonly Lease[]): string {
  const file: z.infer<typeof peersSchema> = {
    version: VERSION,
    store: storeIdentity,
    peers: peers.map((peer) => ({
      key: leaseKey(peer.subnets),
      value: toLeaseValue(peer),
      ...(peer.expiry_ms === null ? { isReservation: true } : {}),
    })),
  };
  return `${JSON.stringify(file)}\n`;
}

/** The peers of this store, without those that cannot be read. Throws `invalid_argument`. */
export function parsePeersFile(text: string, where: string, storeIdentity: string): Lease[] {
  const file = checkedJson(peersSchema, text, where);
  if (file.store !== storeIdentity) return [];
  return file.peers.flatMap((peer): Lease[] => {
    try {
      if (!isObject(peer) || typeof peer.key !== "string" || !isLeaseValue(peer.value)) return [];
      const expiry_ms = peer.isReservation === true ? null : undefined;
      const subnets = parseLeaseKey(peer.key);
      return [{ ...readLeaseValue(peer.value, where), subnets, expiry_ms }];
    } catch {
      return [];
    }
  });
}

/** Reads a file of ours; null if it cannot be read, with a warning if it exists. */
function readOrNull<T>(path: string, sizeMax_bytes: number, parse: (text: string) => T): T | null {
  try {
    return parse(readFileBounded(path, sizeMax_bytes));
  } catch (error) {
    if (!hasCode(error, "not_found")) logger("agent").warning`${errorText(error)}; it is not used`;
    return null;
  }
}

/** The lease that the state directory remembers, from any store; null: none. */
export function readLeaseFile(stateDir: string): RememberedLease | null {
  const path = leaseFile(stateDir);
  return readOrNull(path, LEASE_SIZE_MAX_BYTES, (text) => parseLeaseFile(text, path));
}

/** The peers of this store that the state directory remembers. */
export function readPeersFile(stateDir: string, storeIdentity: string): Lease[] {
  const path = peersFile(stateDir);
  const parse = (text: string) => parsePeersFile(text, path, storeIdentity);
  return readOrNull(path, PEERS_SIZE_MAX_BYTES, parse) ?? [];
}

/** Why a node must not start from this lease; null: it may. A reservation does not end. */
export function refusal(
  { storeIdentity, lease, config, taken }: RememberedLease,
  wanted: { readonly storeIdentity: string; readonly now: Moment },
): string | null {
  if (storeIdentity !== wanted.storeIdentity) return "it was written for another store";
  if (!isReservable(config, lease.subnets)) return "its subnet does not lie in the network";
  const isOver = lease.expiry_ms !== null && age_ms(taken, wanted.now) >= LEASE_TTL_MS;
  return isOver ? "it has ended" : null;
}
