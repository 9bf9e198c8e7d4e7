/**
 * Reads and writes flannel's network configuration, with the rules and defaults of flannel's
 * `ParseConfig` and `CheckNetworkConfig`.
 */
import { SelvageError } from "../errors.ts";
import { parseJson } from "../net/checked.ts";
import { bitsOf, type Family, IpAddress, IpPrefix, ofFamily } from "../net/ip.ts";
import type { NetworkConfig, SubnetRange } from "./network_config.ts";

/** The longest text that is read; flannel's own are some hundred bytes. */
export const CONFIG_SIZE_MAX_BYTES = 64 * 1024;

/** A JSON object whose keys are looked up as Go's decoder does: without regard to case. */
class GoObject {
  readonly #entries = new Map<string, readonly [key: string, value: unknown]>();

  constructor(value: object, readonly where: string) {
    // Of keys that differ in case only, the last one written counts, as in Go.
    for (const [key, item] of Object.entries(value)) {
      this.#entries.set(key.toLowerCase(), [key, item]);
    }
  }

  error(key: string, why: string): SelvageError {
    const value = this.#entries.get(key.toLowerCase())?.[1];
    const shown = value === undefined ? "" : ` ${JSON.stringify(value).slice(0, 80)}`;
    return new SelvageError("invalid_argument", `${this.where}: ${key}${shown}: ${why}`);
  }

  /** The value of a key, undefined when it is missing or null (Go leaves the default then). */
  get(key: string): unknown {
    return this.#entries.get(key.toLowerCase())?.[1] ?? undefined;
  }

  boolean(key: string, byDefault: boolean): boolean {
    const value = this.get(key) ?? byDefault;
    if (typeof value !== "boolean") throw this.error(key, "must be true or false");
    return value;
  }

  string(key: string): string | undefined {
    const value = this.get(key);
    if (value !== undefined && typeof value !== "string") throw this.error(key, "must be a text");
    return value;
  }

  /** A prefix length; undefined when it is missing or 0, which means the default. */
  length(key: string): number | undefined {
    const value = this.get(key) ?? 0;
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0) {
      throw this.error(key, "must be a whole number, such as 24");
    }
    return value === 0 ? undefined : value;
  }

  prefix(key: string, family: Family): IpPrefix | undefined {
    const text = this.string(key);
    if (text === undefined) return undefined;
    const prefix = IpPrefix.parse(text, `${this.where}: ${key}`);
    if (prefix.family !== family) throw this.error(key, `must be an IPv${family} prefix`);
    return prefix;
  }

  /** An address; undefined when it is missing or unspecified, which means the default. */
  address(key: string, family: Family): IpAddress | undefined {
    const text = this.string(key);
    if (text === undefined) return undefined;
    const address = IpAddress.parse(text, `${this.where}: ${key}`);
    if (address.family !== family) throw this.error(key, `must be an IPv${family} address`);
    return address.isUnspecified() ? undefined : address;
  }

  object(key: string): GoObject | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw this.error(key, "must be an object");
    }
    return new GoObject(value, `${this.where}: ${key}`);
  }

  /** The keys, as written, that are none of these. */
  keysBut(known: readonly string[]): string[] {
    const names = new Set(known.map((name) => name.toLowerCase()));
    return [...this.#entries].filter(([name]) => !names.has(name)).map(([, [key]]) => key);
  }

  /** All entries as written but the one named. */
  rest(key: string): Record<string, unknown> {
    const others = [...this.#entries].filter(([name]) => name !== key.toLowerCase());
    return Object.fromEntries(others.map(([, entry]) => entry));
  }
}

/** flannel's bounds, which differ by family. */
const RULES = {
  // A subnet needs four addresses: network, tunnel, bridge, one container.
  4: { prefix: "", lengthMax: 30, lengthDefault: 24 },
  6: { prefix: "IPv6", lengthMax: 126, lengthDefault: 64 },
} as const;

/** What is no host's, on no network (RFC 1122 section 3.2.1.3, RFC 4291 section 2.4). */
const RESERVED = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "ff00::/8"]
  .map((text) => IpPrefix.parse(text));

/** All keys that mean something. */
const CONFIG_KEYS: readonly string[] = [
  ...["EnableIPv4", "EnableIPv6", "EnableNFTables", "Backend"],
  ...Object.values(RULES).flatMap(({ prefix }) =>
    ["Network", "SubnetLen", "SubnetMin", "SubnetMax"].map((name) => `${prefix}${name}`)
  ),
];

