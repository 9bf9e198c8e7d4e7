/** The network's configuration in etcd. */
import type { NetworkConfig } from "../config/network_config.ts";
import { formatNetworkConfig, parseNetworkConfig } from "../config/parse_network_config.ts";
import { SelvageError } from "../errors.ts";
import { AmbiguousError } from "./client/error.ts";
import type { KeyValue } from "./client/kv.ts";
import type { StoreContext } from "./context.ts";
import type { KeySpace } from "./lease_key.ts";

/** The configuration as it is written. */
export interface ConfigText {
  readonly text: string;
  /** Of etcd, when it was written: what a change of it is based on. */
  readonly revision: bigint;
}

/** What the entry says, or why it cannot be read. */
export function readConfigEntry(
  keys: KeySpace,
  entry: KeyValue | null,
): NetworkConfig | SelvageError {
  if (entry === null) {
    return new SelvageError("config_missing", `etcd has no network configuration: ${keys.config}`, {
      hint: "Write one: selvage config set FILE.",
    });
  }
  try {
    return parseNetworkConfig(entry.value, `etcd key ${keys.config}`);
  } catch (error) {
    if (error instanceof SelvageError) return error;
    throw error;
  }
}

/** Throws what stands in place of a configuration. */
export function orThrow(config: NetworkConfig | SelvageError): NetworkConfig {
  if (config instanceof SelvageError) throw config;
  return config;
}

/** The configuration's text; null: there is none. */
export async function readConfigText(
  { etcd, keys }: StoreContext,
  signal?: AbortSignal,
): Promise<ConfigText | null> {
  const { entry } = await etcd.get(keys.config, signal);
  return entry && { text: entry.value, revision: entry.modRevision };
}

function saysTheSame(before: string, config: NetworkConfig, where: string): boolean {
  try {
    const was = parseNetworkConfig(before, where);
    return formatNetworkConfig(was) === formatNetworkConfig(config) &&
      `${was.otherKeys}` === `${config.otherKeys}`;
  } catch {
    return false;
  }
}

/**
 * Writes the configuration as the text is, once it was checked. False: what is there says the same,
 * and nothing was done. `basedOn` is the revision of what the caller looked at, 0n for none: what
 * was written since then is not lost, but makes it throw `conflict`; so does, without `basedOn`,
 * what is written during the call. Throws `invalid_argument` that names `where`.
 */
export async function writeConfig(
  context: StoreContext,
  text: string,
  where: string,
  basedOn?: bigint,
  signal?: AbortSignal,
): Promise<boolean> {
  const { etcd, keys } = context;
  const config = parseNetworkConfig(text, where);
  const before = await readConfigText(context, signal);
  const is = before?.revision ?? 0n;
  if (basedOn === undefined || basedOn === is) {
    if (before !== null && saysTheSame(before.text, config, where)) return false;
    const put = { put: keys.config, value: text, leaseId: 0n };
    const compare = { key: keys.config, target: "modRevision", is } as const;
    try {
      if ((await etcd.transact([compare], [put], [], signal)).succeeded) return true;
    } catch (error) {
      if (!(error instanceof AmbiguousError)) throw error;
      const now = await readConfigText(context, signal);
      if (now !== null && now.text === text && now.revision > is) return true;
      // It may yet be done, or not: the caller looks and decides.
      if ((now?.revision ?? 0n) === is) throw error;
    }
  }
  throw new SelvageError("conflict", `${keys.config}: another program has changed it meanwhile`, {
    hint: "Look at the new configuration (selvage config get), then set yours again.",
  });
}
