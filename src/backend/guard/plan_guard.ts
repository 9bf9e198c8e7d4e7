/**
 * The guard: firewall rules that let only packets of peers into a tunnel. On this host they let
 * only the tunnel send to the peers' tunnels. Pure.
 *
 * The kernel's tunnels trust every sender and every inner packet, so both are checked before the
 * kernel takes the packet out. Packet loops in user space check both themselves, and report senders
 * that are no peers by address. They do not see the interface, so the guard keeps from their
 * sockets only the packets that this host's containers and users send there.
 */
import { type DesiredChain, type DesiredTable, GUARD_TABLE } from "../../kernel/firewall_state.ts";
import { type Family, IpPrefix, ofFamily } from "../../net/ip.ts";
import {
  type Carrier,
  type FamilyInput,
  GUARD_REASONS,
  type GuardInput,
  isKernels,
} from "./input.ts";
import {
  innerDestinationRules,
  ipipChain,
  TUNNEL_CHAIN,
  tunnelChain,
  usualRule,
} from "./kernel_tunnel.ts";
import { overlayMtuRule, pathMtuRules } from "./path_mtu.ts";
import { QUOTED_HOSTS, setsOf } from "./peer_sets.ts";
import {
  accept,
  addressField,
  drop,
  inPrefix,
  jump,
  link,
  linkIndex,
  outerLink,
  outerMatches,
} from "./rule.ts";
import {
  asHostRules,
  FORWARDED_CHAIN,
  forwardedChain,
  ownTunnelRules,
  usersChains,
} from "./senders.ts";
import {
  DIRECT_CHAIN,
  DIRECT_INPUT_CHAIN,
  directChain,
  directInputChain,
  fromRange,
  subnetChain,
  subnetRule,
} from "./unencapsulated.ts";

function inputChain(input: FamilyInput): DesiredChain {
  const { family, carrier, isDirect, subnet, config } = input;
  const destination = addressField(family, "destination");
  const { outsideTunnel, pathMtu } = GUARD_REASONS;
  const unencapsulated = isDirect
    ? [jump(DIRECT_INPUT_CHAIN, ...fromRange(input))]
    : [drop(outsideTunnel, inPrefix(destination, subnet), ...fromRange(input))];
  const rules = [
    ...(isKernels(carrier)
      ? [
        usualRule(input, carrier),
        jump(TUNNEL_CHAIN, ...outerMatches(family, carrier)),
        ...pathMtuRules(family, carrier.type, QUOTED_HOSTS, GUARD_REASONS.pathMtu),
        ...innerDestinationRules(input, carrier),
      ]
      : []),
    ...(carrier?.type === "userspace" ? ownTunnelRules(input, carrier) : []),
    ...(carrier !== null && !isDirect
      ? [overlayMtuRule(ofFamily(config.ranges, family)!.network, carrier.device, pathMtu)]
      : []),
    ...unencapsulated,
    subnetRule(input),
  ];
  return { name: "input", hook: "filter input", rules };
}

function forwardChain(input: FamilyInput): DesiredChain {
  const { family, carrier, isDirect, subnet, link: outer, config } = input;
  const source = addressField(family, "source");
  const destination = addressField(family, "destination");
  const range = ofFamily(config.ranges, family)!;
  const last = IpPrefix.of(range.subnetMax, range.subnetLength).last.toBytes();
  const { sourceNotOwn, destinationNotOurs, outsideTunnel } = GUARD_REASONS;
  const forged = () =>
    drop(
      sourceNotOwn,
      outerLink("out", outer),
      inPrefix(source, subnet, false),
      { type: "range", field: source, first: range.subnetMin.toBytes(), last },
      outerLink("in", outer, false),
      ...(carrier === null ? [] : [link("in", carrier.device, false)]),
    );
  // The usual packet meets only these rules. They decide the same as the rules after them, but
  // sooner.
  const index = carrier === null ? undefined : input.linkIndexes.get(carrier.device);
  const usual = isDirect || index === undefined
    ? []
    : [accept(linkIndex("in", index)), accept(linkIndex("out", index))];
  const rules = [
    ...asHostRules(input),
    ...usual,
    subnetRule(input),
    // Containers that send from an address of another node. Packets that leave by a tunnel are
    // checked at its far end, where that costs nothing more.
    ...(isDirect ? [forged()] : []),
    ...(carrier === null ? [] : [
      // A tunnel inside the overlay may have the same port: its packets leave by ours.
      jump(
        FORWARDED_CHAIN,
        // Whatever its VNI: one packet may hold many datagrams (UDP GSO), and a rule sees only the
        // first one's.
        ...outerMatches(family, carrier),
        link("out", carrier.device, false),
        inPrefix(destination, range.network, false),
      ),
    ]),
    ...(isDirect
      ? [
        jump(DIRECT_CHAIN, ...fromRange(input)),
        drop(destinationNotOurs, ...fromRange(input), inPrefix(destination, subnet, false)),
      ]
      : [
        drop(
          outsideTunnel,
          inPrefix(destination, subnet),
          outerLink("in", outer),
          outerLink("out", outer, false),
          { type: "range", field: source, first: range.subnetMin.toBytes(), last },
        ),
      ]),
  ];
  return { name: "forward", hook: "filter forward", rules };
}

