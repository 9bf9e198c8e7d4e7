/** Where `selvage migrate` reads what is to go to etcd. */
import type { LeaseView } from "../api/views.ts";
import { hasCode, SelvageError } from "../errors.ts";
import type { MigrationSource } from "../etcd/migrate_plan.ts";
import type { Lease } from "../lease/lease.ts";
import { IpAddress, IpPrefix } from "../net/ip.ts";
import { type ClientFlags, openClient, succeeded } from "./client.ts";

export interface ReadSource extends MigrationSource {
  /** Where it was read. */
  readonly place: string;
  /** Entries that could not be read, and are left out. */
  readonly unreadableCount: number;
}

/** The registry in a state directory whose daemon does not run. */
export async function readStateDir(stateDir: string): Promise<ReadSource> {
  // SQLite is loaded by this way alone.
  const { readRegistry, registryPath } = await import("../store/registry_database.ts");
  const place = registryPath(stateDir);
  try {
    const { configText, table, unreadableCount } = readRegistry(place);
    return { place, configText, leases: table.leases, unreadableCount };
  } catch (error) {
    if (!hasCode(error, "conflict")) throw error;
    const hint = "Leave --from-state-dir out: then the selvage that has it open is asked.";
    throw new SelvageError("conflict", error.message, { hint, cause: error });
  }
}

function readLease(view: LeaseView): Lease {
  const { 4: v4, 6: v6 } = view.backendData as { 4?: unknown; 6?: unknown };
  return {
    subnets: view.subnets.map((text) => IpPrefix.parse(text, "subnet")),
    publicAddresses: view.publicAddresses.map((text) => IpAddress.parse(text, "public address")),
    backendType: view.backendType,
    backendData: {
      ...(v4 === undefined ? {} : { 4: v4 }),
      ...(v6 === undefined ? {} : { 6: v6 }),
    },
    expiry_ms: view.expiry_ms,
    ...(view.awaitsHost === true ? { awaitsHost: true } : {}),
  };
}

/** The registry that a running daemon keeps or joined. */
export async function readDaemon(flags: ClientFlags): Promise<ReadSource> {
  const { v1 } = openClient(flags);
  const { store } = await (await succeeded(v1.status.$get())).json();
  if (store?.kind === "etcd") {
    throw new SelvageError("unsupported", "this selvage uses etcd already, and has no registry", {
      hint: "Ask on a host of the registry, or name its files: --from-state-dir DIR.",
    });
  }
  const { leases, storeError } = await (await succeeded(v1.leases.$get())).json();
  if (storeError !== null) {
    throw new SelvageError("unavailable", `the registry cannot be asked: ${storeError}`, {
      hint: "Ask on the registry's own host.",
    });
  }
  return {
    place: store?.location ?? flags.api ?? flags.apiSocket,
    configText: await readConfigText(flags),
    leases: leases.map(readLease),
    unreadableCount: store?.unreadableCount ?? 0,
  };
}

async function readConfigText(flags: ClientFlags): Promise<string | null> {
  try {
    return await (await succeeded(openClient(flags).v1.config.$get())).text();
  } catch (error) {
    if (hasCode(error, "config_missing")) return null;
    throw error;
  }
}
