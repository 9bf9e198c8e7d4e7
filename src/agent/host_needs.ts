/** What a host needs in its kernel beside the backend's plan. Pure. */
import { planFirewall } from "../backend/plan_firewall.ts";
import type { NetworkConfig } from "../config/network_config.ts";
import { IPV4_FORWARDING } from "../kernel/device_sysctls.ts";
import type { DesiredForwarding } from "../kernel/forward_accept.ts";
import type { DesiredTable } from "../kernel/firewall_state.ts";
import type { DesiredBlackhole, DesiredSysctl } from "../kernel/state.ts";
import type { Lease } from "../lease/lease.ts";
import type { RunOptions } from "./options.ts";

export interface HostNeeds {
  readonly firewallTables: readonly DesiredTable[];
  /** What chains of others are to let pass. */
  readonly forwarding: Omit<DesiredForwarding, "linkNames">;
  readonly sysctls: readonly DesiredSysctl[];
  /** Where packets end that nothing better takes. */
  readonly blackholes: readonly DesiredBlackhole[];
}

export function hostNeeds(
  { ranges }: NetworkConfig,
  { subnets }: Pick<Lease, "subnets">,
  options: Pick<
    RunOptions,
    "ipMasq" | "isMasqFullyRandom" | "forwardRules" | "setsSysctls" | "blackholeRoute"
  >,
): HostNeeds {
  const { ipMasq, isMasqFullyRandom: isFullyRandom, forwardRules, setsSysctls } = options;
  const networks = ranges.map(({ network }) => network);
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
    blackholes: options.blackholeRoute ? subnets.map((destination) => ({ destination })) : [],
  };
}
