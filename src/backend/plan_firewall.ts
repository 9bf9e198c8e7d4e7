/** The rules by which containers reach the outside and each other, in flannel's order. */
import { IpPrefix, ofFamily } from "../net/ip.ts";
import {
  type DesiredChain,
  type DesiredRule,
  type DesiredTable,
  FIREWALL_TABLE,
  type FirewallMatch,
} from "../kernel/firewall_state.ts";

/** What kube-proxy marks that it masquerades itself. */
const KUBE_MARK = 0x4000;
/** RFC 5771, RFC 4291 section 2.7. */
const MULTICAST = [IpPrefix.parse("224.0.0.0/4"), IpPrefix.parse("ff00::/8")] as const;

export interface FirewallPlanInput {
  /** The cluster's networks, at most one a family. */
  readonly networks: readonly IpPrefix[];
  /** This node's own subnets, at most one a family. */
  readonly subnets: readonly IpPrefix[];
  /** `--ip-masq` */
  readonly ipMasq: boolean;
  /** False with `--ip-masq-fully-random-disable`. */
  readonly isFullyRandom: boolean;
  /** `--iptables-forward-rules` */
  readonly forwardRules: boolean;
}

function from(prefix: IpPrefix, isInside = true): FirewallMatch {
  return { type: "source", prefix, isInside };
}

function to(prefix: IpPrefix, isInside = true): FirewallMatch {
  return { type: "destination", prefix, isInside };
}

/** flannel's order: each rule speaks of what those before it left. */
function masquerade(network: IpPrefix, subnet: IpPrefix, isFullyRandom: boolean): DesiredChain {
  const leave = { type: "return" } as const;
  const translate = { type: "masquerade", isFullyRandom } as const;
  const multicast = ofFamily(MULTICAST, network.family)!;
  const rules: DesiredRule[] = [
    { matches: [{ type: "mark", value: KUBE_MARK, mask: KUBE_MARK }], verdict: leave },
    { matches: [from(subnet), to(network)], verdict: leave },
    { matches: [from(network), to(subnet)], verdict: leave },
    // The containers of this node see who it is that calls from outside.
    { matches: [from(network, false), to(subnet)], verdict: leave },
    { matches: [from(network), to(multicast, false)], verdict: translate },
    // To another node's container: its answer must come back through this node.
    { matches: [from(network, false), to(network)], verdict: translate },
  ];
  return { name: "postrouting", hook: "nat postrouting", rules };
}

function forward(network: IpPrefix): DesiredChain {
  const accept = { type: "accept" } as const;
  const rules = [from(network), to(network)].map((match) => ({
    matches: [match],
    verdict: accept,
  }));
  return { name: "forward", hook: "filter forward", rules };
}

/**
 * Our firewall tables, one for each family that has a network and a subnet, with a chain for each
 * purpose that is switched on; none where both are off.
 */
export function planFirewall(input: FirewallPlanInput): DesiredTable[] {
  const { networks, subnets, ipMasq, isFullyRandom, forwardRules } = input;
  return networks.flatMap((network) => {
    const subnet = ofFamily(subnets, network.family);
    if (subnet === undefined) return [];
    const chains = [
      ...(ipMasq ? [masquerade(network, subnet, isFullyRandom)] : []),
      ...(forwardRules ? [forward(network)] : []),
    ];
    const { family } = network;
    return chains.length === 0 ? [] : [{ family, name: FIREWALL_TABLE, sets: [], chains }];
  });
}