function chainsOf(input: FamilyInput): DesiredChain[] {
  const { carrier, isDirect } = input;
  return [
    ...(isKernels(carrier) ? [tunnelChain(input, carrier)] : []),
    ...(carrier === null ? [] : [forwardedChain(input)]),
    ...(isDirect ? [directChain(input), directInputChain(input)] : []),
    subnetChain(input),
    inputChain(input),
    forwardChain(input),
    ...usersChains(input),
    ...(carrier?.type === "ipip" ? [ipipChain(input, carrier.device)] : []),
  ];
}

function carrierOf({ tunnels, links }: GuardInput, family: Family): Carrier | null {
  const tunnel = ofFamily(tunnels, family);
  if (tunnel !== undefined) {
    return { type: "userspace", device: tunnel.device, port: tunnel.port };
  }
  for (const one of links) {
    if (one.kind === "tun" || one.local.family !== family) continue;
    const { name: device } = one;
    if (one.kind === "ipip") return { type: "ipip", device };
    return { type: "vxlan", device, port: one.port, vni: one.vni };
  }
  return null;
}

/** The guard's tables, one for each family whose packets this node carries. */
export function planGuard(input: GuardInput): DesiredTable[] {
  return input.config.ranges.flatMap(({ family }) => {
    const subnet = ofFamily(input.lease.subnets, family);
    const carrier = carrierOf(input, family);
    if (subnet === undefined || (carrier === null && !input.isDirect)) return [];
    const one = { ...input, family, subnet, carrier, hasFib: true };
    const chains = chainsOf(one);
    const table = { family, name: GUARD_TABLE, sets: setsOf(one), chains } as const;
    return [{ ...table, plainerChains: chainsOf({ ...one, hasFib: false }) }];
  });
}

/**
 * All firewall tables of a host. The rules of their forward chains are put into the guard's forward
 * chain, behind its own: each chain at the hook costs a forwarded packet as much as several rules.
 */
export function joinForwardChains(
  tables: readonly DesiredTable[],
  guard: readonly DesiredTable[],
): DesiredTable[] {
  const isForward = ({ hook }: DesiredChain) => hook === "filter forward";
  const isGuarded = ({ family }: DesiredTable) => guard.some((one) => one.family === family);
  const others = tables.flatMap((table) => {
    if (!isGuarded(table)) return [table];
    const chains = table.chains.filter((chain) => !isForward(chain));
    return chains.length === 0 ? [] : [{ ...table, chains }];
  });
  const guards = guard.map((table) => {
    const rules = ofFamily(tables, table.family)?.chains.find(isForward)?.rules ?? [];
    const joined = (chains: readonly DesiredChain[]) =>
      chains.map((chain) =>
        isForward(chain) ? { ...chain, rules: [...chain.rules, ...rules] } : chain
      );
    const { chains, plainerChains } = table;
    return {
      ...table,
      chains: joined(chains),
      ...(plainerChains === undefined ? {} : { plainerChains: joined(plainerChains) }),
    };
  });
  return [...others, ...guards];
}
