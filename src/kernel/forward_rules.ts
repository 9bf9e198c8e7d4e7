/**
 * Rules that accept what is forwarded from or to a network, as they stand in chains of others:
 * made, read, and told as commands. Pure.
 */
import { bitsOf, type Family, IpAddress, IpPrefix } from "../net/ip.ts";
import { AF_INET, AF_INET6 } from "../netlink/layout.ts";
import { NF_ACCEPT } from "../netlink/nftables/chain.ts";
import {
  type KnownExpression,
  NFT_META_NFPROTO,
  NFT_PAYLOAD_NETWORK_HEADER,
  NFT_REG_1,
  type NftExpression,
} from "../netlink/nftables/expression.ts";
import { chainText, type ForwardChain } from "../netlink/nftables/forward_chain.ts";
import type { TableFamily } from "../netlink/nftables/layout.ts";
import { DESTINATION_OFFSET, matchExpressions, SOURCE_OFFSET } from "./firewall_content.ts";

/** `enum nft_meta_keys` (`linux/netfilter/nf_tables.h`). */
const NFT_META_IIFNAME = 6;
const NFT_META_OIFNAME = 7;

/** Which packets a rule accepts, by their source or their destination. */
export interface ForwardAccept {
  readonly side: "source" | "destination";
  /** The addresses at that end; null: the link there decides. */
  readonly prefix: IpPrefix | null;
  /** The link that the packets come or go through; null: the addresses decide. */
  readonly linkName: string | null;
}

/** Both ends' accepts of each network whose packets the chain sees, in the order of the rules. */
export function acceptsFor(
  { table: { family } }: ForwardChain,
  networks: readonly IpPrefix[],
): ForwardAccept[] {
  return networks.filter((network) => family === "inet" || network.family === family)
    .flatMap((prefix) =>
      (["source", "destination"] as const).map((side) => ({ side, prefix, linkName: null }))
    );
}

/** The rule of one accept. In a table of both families it asks for the packet's family first. */
export function acceptExpressions(
  { side, prefix }: ForwardAccept & { readonly prefix: IpPrefix },
  tableFamily: TableFamily,
): KnownExpression[] {
  const code = prefix.family === 4 ? AF_INET : AF_INET6;
  const ofFamily: KnownExpression[] = tableFamily !== "inet" ? [] : [
    { type: "meta", register: NFT_REG_1, key: NFT_META_NFPROTO },
    { type: "cmp", register: NFT_REG_1, isEqual: true, value: Uint8Array.of(code) },
  ];
  const match = matchExpressions({ type: side, prefix, isInside: true });
  return [...ofFamily, ...match, { type: "verdict", code: NF_ACCEPT }];
}

/** The number of leading ones; null: there are ones after zeros. */
function maskLength(mask: Uint8Array): number | null {
  const bits = [...mask].map((byte) => byte.toString(2).padStart(8, "0")).join("");
  return /^1*0*$/.test(bits) ? bits.replaceAll("0", "").length : null;
}

/** What the expressions before the verdict ask of the addresses; null: something else. */
function readPrefix(matches: readonly NftExpression[], family: Family): ForwardAccept | null {
  const [load, ...rest] = matches;
  if (load?.type !== "payload" || load.base !== NFT_PAYLOAD_NETWORK_HEADER) return null;
  const { offset, size_bytes } = load;
  const isSource = offset === SOURCE_OFFSET[family];
  if (!isSource && offset !== DESTINATION_OFFSET[family]) return null;
  const mask = rest.length === 2 && rest[0]?.type === "bitwise" ? rest[0].mask : null;
  const compare = rest.at(-1);
  const isWhole = rest.length === (mask === null ? 1 : 2);
  if (!isWhole || compare?.type !== "cmp" || !compare.isEqual) return null;
  const length = mask === null ? size_bytes * 8 : maskLength(mask);
  if (length === null || length > bitsOf(family) || compare.value.length > bitsOf(family) / 8) {
    return null;
  }
  const bytes = new Uint8Array(bitsOf(family) / 8);
  bytes.set(compare.value);
  const prefix = IpPrefix.of(IpAddress.fromBytes(bytes).masked(length), length);
  return { side: isSource ? "source" : "destination", prefix, linkName: null };
}