/** The length of one node's subnet: as given, else flannel's default for the network. */
function subnetLength(source: GoObject, family: Family, network: IpPrefix): number {
  const { prefix, lengthMax, lengthDefault } = RULES[family];
  const given = source.length(`${prefix}SubnetLen`);
  if (given === undefined) {
    if (network.length > lengthMax - 2) {
      const rule = `too small; it must be a /${lengthMax - 2} or shorter, to hold four subnets`;
      throw source.error(`${prefix}Network`, rule);
    }
    return network.length <= lengthDefault - 2 ? lengthDefault : network.length + 2;
  }
  if (given > lengthMax) throw source.error(`${prefix}SubnetLen`, `must be at most ${lengthMax}`);
  if (given < network.length + 2) {
    const rule = `must be at least ${network.length + 2}, so that ${network} holds four subnets`;
    throw source.error(`${prefix}SubnetLen`, rule);
  }
  return given;
}

function readRange(source: GoObject, family: Family, network: IpPrefix): SubnetRange {
  const { prefix } = RULES[family];
  const reserved = RESERVED.find((range) => range.overlaps(network));
  if (reserved !== undefined) {
    throw source.error(`${prefix}Network`, `overlaps ${reserved}, where no host can be`);
  }
  const length = subnetLength(source, family, network);
  const size = 1n << BigInt(bitsOf(family) - length);
  const bound = (key: string, byDefault: IpAddress): IpAddress => {
    const address = source.address(key, family) ?? byDefault;
    if (!network.contains(address)) throw source.error(key, `does not lie in ${network}`);
    const subnet = IpPrefix.of(address, length);
    if (!subnet.address.equals(address)) {
      const rule = `not on a /${length} boundary; the one below is ${subnet.address}`;
      throw source.error(key, rule);
    }
    return address;
  };
  // The first subnet is left out: its .0 is the network's own address.
  const subnetMin = bound(`${prefix}SubnetMin`, network.address.add(size));
  const subnetMax = bound(`${prefix}SubnetMax`, network.last.add(1n - size));
  if (subnetMin.compare(subnetMax) > 0) {
    throw source.error(`${prefix}SubnetMin`, `lies above ${prefix}SubnetMax ${subnetMax}`);
  }
  return { family, network, subnetLength: length, subnetMin, subnetMax };
}

/**
 * Reads a network configuration. `where` (a file name, a store's key) begins every error. Keys
 * it does not know are accepted, as flannel does. Whether a backend can do what is asked is the
 * backend's to say. Throws `invalid_argument`, which names key, value and rule.
 */
export function parseNetworkConfig(text: string, where: string): NetworkConfig {
  if (text.length > CONFIG_SIZE_MAX_BYTES) {
    const limit = `longer than ${CONFIG_SIZE_MAX_BYTES} characters`;
    throw new SelvageError("too_large", `${where}: ${limit}`);
  }
  const value = parseJson(text, where);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new SelvageError("invalid_argument", `${where}: must be a JSON object`, {
      hint: 'The shortest one is {"Network": "10.5.0.0/16"}.',
    });
  }
  const source = new GoObject(value, where);
  const enabled = { 4: source.boolean("EnableIPv4", true), 6: source.boolean("EnableIPv6", false) };
  if (!enabled[4] && !enabled[6]) {
    throw source.error("EnableIPv4", "one of EnableIPv4 and EnableIPv6 must be true");
  }
  const ranges: SubnetRange[] = [];
  for (const family of [4, 6] as const) {
    const key = `${RULES[family].prefix}Network`;
    // Read also when the family is off: flannel refuses a text that is no prefix either way.
    const network = source.prefix(key, family);
    if (!enabled[family]) continue;
    if (network === undefined) {
      throw source.error(key, `missing, and IPv${family} is switched on`);
    }
    ranges.push(readRange(source, family, network));
  }
  const backend = source.object("Backend");
  return {
    ranges,
    enableNftables: source.boolean("EnableNFTables", false),
    otherKeys: source.keysBut(CONFIG_KEYS),
    backend: {
      type: (backend?.string("Type") || "udp").toLowerCase(),
      options: backend?.rest("Type") ?? {},
    },
  };
}

/** The configuration as flannel's JSON, every default filled in; `parseNetworkConfig` reads it. */
export function formatNetworkConfig(config: NetworkConfig): string {
  const value: Record<string, unknown> = {
    EnableIPv4: ofFamily(config.ranges, 4) !== undefined,
    EnableIPv6: ofFamily(config.ranges, 6) !== undefined,
    EnableNFTables: config.enableNftables,
  };
  for (const range of config.ranges) {
    const { prefix } = RULES[range.family];
    value[`${prefix}Network`] = range.network;
    value[`${prefix}SubnetLen`] = range.subnetLength;
    value[`${prefix}SubnetMin`] = range.subnetMin;
    value[`${prefix}SubnetMax`] = range.subnetMax;
  }
  value.Backend = { Type: config.backend.type, ...config.backend.options };
  return JSON.stringify(value);
}
