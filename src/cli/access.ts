/** Leases and configuration as commands see them, wherever they are kept. */
import type { ChangeLine, ConfigView, LeaseView, ReservationView } from "../api/views.ts";
import type { UnreadableKey } from "../lease/unreadable_keys.ts";

/** All leases. */
export interface LeasesView {
  readonly leases: readonly LeaseView[];
  /** Why the store could not be asked: then they are what the host knew last. Null: it was. */
  readonly storeError: string | null;
  /** Entries of the store that cannot be read, and are left out. */
  readonly unreadableCount: number;
  /** The first few of them. An older daemon does not name them. */
  readonly unreadable?: readonly UnreadableKey[] | undefined;
}

export interface NetworkAccess {
  /** Such as `the registry at 192.0.2.1:8286`, for messages. */
  readonly place: string;
  /** Whether the configuration is kept as its text, with the keys in it that have no meaning. */
  readonly keepsText: boolean;
  leases(): Promise<LeasesView>;
  /** Subnets and addresses as texts. `isForced`: leases in the way are deleted. */
  reserve(
    subnets: readonly string[],
    publicAddresses: readonly string[],
    isForced: boolean,
  ): Promise<ReservationView>;
  /** Throws `not_found` if there is no lease by that key. */
  revoke(key: string): Promise<void>;
  /** All leases, then every change, until the signal is aborted or who tells of them ends. */
  watch(signal: AbortSignal): AsyncIterable<ChangeLine>;
  /** Throws `config_missing` while there is none. */
  config(): Promise<ConfigView>;
  /**
   * Replaces the configuration; `where` names the text's source in errors. `isForced`: also by one
   * of which whoever keeps it would pass something over. Throws `conflict` where it is seen that
   * another has replaced it since `config` was called. False: it says the same, and nothing was
   * done.
   */
  setConfig(text: string, where: string, isForced: boolean): Promise<boolean>;
  /** Throws why the daemon's host cannot obey the configuration; nothing is written. */
  judgeConfig(text: string, where: string): Promise<void>;
  /** Lets go of what it holds. */
  close(): Promise<void>;
}
