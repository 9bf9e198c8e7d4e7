/** Leases and configuration straight from etcd: no daemon need run. */
import { configView, leaseView, reservationView } from "../api/views.ts";
import { watchLines } from "../api/watch_lines.ts";
import type { EtcdAnswer } from "../check/options.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { parseNetworkConfig } from "../config/parse_network_config.ts";
import { SelvageError } from "../errors.ts";
import type { ConfigText } from "../etcd/config.ts";
import type { EtcdStore } from "../etcd/etcd_store.ts";
import type { EtcdOptions } from "../etcd/options.ts";
import type { Lease, LeaseAttributes } from "../lease/lease.ts";
import { IpAddress, IpPrefix } from "../net/ip.ts";
import type { NetworkAccess } from "./access.ts";
import type { CommandContext } from "./context.ts";

/** How errors call the key of the configuration. */
function configKeyOf({ prefix }: EtcdOptions): string {
  return `etcd key ${prefix}/config`;
}

async function openStore(options: EtcdOptions, { deps }: CommandContext): Promise<EtcdStore> {
  const etcd = await deps.openEtcd(options);
  const { EtcdStore } = await import("../etcd/etcd_store.ts");
  return new EtcdStore({ etcd, prefix: options.prefix });
}

/** What was found, checked; where there is none, etcd's own words are thrown. */
async function parseFound(
  found: ConfigText | null,
  store: EtcdStore,
  options: EtcdOptions,
  signal?: AbortSignal,
): Promise<NetworkConfig> {
  return found === null
    ? await store.readConfig(signal)
    : parseNetworkConfig(found.text, configKeyOf(options));
}

/** Asks etcd as a host would that is about to start. Throws for flags that will not do. */
export async function askEtcd(options: EtcdOptions, context: CommandContext): Promise<EtcdAnswer> {
  const store = await openStore(options, context);
  const signal = context.io.interrupted();
  const configKey = configKeyOf(options);
  const answer = { endpoints: options.endpoints.join(","), configKey };
  let configText: string | null = null;
  let leases: readonly Lease[] = [];
  try {
    const found = await store.readConfigText(signal);
    configText = found?.text ?? null;
    await parseFound(found, store, options, signal);
    leases = await store.list(signal);
    await store.probeWrite(signal);
    return { ...answer, configText, leases, problem: null };
  } catch (error) {
    if (!(error instanceof SelvageError)) throw error;
    // One that cannot be read is etcd's problem here, and no configuration to judge by.
    const isBroken = error.code === "invalid_argument";
    const problem = { why: error.message, hint: error.hint };
    return { ...answer, configText: isBroken ? null : configText, leases, problem };
  } finally {
    await store.close();
  }
}

/** Opens etcd. Throws `invalid_argument` for an endpoint or a file that will not do. */
export async function etcdAccess(
  options: EtcdOptions,
  context: CommandContext,
): Promise<NetworkAccess> {
  const store = await openStore(options, context);
  /** The revision of the configuration that was looked at. */
  let seen: bigint | undefined;
  return {
    place: `etcd, ${options.endpoints.join(",")}, ${options.prefix}`,
    keepsText: true,
    async leases() {
      const leases = (await store.list()).map(leaseView);
      const { unreadableCount, unreadable } = store.state();
      return { leases, storeError: null, unreadableCount, unreadable };
    },
    async reserve(subnets, publicAddresses, isForced) {
      const { backend } = await store.readConfig();
      const prefixes = subnets.map((one) => IpPrefix.parse(one));
      const attributes: LeaseAttributes = {
        publicAddresses: publicAddresses.map((one) => IpAddress.parse(one)),
        backendType: backend.type,
        backendData: {},
        awaitsHost: true,
      };
      if (!isForced) return leaseView(await store.reserve(prefixes, attributes));
      return reservationView(await store.reserveByForce(prefixes, attributes));
    },
    revoke: (key) => store.revoke(key),
    watch: (signal) => watchLines(store, signal),
    async config() {
      const found = await store.readConfigText();
      seen = found?.revision ?? 0n;
      return configView(await parseFound(found, store, options));
    },
    async setConfig(text, where) {
      return await store.setConfig(text, where, seen);
    },
    // Each host judges for itself when it reads the configuration.
    judgeConfig: () => Promise.resolve(),
    close: () => store.close(),
  };
}