/** Likewise of the links. */
function readLink(matches: readonly NftExpression[]): ForwardAccept | null {
  const [load, compare] = matches;
  if (matches.length !== 2 || load?.type !== "meta" || compare?.type !== "cmp") return null;
  const { key } = load;
  if (!compare.isEqual || (key !== NFT_META_IIFNAME && key !== NFT_META_OIFNAME)) return null;
  const end = compare.value.indexOf(0);
  // Without its NUL it is only how the name begins.
  if (end < 0) return null;
  const linkName = new TextDecoder().decode(compare.value.subarray(0, end));
  return { side: key === NFT_META_IIFNAME ? "source" : "destination", prefix: null, linkName };
}

/**
 * What a rule of any program accepts; null: it does something else, or asks for more than the
 * addresses or the link at one end.
 */
export function readAccept(
  expressions: readonly NftExpression[],
  tableFamily: TableFamily,
): ForwardAccept | null {
  const all = expressions.filter((one) => one.type !== "comment" && one.type !== "counter");
  const verdict = all.at(-1);
  if (verdict?.type !== "verdict" || verdict.code !== NF_ACCEPT) return null;
  const matches = all.slice(0, -1);
  const [load, compare] = matches;
  const isFamilyAsked = load?.type === "meta" && load.key === NFT_META_NFPROTO &&
    compare?.type === "cmp" && compare.isEqual;
  const link = readLink(matches);
  if (link !== null || !isFamilyAsked) {
    return link ?? (tableFamily === "inet" ? null : readPrefix(matches, tableFamily));
  }
  return readPrefix(matches.slice(2), compare.value[0] === AF_INET ? 4 : 6);
}

/** Whether two rules accept the same packets. */
export function isSameAccept(a: ForwardAccept | null, b: ForwardAccept): boolean {
  if (a === null || a.side !== b.side || a.linkName !== b.linkName) return false;
  if (a.prefix === null || b.prefix === null) return a.prefix === b.prefix;
  return a.prefix.family === b.prefix.family && a.prefix.equals(b.prefix);
}

/** Whether these rules together let all of `wanted` pass; `linkNames` are our devices. */
export function areAccepted(
  wanted: readonly ForwardAccept[],
  rules: readonly ForwardAccept[],
  linkNames: readonly string[],
): boolean {
  return wanted.every(({ side, prefix }) =>
    rules.some((rule) =>
      rule.side === side &&
      (rule.prefix === null
        ? linkNames.includes(rule.linkName!)
        : rule.prefix.family === prefix!.family && rule.prefix.containsPrefix(prefix!))
    )
  );
}

/** Whether iptables-nft made the chain, so that its users know it as iptables' own. */
function isIptables({ table: { family, name }, name: chain }: ForwardChain): boolean {
  return family !== "inet" && name === "filter" && chain === "FORWARD";
}

/** The command that lets one network's packets pass; `network` may be a placeholder. */
function acceptCommand(
  chain: ForwardChain,
  network: string,
  family: Family,
  side: ForwardAccept["side"],
): string {
  if (isIptables(chain)) {
    const program = family === 6 ? "ip6tables" : "iptables";
    return `${program} -I FORWARD ${side === "source" ? "-s" : "-d"} ${network} -j ACCEPT`;
  }
  const match = `${family === 6 ? "ip6" : "ip"} ${side === "source" ? "saddr" : "daddr"}`;
  return `nft insert rule ${chainText(chain)} ${match} ${network} accept`;
}

/** The commands for a network that is not known yet: the word NETWORK stands for it. */
export function acceptTemplate(chain: ForwardChain): string {
  const family = chain.table.family === 6 ? 6 : 4;
  return (["source", "destination"] as const)
    .map((side) => acceptCommand(chain, "NETWORK", family, side)).join("; ");
}

/** The commands that let these networks' packets pass the chain. */
export function acceptCommands(chain: ForwardChain, wanted: readonly ForwardAccept[]): string {
  return wanted.map(({ side, prefix }) => acceptCommand(chain, `${prefix}`, prefix!.family, side))
    .join("; ");
}
