/** Leases and configuration straight from etcd: no daemon need run. */
import { configView, leaseView } from "../api/views.ts";
import { watchLines } from "../api/watch_lines.ts";
import type { EtcdAnswer } from "../check/options.ts";
import { parseNetworkConfig } from "../config/parse_network_config.ts";
import { SelvageError } from "../errors.ts";
import type { EtcdOptions } from "../etcd/options.ts";
import type { Lease } from "../lease/lease.ts";
import { IpAddress, IpPrefix } from "../net/ip.ts";
import type { NetworkAccess } from "./access.ts";
import type { CommandContext } from "./context.ts";

/** Asks etcd as a host would that is about to start. Throws for flags that will not do. */
export async function askEtcd(
  options: EtcdOptions,
  { deps, io }: CommandContext,
): Promise<EtcdAnswer> {
  const etcd = await deps.openEtcd(options);
  const { EtcdStore } = await import("../etcd/etcd_store.ts");
  const store = new EtcdStore({ etcd, prefix: options.prefix });
  const signal = io.interrupted();
  const configKey = `etcd key ${options.prefix}/config`;
  const answer = { endpoints: options.endpoints.join(","), configKey };
  let configText: string | null = null;
  let leases: readonly Lease[] = [];
  try {
    configText = (await store.readConfigText(signal))?.text ?? null;
    await store.readConfig(signal);
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
  { deps }: CommandContext,
): Promise<NetworkAccess> {
  const etcd = await deps.openEtcd(options);
  const { EtcdStore } = await import("../etcd/etcd_store.ts");
  const store = new EtcdStore({ etcd, prefix: options.prefix });
  /** The revision of the configuration that was looked at. */
  let seen: bigint | undefined;
  return {
    place: `etcd, ${options.endpoints.join(",")}, ${options.prefix}`,
    keepsText: true,
    async leases() {
      const leases = (await store.list()).map(leaseView);
      return { leases, storeError: null, unreadableCount: store.state().unreadableCount };
    },
    async reserve(subnets, publicAddresses) {
      const { backend } = await store.readConfig();
      const lease = await store.reserve(subnets.map((one) => IpPrefix.parse(one)), {
        publicAddresses: publicAddresses.map((one) => IpAddress.parse(one)),
        backendType: backend.type,
        backendData: {},
      });
      return leaseView(lease);
    },
    revoke: (key) => store.revoke(key),
    watch: (signal) => watchLines(store, signal),
    async config() {
      const found = await store.readConfigText();
      seen = found?.revision ?? 0n;
      // Where there is none, it says so in its own words.
      if (found === null) return configView(await store.readConfig());
      return configView(parseNetworkConfig(found.text, `etcd key ${options.prefix}/config`));
    },
    async setConfig(text, where) {
      return await store.setConfig(text, where, seen);
    },
    close: () => store.close(),
  };
}
