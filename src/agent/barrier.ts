/**
 * Keeps the overlay's packets on a host that has no lease: without the overlay's routes they would
 * leave by the default one, unencapsulated, from addresses that are another host's.
 */
import type { NetworkConfig } from "../config/network_config.ts";
import { NO_KERNEL_STATE } from "../kernel/state.ts";
import type { IpPrefix } from "../net/ip.ts";
import { hostNeeds } from "./host_needs.ts";
import { KernelKeeper, type KernelKeeperOptions } from "./kernel_keeper.ts";

export type BarrierOptions = Pick<
  KernelKeeperOptions,
  "reconciler" | "firewall" | "outerLink" | "onChecked"
>;

/**
 * Has the kernel drop what is for the network and not for this host's own containers, and keeps it
 * so until `stop`, after which it stays. `subnets` are those that the containers have addresses of:
 * the rules by which these reach the outside stay. Backend alloc has no part in where packets go.
 */
export function raiseBarrier(
  config: NetworkConfig,
  subnets: readonly IpPrefix[],
  flags: Parameters<typeof hostNeeds>[2],
  options: BarrierOptions,
): KernelKeeper {
  const keeper = new KernelKeeper({
    ...options,
    ...hostNeeds(config, { subnets }, flags),
    blackholes: config.backend.type === "alloc"
      ? []
      : config.ranges.map(({ network }) => ({ destination: network })),
    arePeersKnown: () => true,
  });
  keeper.begin(NO_KERNEL_STATE);
  return keeper;
}
