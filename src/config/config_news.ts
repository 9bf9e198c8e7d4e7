/** What is new among configurations that are read again and again. */
import { SelvageError } from "../errors.ts";
import type { NetworkConfig } from "./network_config.ts";
import { formatNetworkConfig } from "./parse_network_config.ts";

/** By what it says: other spaces, or a default written out, make no other configuration. */
function identityOf(one: NetworkConfig | SelvageError): string {
  return one instanceof SelvageError
    ? `${one.code}: ${one.message}`
    : `config: ${formatNetworkConfig(one)}`;
}

/** Tells a configuration, or the error in its place, from the one before it. */
export class ConfigNews {
  #told: string | null;

  /** @param known What whoever asks knows already. */
  constructor(known?: NetworkConfig) {
    this.#told = known === undefined ? null : identityOf(known);
  }

  /** Whether it says something else than the one asked about before. */
  take(now: NetworkConfig | SelvageError): boolean {
    const identity = identityOf(now);
    const isNews = identity !== this.#told;
    this.#told = identity;
    return isNews;
  }
}
