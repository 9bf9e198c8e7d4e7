/** Desired firewall tables in the kernel's terms: chains, and rules as lists of expressions. */
import { isDeepStrictEqual } from "node:util";
import { bitsOf, type Family, IpAddress } from "../net/ip.ts";
import { HOST_LITTLE_ENDIAN, viewOf } from "../netlink/layout.ts";
import {
  NF_ACCEPT,
  NF_INET_FORWARD,
  NF_INET_POST_ROUTING,
  NF_IP_PRI_FILTER,
  NF_IP_PRI_NAT_SRC,
  type NftChain,
} from "../netlink/nftables/chain.ts";
import {
  type KnownExpression,
  NF_NAT_RANGE_PROTO_RANDOM_FULLY,
  NFT_META_MARK,
  NFT_PAYLOAD_NETWORK_HEADER,
  NFT_REG_1,
  NFT_RETURN,
} from "../netlink/nftables/expression.ts";
import type { TableName } from "../netlink/nftables/layout.ts";
import type { NftRule } from "../netlink/nftables/rule.ts";
import type { NftTable } from "../netlink/nftables/table.ts";
import {
  type DesiredChain,
  type DesiredRule,
  type DesiredTable,
  FIREWALL_TABLE,
  type FirewallHook,
  type FirewallMatch,
  type FirewallVerdict,
} from "./firewall_state.ts";

/** Where the addresses are, in bytes from the start of the header (RFC 791, RFC 8200). */
export const SOURCE_OFFSET: Readonly<Record<Family, number>> = { 4: 12, 6: 8 };
export const DESTINATION_OFFSET: Readonly<Record<Family, number>> = { 4: 16, 6: 24 };

/** A chain of ours as it must be in the kernel. */
export interface ChainContent {
  readonly chain: NftChain & { readonly hook: number };
  /** One list of expressions a rule. */
  readonly rules: readonly (readonly KnownExpression[])[];
}

/** A table of ours as it is in the kernel. */
export interface ActualTable {
  readonly table: NftTable;
  /** Those of the desired chains that are there. */
  readonly chains: readonly NftChain[];
  readonly rules: readonly NftRule[];
}

/** The name that our table of a family has. */
export function ownTable(family: Family): TableName {
  return { family, name: FIREWALL_TABLE };
}

function hookOf(hook: FirewallHook): Pick<ChainContent["chain"], "type" | "hook" | "priority"> {
  switch (hook) {
    case "nat postrouting":
      return { type: "nat", hook: NF_INET_POST_ROUTING, priority: NF_IP_PRI_NAT_SRC };
    case "filter forward":
      return { type: "filter", hook: NF_INET_FORWARD, priority: NF_IP_PRI_FILTER };
  }
}

/** 32 bits as a register holds them. */
function hostUint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setUint32(0, value, HOST_LITTLE_ENDIAN);
  return bytes;
}

function masked(mask: Uint8Array): KnownExpression {
  return { type: "bitwise", register: NFT_REG_1, mask, xor: new Uint8Array(mask.length) };
}

function compared(value: Uint8Array, isEqual: boolean): KnownExpression {
  return { type: "cmp", register: NFT_REG_1, isEqual, value };
}

export function matchExpressions(match: FirewallMatch): KnownExpression[] {
  if (match.type === "mark") {
    return [
      { type: "meta", register: NFT_REG_1, key: NFT_META_MARK },
      masked(hostUint32(match.mask)),
      compared(hostUint32(match.value), true),
    ];
  }
  const { prefix: { family, address, length }, isInside } = match;
  const offsets = match.type === "source" ? SOURCE_OFFSET : DESTINATION_OFFSET;
  const bits = bitsOf(family);
  const load: KnownExpression = {
    type: "payload",
    register: NFT_REG_1,
    base: NFT_PAYLOAD_NETWORK_HEADER,
    offset: offsets[family],
    size_bytes: bits / 8,
  };
  const mask = IpAddress.of(family, (1n << BigInt(bits)) - 1n).masked(length).toBytes();
  const compare = compared(address.toBytes(), isInside);
  return length === bits ? [load, compare] : [load, masked(mask), compare];
}

function verdictExpression(verdict: FirewallVerdict): KnownExpression {
  switch (verdict.type) {
    case "accept":
      return { type: "verdict", code: NF_ACCEPT };
    case "return":
      return { type: "verdict", code: NFT_RETURN };
    case "masquerade":
      return { type: "masq", flags: verdict.isFullyRandom ? NF_NAT_RANGE_PROTO_RANDOM_FULLY : 0 };
  }
}

function ruleExpressions({ matches, verdict }: DesiredRule): KnownExpression[] {
  return [...matches.flatMap(matchExpressions), verdictExpression(verdict)];
}

function chainContent(table: TableName, { name, hook, rules }: DesiredChain): ChainContent {
  const chain = { table, name, ...hookOf(hook), policy: NF_ACCEPT, flags: 0 };
  return { chain, rules: rules.map(ruleExpressions) };
}

/** What our table must hold in the kernel. */
export function tableContent({ family, chains }: DesiredTable): ChainContent[] {
  return chains.map((chain) => chainContent(ownTable(family), chain));
}

/** Whether the table holds exactly this: no chain, rule or set more, nothing changed. */
export function isContent(actual: ActualTable, content: readonly ChainContent[]): boolean {
  const { table, chains, rules } = actual;
  if (table.flags !== 0 || table.useCount !== content.length) return false;
  return content.every((wanted) => {
    const found = chains.find(({ name }) => name === wanted.chain.name);
    const foundRules = rules.filter(({ chainName }) => chainName === wanted.chain.name)
      .map(({ expressions }) => expressions);
    return isDeepStrictEqual(found, wanted.chain) && isDeepStrictEqual(foundRules, wanted.rules);
  });
}
