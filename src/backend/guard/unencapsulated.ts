/** The guard's rules for packets with an address of the overlay that come without a tunnel. */
import type { DesiredChain, DesiredRule, FirewallMatch } from "../../kernel/firewall_state.ts";
import { IpPrefix, ofFamily } from "../../net/ip.ts";
import { type FamilyInput, GUARD_REASONS, hasBroadcast } from "./input.ts";
import { lengthsOf, subnetsName } from "./peer_sets.ts";
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
  SPECIAL,
} from "./rule.ts";

/** Packets from the overlay's range that come in by the outer link without a tunnel. */
export function fromRange({ family, config, link: outer, subnet }: FamilyInput): FirewallMatch[] {
  const range = ofFamily(config.ranges, family)!;
  const source = addressField(family, "source");
  const last = IpPrefix.of(range.subnetMax, range.subnetLength).last;
  return [
    outerLink("in", outer),
    { type: "range", field: source, first: range.subnetMin.toBytes(), last: last.toBytes() },
    // Containers of our own may be on the same link.
    inPrefix(source, subnet, false),
  ];
}

const SUBNET_CHAIN = "subnet";

/** Leads packets for our subnet to the chain that checks by which interface they came in. */
export function subnetRule({ family, subnet }: FamilyInput): DesiredRule {
  return jump(SUBNET_CHAIN, inPrefix(addressField(family, "destination"), subnet));
}

/**
 * Drops packets for our subnet from an address of the overlay that came in by a link which does not
 * lead to that address: a stranger on another link of this host sent them.
 */
export function subnetChain(input: FamilyInput): DesiredChain {
  const { family, config, carrier, isDirect, link: outer, hasFib } = input;
  const range = ofFamily(config.ranges, family)!;
  const fromOtherLink = drop(
    GUARD_REASONS.outsideTunnel,
    outerLink("in", outer, false),
    {
      type: "range",
      field: addressField(family, "source"),
      first: range.subnetMin.toBytes(),
      last: IpPrefix.of(range.subnetMax, range.subnetLength).last.toBytes(),
    },
    // On some kernels, packets that the host sends to itself have no reverse path.
    link("in", LOOPBACK_LINK, false),
    // Packets of peers may cross a bridge of this host on their way to its outer interface. The
    // kernel shows them here too (br_netfilter).
    ...(isDirect ? [{ type: "link_kind", kind: "bridge", isEqual: false } as const] : []),
    { type: "reverse_path", isSame: false },
  );
  // With routes beside the tunnel other rules follow that concern its packets too.
  const pass = isDirect ? leave : accept;
  const rules = [
    ...(carrier === null ? [] : [pass(link("in", carrier.device))]),
    // Without it containers of this host look like strangers.
    ...(hasFib ? [fromOtherLink] : []),
  ];
  return { name: SUBNET_CHAIN, hook: null, rules };
}

export const DIRECT_CHAIN = "direct";

/** Lets only packets from the subnet of a peer return to the calling chain. */
export function directChain(input: FamilyInput): DesiredChain {
  const source = addressField(input.family, "source");
  const returns = lengthsOf(input).map((length) =>
    leave({
      type: "member",
      set: subnetsName(length),
      key: [{ field: source, prefixLength: length }],
      isMember: true,
    })
  );
  const rules = [...returns, drop(GUARD_REASONS.sourceNotPeer)];
  return { name: DIRECT_CHAIN, hook: null, rules };
}

export const DIRECT_INPUT_CHAIN = "direct_input";

/**
 * Lets only packets from the subnet of a peer to an address of one host return. A frame for this
 * host may hold a packet for many.
 */
export function directInputChain(input: FamilyInput): DesiredChain {
  const { family, link: outer, subnet } = input;
  const destination = addressField(family, "destination");
  const { destinationNotOurs, notUnicast } = GUARD_REASONS;
  const linkPrefixes = outer.ways.filter(({ isDirect }) => isDirect)
    .map((way) => way.destination)
    .filter((prefix) => prefix.family === 4 && prefix.length >= 8 && prefix.length <= 30);
  const broadcasts = family === 6 ? [] : new Set(
    [...(hasBroadcast(input) ? [subnet] : []), ...linkPrefixes].map(({ last }) => last),
  );
  const rules = [
    drop(notUnicast, { type: "unicast", isUnicast: false }),
    ...SPECIAL[family].map((prefix) => drop(destinationNotOurs, inPrefix(destination, prefix))),
    ...[...broadcasts].map((last) => drop(destinationNotOurs, equals(destination, last.toBytes()))),
    jump(DIRECT_CHAIN),
  ];
  return { name: DIRECT_INPUT_CHAIN, hook: null, rules };
}
