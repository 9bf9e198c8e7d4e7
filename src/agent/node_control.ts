/** What the API may ask of the agent, and have it do. */
import type { AgentControl, Readiness, TokenAdmin } from "../api/control.ts";
import { findSplit, refuseSplit } from "../backend/config_split.ts";
import { configWarnings, refuseWarned } from "../backend/select.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { configChanges } from "../config/config_changes.ts";
import { formatNetworkConfig, parseNetworkConfig } from "../config/parse_network_config.ts";
import { hasCode, SelvageError } from "../errors.ts";
import type { Lease } from "../lease/lease.ts";
import type { LeaseStore } from "../store/store.ts";
import type { KnownLeases } from "./known_leases.ts";
import type { OpenedStore } from "./open_store.ts";
import { readinessOf } from "./readiness.ts";
import { leaseStatus, type NodeParts, snapshot, type SnapshotParts } from "./snapshot.ts";
import type { Status } from "./status.ts";

/** What errors call a configuration that came by the API. */
const CONFIG_SOURCE = "network configuration";

export interface NodeControlOptions {
  /** As of now. */
  readonly parts: () => NodeParts;
  /** What takes work to find out. */
  readonly details: () => Omit<SnapshotParts, keyof NodeParts>;
  /** null: it is not open yet. */
  readonly opened: () => OpenedStore | null;
  readonly leases: KnownLeases;
  /** Throws if this host could not obey the configuration. */
  readonly judge: (config: NetworkConfig) => void;
}

export class NodeControl implements AgentControl {
  readonly #options: NodeControlOptions;

  constructor(options: NodeControlOptions) {
    this.#options = options;
  }

  get #opened(): OpenedStore {
    const opened = this.#options.opened();
    if (opened !== null) return opened;
    throw new SelvageError("unavailable", "the store is not open yet");
  }

  get store(): LeaseStore {
    return this.#opened.store;
  }

  get tokens(): TokenAdmin {
    return this.#opened.tokens;
  }

  knownLeases(): readonly Lease[] | null {
    const { leases } = this.#options;
    return leases.isKnown ? leases.table.leases : null;
  }

  config(): Promise<NetworkConfig> {
    return this.store.readConfig();
  }

  async setConfig(
    text: string,
    { isForced, isDryRun }: { readonly isForced: boolean; readonly isDryRun: boolean },
  ): Promise<void> {
    const { store, setConfig } = this.#opened;
    if (setConfig === null) {
      const text = `the network's configuration is kept elsewhere: ${store.state().location}`;
      throw new SelvageError("unsupported", text, {
        hint: "Call selvage config set on the registry's host.",
      });
    }
    const config = parseNetworkConfig(text, CONFIG_SOURCE);
    this.#options.judge(config);
    if (!isForced) {
      refuseWarned(configWarnings(config));
      await this.#refuseSplit(config);
    }
    if (!isDryRun) await setConfig(text, CONFIG_SOURCE);
  }

  // deno-lint-ignore require-await -- so that a failure is a rejection
  async backUpRegistry(): Promise<string> {
    const { store, backUp } = this.#opened;
    if (backUp !== null) return backUp();
    const text = `this host keeps no registry; the leases are kept at ${store.state().location}`;
    throw new SelvageError("unsupported", text, { hint: "Make the backup there." });
  }

  /** Throws if the configuration would keep hosts apart until each of them is restarted. */
  async #refuseSplit(next: NetworkConfig): Promise<void> {
    const asObject = (config: NetworkConfig) => JSON.parse(formatNetworkConfig(config)) as object;
    const now = await this.config().catch((error) => {
      if (hasCode(error, "config_missing")) return null;
      throw error;
    });
    const split = findSplit(configChanges(now && asObject(now), asObject(next)));
    if (split !== null) refuseSplit(split, (await this.store.list()).length);
  }

  status(): Status {
    const { parts, details } = this.#options;
    return snapshot({ ...parts(), ...details() }, Date.now());
  }

  lease(): Status["lease"] {
    return leaseStatus(this.#options.parts());
  }

  readiness(): Readiness {
    return readinessOf(this.#options.parts(), Date.now());
  }
}
