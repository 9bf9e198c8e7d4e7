/** What lies under the prefix at one revision. */
import type { NetworkConfig } from "../config/network_config.ts";
import { SelvageError } from "../errors.ts";
import { type Lease, leaseKey } from "../lease/lease.ts";
import { LeaseTable } from "../lease/lease_table.ts";
import type { KeyValue } from "./client/kv.ts";
import { readConfigEntry } from "./config.ts";
import type { StoreContext } from "./context.ts";
import { readEntry, type UntypedBackend } from "./lease_entry.ts";

/** The network as it stood at one revision. */
export interface Contents {
  readonly revision: bigint;
  /** The entry of the configuration, as it is written. */
  readonly configEntry: KeyValue | null;
  /** What it says, or why it cannot be read. */
  readonly config: NetworkConfig | SelvageError;
  readonly table: LeaseTable;
  /** The key that was written last, whatever it is; null: there is none. */
  readonly newest: Witness | null;
}

/** When a key was made and written last: two etcds will not agree on that. */
export type Witness = Pick<KeyValue, "key" | "createRevision" | "modRevision">;

/** A witness without the value behind it. */
export function witnessOf({ key, createRevision, modRevision }: KeyValue): Witness {
  return { key, createRevision, modRevision };
}

function newestOf(entries: readonly KeyValue[]): Witness | null {
  let newest: KeyValue | null = null;
  for (const entry of entries) {
    if (newest === null || entry.modRevision > newest.modRevision) newest = entry;
  }
  return newest && witnessOf(newest);
}

/** The same with the entries behind the leases. */
export interface ListedContents extends Contents {
  /**
   * The leases, and what else takes up subnets: keys whose values cannot be read. Those are
   * nobody's.
   */
  readonly taken: readonly Lease[];
  /** The entry of a lease. */
  entryOf(lease: Pick<Lease, "subnets">): KeyValue | undefined;
}

/** What a value without a backend's name means under this configuration. */
export function untypedBackend(config: NetworkConfig | SelvageError): UntypedBackend {
  return !(config instanceof SelvageError) && config.backend.type === "alloc" ? "alloc" : "udp";
}

/** A lease of nobody in place of one whose value cannot be read; null if its key cannot either. */
function placeholder(context: StoreContext, entry: KeyValue): Lease | null {
  try {
    const subnets = context.keys.parse(entry.key);
    return { subnets, publicAddresses: [], backendType: "", backendData: {}, expiry_ms: undefined };
  } catch {
    return null;
  }
}

/** Lists all that is the network's, in one call, and counts what cannot be read. */
export async function listContents(
  context: StoreContext,
  signal?: AbortSignal,
): Promise<ListedContents> {
  const { etcd, keys, unreadable } = context;
  const { revision, entries } = await etcd.list(keys.root, signal);
  const configEntry = entries.find(({ key }) => key === keys.config) ?? null;
  const config = readConfigEntry(keys, configEntry);
  const untyped = untypedBackend(config);
  const leases: Lease[] = [];
  const placeholders: Lease[] = [];
  const unread = new Map<string, unknown>();
  const byName = new Map<string, KeyValue>();
  for (const entry of entries) {
    if (!entry.key.startsWith(keys.subnets)) continue;
    byName.set(entry.key.slice(keys.subnets.length), entry);
    try {
      leases.push(readEntry(entry, keys, untyped));
    } catch (error) {
      unread.set(entry.key, error);
      const one = placeholder(context, entry);
      if (one !== null) placeholders.push(one);
    }
  }
  unreadable.replace(unread);
  const table = LeaseTable.of(leases);
  return {
    revision,
    configEntry,
    config,
    table,
    newest: newestOf(entries),
    taken: [...table.leases, ...placeholders],
    entryOf: ({ subnets }) => byName.get(leaseKey(subnets)),
  };
}

/** The contents without the entries, which are long. */
export function withoutEntries(listed: ListedContents): Contents {
  const { revision, configEntry, config, table, newest } = listed;
  return { revision, configEntry, config, table, newest };
}
