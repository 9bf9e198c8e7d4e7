/** What a host needs in its kernel beside the backend's plan. Pure. */
import { planFirewall } from "../backend/plan_firewall.ts";
import { overlayPrefixes } from "../config/overlay_prefixes.ts";
import { IPV4_FORWARDING } from "../kernel/device_sysctls.ts";
import type { DesiredForwarding } from "../kernel/forward_accept.ts";
import type { DesiredTable } from "../kernel/firewall_state.ts";
import type { DesiredBlackhole, DesiredSysctl } from "../kernel/state.ts";
import type { Lease } from "../lease/lease.ts";
import type { Network } from "./network.ts";
import type { RunOptions } from "./options.ts";

export interface HostNeeds {
  readonly firewallTables: readonly DesiredTable[];
  /** What the forward chains of others must let pass. */
  readonly forwarding: Omit<DesiredForwarding, "linkNames">;
  readonly sysctls: readonly DesiredSysctl[];
  /** Where packets end that nothing better takes. */
  readonly blackholes: readonly DesiredBlackhole[];
}

type NetworkPlan = Pick<Network, "config" | "backend">;

/**
 * The addresses of the overlay, which are to be unreachable as long as no better route leads to
 * them: never do the overlay's packets leave by the default route, unencapsulated. Those of a
 * backend that carries nothing are others' to route. Where the user allowed that a network with a
 * route a peer overlaps what this host needs, only the routes of peers take anything of it.
 */
export function unreachableAddresses(
  { config, backend }: NetworkPlan,
  { allowsNetworkOverlap }: Pick<RunOptions, "allowsNetworkOverlap">,
): DesiredBlackhole[] {
  const isWhole = backend.routesWholeNetwork?.(config) ?? false;
  if (backend.carriesNothing || (allowsNetworkOverlap && !isWhole)) return [];
  return overlayPrefixes(config, isWhole)
    .map((destination) => ({ destination, isAnswered: true }));
}

/** What the host needs for the network while it holds these subnets of it. */
export function hostNeeds(
  network: NetworkPlan,
  { subnets }: Pick<Lease, "subnets">,
  options: Pick<
    RunOptions,
    | "ipMasq"
    | "isMasqFullyRandom"
    | "forwardRules"
    | "setsSysctls"
    | "blackholeRoute"
    | "allowsNetworkOverlap"
  >,
): HostNeeds {
  const { ipMasq, isMasqFullyRandom: isFullyRandom, forwardRules, setsSysctls } = options;
  const { config: { ranges }, backend } = network;
  const networks = ranges.map(({ network }) => network);
  const holes = options.blackholeRoute ? subnets : [];
  // The user's commands say which way their packets go, also by routes that are wider than ours.
  const unreachable = backend.commands === undefined ? unreachableAddresses(network, options) : [];
  return {
    firewallTables: planFirewall({
      networks,
      subnets,
      ipMasq,
      isFullyRandom,
      forwardRules: forwardRules !== false,
    }),
    forwarding: { networks, isInserting: forwardRules === true },
    // That packets of these families go on their way.
    sysctls: ranges.map(({ family }) => ({
      path: family === 4 ? IPV4_FORWARDING : "net/ipv6/conf/all/forwarding",
      value: "1",
      isSet: setsSysctls,
    })),
    blackholes: [
      ...holes.map((destination) => ({ destination, isAnswered: false })),
      // Two routes for the same addresses would be in each other's place.
      ...unreachable.filter(({ destination }) => !holes.some((hole) => hole.equals(destination))),
    ],
  };
}
