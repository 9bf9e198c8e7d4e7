/** The guard's rules against containers and local users that send into tunnels. */
import type { DesiredChain, DesiredRule, FirewallMatch } from "../../kernel/firewall_state.ts";
import { ofFamily } from "../../net/ip.ts";
import { type Carrier, type FamilyInput, GUARD_REASONS, isKernels } from "./input.ts";
import { isHost } from "./peer_sets.ts";
import {
  accept,
  addressField,
  drop,
  equals,
  inPrefix,
  jump,
  leave,
  link,
  LOOPBACK_LINK,
  outerLink,
  outerMatches,
} from "./rule.ts";

/**
 * Set on packets that local users send through the kernel's tunnel: the outer packet keeps the
 * mark, and the sender's socket too, so its user tells nothing there. Ordinary users cannot set
 * marks. Kubernetes (0xc000), Calico and Cilium (0xffff0f00) and Tailscale (0xff0000) use others.
 */
export const GUARD_MARK = 0x1000;

/**
 * Drops packets that containers and local users of this host send with a peer's address to the
 * socket of our tunnel in user space: the packet loops do not see the interface. (IPv6 lets every
 * user send from any address.)
 */
export function ownTunnelRules(input: FamilyInput, carrier: Carrier): DesiredRule[] {
  const { family, link: outer, hasFib } = input;
  const own = ofFamily(outer.addresses, family);
  if (own === undefined) return [];
  const { wrongInterface } = GUARD_REASONS;
  const toTunnel = [
    outerLink("in", outer, false),
    ...outerMatches(family, carrier),
    equals(addressField(family, "destination"), own.toBytes()),
  ];
  return [
    drop(wrongInterface, ...toTunnel, link("in", LOOPBACK_LINK)),
    ...(hasFib
      ? [drop(wrongInterface, ...toTunnel, { type: "reverse_path", isSame: false } as const)]
      : [drop(wrongInterface, ...toTunnel, isHost(family, "source"))]),
  ];
}

export const FORWARDED_CHAIN = "forwarded";

/** Which packets of other hosts may be forwarded to a tunnel: a node may lie behind this one. */
export function forwardedChain(input: FamilyInput): DesiredChain {
  const { family, link: outer, subnet, hasFib } = input;
  const way: FirewallMatch = hasFib
    ? { type: "reverse_path", isSame: true }
    : outerLink("in", outer);
  // Our own datagrams come here if the outer interface's packets cross a bridge of this host and
  // the kernel shows bridged packets to nftables (br_netfilter). Whoever sends from our address and
  // is routed was refused before: IPv4 takes no local address for a source from outside.
  const own = ofFamily(outer.addresses, family);
  // IPv6 takes such a source, so nothing from there may leave by the outer interface itself.
  const notRouted = family === 6 ? [outerLink("out", outer, false)] : [];
  const source = addressField(family, "source");
  const rules = [
    ...(own === undefined ? [] : [accept(...notRouted, equals(source, own.toBytes()))]),
    // Addresses that a node has beside its published one lead to its tunnel as well.
    drop(GUARD_REASONS.forwarded, inPrefix(source, subnet)),
    accept(isHost(family, "source"), way),
    drop(GUARD_REASONS.forwarded, isHost(family, "destination")),
  ];
  return { name: FORWARDED_CHAIN, hook: null, rules };
}

/**
 * Drops packets that containers send as this host: no far end could recognise them, and IPv6
 * forwards them. (IPv4 does not: a source that is an address of the host's own is refused as
 * martian.)
 */
export function asHostRules(
  { family, carrier, isDirect, link: outer }: FamilyInput,
): DesiredRule[] {
  const own = family === 6 ? ofFamily(outer.addresses, 6) : undefined;
  if (own === undefined) return [];
  const devices = [
    ...(carrier === null ? [] : [carrier.device]),
    ...(isDirect ? [outer.name] : []),
  ];
  const source = addressField(family, "source");
  return devices.map((device) =>
    drop(GUARD_REASONS.sourceNotOwn, link("out", device), equals(source, own.toBytes()))
  );
}

const USERS_CHAIN = "users";

/**
 * Marks packets that users other than root send into tunnels of the kernel, and drops those that
 * bypass ours. Whatever their VNI: one packet may hold many datagrams (UDP GSO), and a rule sees
 * only the first one's.
 */
function tunnelUserRules({ family, link: outer }: FamilyInput, carrier: Carrier): DesiredRule[] {
  const isKernel = isKernels(carrier);
  const mark = (...matches: FirewallMatch[]): DesiredRule => ({
    matches,
    verdict: { type: "mark", bits: GUARD_MARK },
  });
  return [
    ...(isKernel ? [mark(link("out", carrier.device))] : []),
    drop(
      GUARD_REASONS.localUser,
      ...outerMatches(family, carrier),
      ...(isKernel ? [{ type: "mark", value: 0, mask: GUARD_MARK } as const] : []),
      // A node has other addresses beside its published one. Protocols of other tunnels of this
      // host cannot be told from ipip's.
      ...(carrier.type === "ipip"
        ? [isHost(family, "destination")]
        : [link("out", LOOPBACK_LINK, false)]),
    ),
    // Other tunnels of this host keep the sender's user, as ours does, and may have the same port.
    // What enters them leaves by another interface first.
    ...(carrier.type === "vxlan" ? [mark(outerLink("out", outer, false))] : []),
  ];
}

/** IPv6 lets every user send from any address: such packets would count as a container's. */
function userSourceRules(input: FamilyInput): DesiredRule[] {
  const { family, carrier, isDirect, link: outer, config, subnet, hasFib } = input;
  if (family === 4) return [];
  const source = addressField(family, "source");
  const { network } = ofFamily(config.ranges, family)!;
  const notOwn: FirewallMatch = hasFib
    ? { type: "local_source", isLocal: false }
    : inPrefix(source, subnet, false);
  const ways = [
    ...(carrier === null ? [] : [link("out", carrier.device)]),
    ...(isDirect ? [outerLink("out", outer)] : []),
  ];
  return ways.map((way) =>
    drop(GUARD_REASONS.sourceNotOwn, way, inPrefix(source, network), notOwn)
  );
}

/** The rules for packets of local users, except for root and the user of this process. */
export function usersChains(input: FamilyInput): DesiredChain[] {
  const { carrier, uid } = input;
  const rules = [
    ...userSourceRules(input),
    ...(carrier === null ? [] : tunnelUserRules(input, carrier)),
  ];
  if (rules.length === 0) return [];
  const others = uid === 0 ? [] : [leave({ type: "user", uid, isEqual: true })];
  return [{ name: USERS_CHAIN, hook: null, rules: [...others, ...rules] }, outputChain()];
}

/** Packets that no local socket sent match no user, and pass at the first rule. */
function outputChain(): DesiredChain {
  const rules = [jump(USERS_CHAIN, { type: "user", uid: 0, isEqual: false })];
  return { name: "output", hook: "filter output", rules };
}
