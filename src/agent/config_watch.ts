/** Follows the network's configuration while the node runs. */
import type { NetworkConfig } from "../config/network_config.ts";
import { adviceText, SelvageError } from "../errors.ts";
import { isCompatible } from "../lease/allocator.ts";
import { logger } from "../log.ts";
import type { IpPrefix } from "../net/ip.ts";
import type { LeaseStore } from "../store/store.ts";
import { judgeConfigChange } from "./config_change.ts";
import { logConfigWarnings, type Network } from "./network.ts";

export interface ConfigWatchOptions {
  /** What the node works by. */
  readonly network: () => Network;
  /** Holds a configuration against this host as it is; throws if it cannot be obeyed. */
  readonly judge: (config: NetworkConfig) => Network;
  /** Those that a new start takes again only if they fit the configuration; null: none. */
  readonly leasedSubnets: () => readonly IpPrefix[] | null;
  /** Takes up what changes nothing of what runs (`isMoved` false), or by a path opened anew. */
  readonly onChanged: (network: Network, isMoved: boolean) => void;
}

export class ConfigWatch {
  readonly #options: ConfigWatchOptions;
  readonly #log = logger("agent");
  #problem: string | null = null;
  #notice: string | null = null;
  #outdated: string | null = null;

  constructor(options: ConfigWatchOptions) {
    this.#options = options;
  }

  /** Why a new configuration is not obeyed; null: it is, or there is none. */
  get problem(): string | null {
    return this.#problem;
  }

  /** The part of the newest configuration that needs a restart of this host; null: none. */
  get outdated(): string | null {
    return this.#outdated;
  }

  /** What of a new configuration is to be taken up yet: a sentence, or none. */
  get notices(): readonly string[] {
    return this.#notice === null ? [] : [this.#notice];
  }

  /** Says that the node has read the configuration anew and works by it. */
  settle(): void {
    if (this.#problem !== null) this.#log.info`no longer: ${this.#problem}`;
    this.#problem = null;
    this.#notice = null;
    this.#outdated = null;
  }

  /** Takes up what can be, and says what cannot, until the signal is aborted. */
  async follow(store: LeaseStore, signal: AbortSignal): Promise<void> {
    for await (const news of store.watchConfig(signal, this.#options.network().config)) {
      try {
        if (news instanceof SelvageError) throw news;
        this.#obey(news);
        this.#problem = null;
      } catch (error) {
        this.#problem = "the network's new configuration is not obeyed, this host goes on with " +
          `the one before: ${adviceText(error)}`;
        this.#log.warning`${this.#problem}`;
      }
    }
  }

  /** Throws, and changes nothing, if this host cannot obey it, or not without a new start. */
  #obey(config: NetworkConfig): void {
    const { network, judge, onChanged } = this.#options;
    const { config: before, backend } = network();
    const change = judgeConfigChange(before, config, backend.optionNames);
    this.#outdated = null;
    // Nobody is to restart for what a new start could not obey either.
    const judged = judge(config);
    this.#notice = null;
    if (change.kind === "refused") this.#outdated = change.what;
    if (change.kind === "refused") {
      throw new SelvageError("unsupported", `it has ${change.what}; restart selvage on this host`);
    }
    if (change.kind === "none") return onChanged(judged, false);
    logConfigWarnings(judged);
    const news = `the network's configuration has changed: ${change.what}`;
    if (change.kind === "obeyed") {
      this.#log.info`${news}`;
      return onChanged(judged, true);
    }
    const subnets = this.#options.leasedSubnets();
    const isLeft = subnets !== null && !isCompatible(config, subnets);
    const cost = isLeft ? `, and then takes another subnet than ${subnets.join(", ")}` : "";
    this.#notice = `${news}; this host takes it up when selvage starts next${cost}`;
    this.#log.info`${this.#notice}`;
  }
}
