/**
 * Keeps the overlay's packets on a host that has no lease: without the overlay's routes they would
 * leave by the default one, unencapsulated, from addresses that are another host's.
 */
import { NO_KERNEL_STATE } from "../kernel/state.ts";
import type { IpPrefix } from "../net/ip.ts";
import { hostNeeds, unreachableAddresses } from "./host_needs.ts";
import { KernelKeeper, type KernelKeeperOptions } from "./kernel_keeper.ts";
import type { Network } from "./network.ts";

export type BarrierOptions = Pick<
  KernelKeeperOptions,
  "reconciler" | "firewall" | "forwardAccepts" | "outerLink" | "onChecked"
>;

/**
 * Makes the kernel refuse packets to the network, except for those to this host's own containers.
 * Maintains this until `stop`, after which the routes stay. `subnets` are those that the containers
 * have addresses of: the rules by which these reach the outside stay.
 */
export function raiseBarrier(
  network: Network,
  subnets: readonly IpPrefix[],
  flags: Parameters<typeof hostNeeds>[2],
  options: BarrierOptions,
): KernelKeeper {
  const keeper = new KernelKeeper({
    ...options,
    ...hostNeeds(network, { subnets }, flags),
    blackholes: unreachableAddresses(network, flags),
    arePeersKnown: () => true,
  });
  keeper.begin(NO_KERNEL_STATE);
  return keeper;
}
