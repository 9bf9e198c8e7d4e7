/** The JSON shapes of the API, as they leave: texts for addresses, times in ms since 1970. */
import type { NetworkConfig } from "../config/network_config.ts";
import { formatNetworkConfig } from "../config/parse_network_config.ts";
import { isAwaitingHost, type Lease, type LeaseChange, leaseKey } from "../lease/lease.ts";
import type { ForcedReservation } from "../store/store.ts";

export interface LeaseView {
  readonly key: string;
  readonly subnets: readonly string[];
  readonly publicAddresses: readonly string[];
  readonly backendType: string;
  /** By family, "4" or "6". */
  readonly backendData: Readonly<Record<string, unknown>>;
  /** null for a reservation, which never ends; not there where the store does not say it. */
  readonly expiry_ms?: number | null;
  /** Only there for a reservation whose host has not come yet. */
  readonly awaitsHost?: true;
}

/** A reservation that was made. */
export interface ReservationView extends LeaseView {
  /** The leases that were deleted for it; only there if it was made with `force=true`. */
  readonly replaced?: readonly LeaseView[];
}

/** One line of the watch stream: what changed together. The first such line holds all leases. */
export interface ChangeLine {
  readonly changes: readonly LeaseChangeView[];
  /** In lines of their own: why the store cannot be asked since now; null: it can again. */
  readonly storeError?: string | null;
}

export type LeaseChangeView =
  | { readonly type: "put"; readonly key: string; readonly lease: LeaseView }
  | { readonly type: "delete"; readonly key: string };

/** flannel's `net-conf.json`, with every default filled in. */
export interface ConfigView {
  readonly EnableIPv4: boolean;
  readonly EnableIPv6: boolean;
  readonly EnableNFTables: boolean;
  readonly Network?: string;
  readonly SubnetLen?: number;
  readonly SubnetMin?: string;
  readonly SubnetMax?: string;
  readonly IPv6Network?: string;
  readonly IPv6SubnetLen?: number;
  readonly IPv6SubnetMin?: string;
  readonly IPv6SubnetMax?: string;
  readonly Backend: Readonly<Record<string, unknown>>;
}

export function leaseView(lease: Lease): LeaseView {
  return {
    key: leaseKey(lease.subnets),
    subnets: lease.subnets.map(String),
    publicAddresses: lease.publicAddresses.map(String),
    backendType: lease.backendType,
    backendData: { ...lease.backendData },
    ...(lease.expiry_ms === undefined ? {} : { expiry_ms: lease.expiry_ms }),
    ...(isAwaitingHost(lease) ? { awaitsHost: true } : {}),
  };
}

export function reservationView({ lease, replaced }: ForcedReservation): ReservationView {
  return { ...leaseView(lease), replaced: replaced.map(leaseView) };
}

export function changeView(change: LeaseChange): LeaseChangeView {
  if (change.type === "delete") return { type: "delete", key: change.key };
  return { type: "put", key: change.key, lease: leaseView(change.lease) };
}

/** The configuration in flannel's words (flannel's `subnet.Config`). */
export function configView(config: NetworkConfig): ConfigView {
  // The one writer of this format makes a text; here it is the same as a value.
  return JSON.parse(formatNetworkConfig(config));
}
