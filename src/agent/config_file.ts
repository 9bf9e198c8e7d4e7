/**
 * The file of `--net-config`. The registry owns the network's configuration; the file is applied
 * when it says something else than when it was applied last, so a restart with an unchanged file
 * does not undo `selvage config set`. Where file and registry differ, that is said.
 */
import { findSplit } from "../backend/config_split.ts";
import { configChanges } from "../config/config_changes.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { formatNetworkConfig, parseNetworkConfig } from "../config/parse_network_config.ts";
import { readFileBounded } from "../files.ts";
import { logger } from "../log.ts";
import type { EmbeddedStore } from "../store/embedded_store.ts";
import type { Network } from "./network.ts";

/** How many keys that differ are named. */
const NAMED_KEYS_MAX = 5;

/** A file that was read, and what this host makes of it. */
export class ConfigFile {
  readonly #log = logger("agent");
  readonly #path: string;
  readonly #config: NetworkConfig;
  readonly #judge: (config: NetworkConfig) => Network;

  /** Reads the file. Throws, naming it, if it cannot be read or breaks the rules. */
  constructor(path: string, judge: (config: NetworkConfig) => Network) {
    this.#path = path;
    this.#config = parseNetworkConfig(readFileBounded(path), path);
    this.#judge = judge;
  }

  /** What it means on this host. Throws if this host cannot obey it. */
  judge(): Network {
    return this.#judge(this.#config);
  }

  /** As the registry writes it: white space and the order of keys make no difference. */
  get text(): string {
    return formatNetworkConfig(this.#config);
  }

  /**
   * Whether it is to be applied: it has changed since it was applied last, or the registry has no
   * configuration. A registry that has never seen a file, as one of an older Selvage, keeps what it
   * has, and the file is applied when it changes next.
   */
  isNewTo(store: EmbeddedStore): boolean {
    const { config, configFileText } = store;
    return config === null || (configFileText !== null && configFileText !== this.text);
  }

  /** Lets a registry that has never seen a file notice the next change of this one. */
  introduceTo(store: EmbeddedStore): void {
    const isUnknown = store.config !== null && store.configFileText === null;
    if (isUnknown) store.rememberConfigFile(this.text);
  }

  /** Makes it the network's configuration. Throws as `EmbeddedStore.setConfig`. */
  apply(store: EmbeddedStore): void {
    const changes = store.config === null ? [] : this.#differences(store);
    const isReplaced = changes.length > 0;
    const split = findSplit(changes);
    store.setConfig(this.text, this.#path, { isFile: true });
    if (isReplaced) {
      this.#log.info`${this.#path} has changed; it is now the network's configuration`;
    }
    if (split !== null) this.#log.warning`${split.what}: ${split.procedure}`;
  }

  #differences({ config }: EmbeddedStore) {
    const asObject = (text: string) => JSON.parse(text) as object;
    return configChanges(
      config === null ? null : asObject(formatNetworkConfig(config)),
      asObject(this.text),
    );
  }

  /** That the registry has another configuration than the file, and what to do; null: the same. */
  notice(store: EmbeddedStore): string | null {
    if (store.config === null) return null;
    const changes = this.#differences(store);
    if (changes.length === 0) return null;
    const said = changes.slice(0, NAMED_KEYS_MAX).map(({ key, now, next }) =>
      `${key} is ${now ?? "unset"} in the registry and ${next ?? "unset"} in the file`
    );
    const more = changes.length > NAMED_KEYS_MAX ? ", and more" : "";
    return `${this.#path} is not in force; the registry's configuration is (${said.join(", ")}` +
      `${more}). To keep the registry's, write it into the file: selvage config show > ` +
      `${this.#path}. To put the file into force: selvage config set ${this.#path}`;
  }
}
