/** Leases and configuration straight from etcd: no daemon need run. */
import { changeView, configView, leaseView } from "../api/views.ts";
import { parseNetworkConfig } from "../config/parse_network_config.ts";
import type { EtcdOptions } from "../etcd/options.ts";
import { IpAddress, IpPrefix } from "../net/ip.ts";
import type { NetworkAccess } from "./access.ts";
import type { CommandContext } from "./context.ts";

/** Opens etcd. Throws `invalid_argument` for an endpoint or a file that will not do. */
export async function etcdAccess(
  options: EtcdOptions,
  { deps, io }: CommandContext,
): Promise<NetworkAccess> {
  const etcd = await deps.openEtcd(options);
  const { EtcdStore } = await import("../etcd/etcd_store.ts");
  const store = new EtcdStore({
    etcd,
    prefix: options.prefix,
    onStateChange: ({ connected, lastError }) => {
      // Calls that fail end the command with their error; a watch goes on, and must say so.
      if (!connected && isWatching) io.err(`selvage: etcd lost, trying again: ${lastError}\n`);
    },
  });
  let isWatching = false;
  /** The revision of the configuration that was looked at. */
  let seen: bigint | undefined;
  return {
    place: `etcd, ${options.endpoints.join(",")}, ${options.prefix}`,
    async leases() {
      return { leases: (await store.list()).map(leaseView), storeError: null };
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
    async *watch(signal) {
      isWatching = true;
      for await (const changes of store.watch(signal)) yield { changes: changes.map(changeView) };
    },
    async config() {
      const found = await store.readConfigText();
      seen = found?.revision ?? 0n;
      // Where there is none, it says so in its own words.
      if (found === null) return configView(await store.readConfig());
      return configView(parseNetworkConfig(found.text, `etcd key ${options.prefix}/config`));
    },
    async setConfig(text, where) {
      await store.setConfig(text, where, seen);
    },
    close: () => store.close(),
  };
}
