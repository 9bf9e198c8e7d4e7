/**
 * Keeps the overlay's packets on a host that has no lease: without the overlay's routes they would
 * leave by the default one, unencapsulated, from addresses that are another host's.
 */
import type { NetworkConfig } from "../config/network_config.ts";
import { NO_KERNEL_STATE } from "../kernel/state.ts";
import type { Lease } from "../lease/lease.ts";
import { hostNeeds } from "./host_needs.ts";
import { KernelKeeper, type KernelKeeperOptions } from "./kernel_keeper.ts";

export type BarrierOptions = Pick<
  KernelKeeperOptions,
  "reconciler" | "firewall" | "outerLink" | "onChecked"
>;

/**
 * Has the kernel drop what is for the network and not for this host's own containers, and keeps it
 * so until `stop`. The rules for packets to the outside stay as they were with `lease`, the lost
 * one.
 */
export function raiseBarrier(
  config: NetworkConfig,
  lease: Lease,
  flags: Parameters<typeof hostNeeds>[2],
  options: BarrierOptions,
): KernelKeeper {
  const keeper = new KernelKeeper({
    ...options,
    ...hostNeeds(config, lease, flags),
    blackholes: config.ranges.map(({ network }) => ({ destination: network })),
    arePeersKnown: () => true,
  });
  keeper.begin(NO_KERNEL_STATE);
  return keeper;
}
