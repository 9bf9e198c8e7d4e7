/** Desired firewall tables in the kernel's terms: chains, and rules as lists of expressions. */
import { isDeepStrictEqual } from "node:util";
import { bitsOf, type Family } from "../net/ip.ts";
import { HOST_LITTLE_ENDIAN, viewOf } from "../netlink/layout.ts";
import {
  NF_ACCEPT,
  NF_DROP,
  NF_INET_FORWARD,
  NF_INET_LOCAL_IN,
  NF_INET_LOCAL_OUT,
  NF_INET_POST_ROUTING,
  NF_INET_PRE_ROUTING,
  NF_IP_PRI_FILTER,
  NF_IP_PRI_NAT_SRC,
  NF_IP_PRI_RAW,
  type NftChain,
} from "../netlink/nftables/chain.ts";
import {
  type KnownExpression,
  NF_NAT_RANGE_PROTO_RANDOM_FULLY,
  NFT_FIB_RESULT_ADDRTYPE,
  NFT_FIB_RESULT_OIF,
  NFT_META_IIF,
  NFT_META_IIFKIND,
  NFT_META_IIFNAME,
  NFT_META_L4PROTO,
  NFT_META_MARK,
  NFT_META_OIF,
  NFT_META_OIFNAME,
  NFT_META_PKTTYPE,
  NFT_META_SKUID,
  NFT_PAYLOAD_NETWORK_HEADER,
  NFT_PAYLOAD_TRANSPORT_HEADER,
  NFT_REG_1,
  NFT_RETURN,
  NFTA_FIB_F_IIF,
  NFTA_FIB_F_PRESENT,
  NFTA_FIB_F_SADDR,
  type NftExpression,
  register32,
} from "../netlink/nftables/expression.ts";
import type { TableName } from "../netlink/nftables/layout.ts";
import { RTN_LOCAL } from "../netlink/route.ts";
import type { NftRule } from "../netlink/nftables/rule.ts";
import type { NftTable } from "../netlink/nftables/table.ts";
import {
  type DesiredChain,
  type DesiredRule,
  type DesiredTable,
  type FirewallHook,
  type FirewallMatch,
  type FirewallVerdict,
  type KeyPart,
  type PacketField,
} from "./firewall_state.ts";

/** Where the addresses are, in bytes from the start of the header (RFC 791, RFC 8200). */
export const SOURCE_OFFSET: Readonly<Record<Family, number>> = { 4: 12, 6: 8 };
export const DESTINATION_OFFSET: Readonly<Record<Family, number>> = { 4: 16, 6: 24 };

const IFNAMSIZ = 16;
/** `PACKET_HOST` (`linux/if_packet.h`): for this host alone. */
const PACKET_HOST = 0;

/** A rule of ours as it must be in the kernel. */
export interface RuleContent {
  readonly expressions: readonly KnownExpression[];
  /** Empty: none. */
  readonly comment: string;
}

/** A chain of ours as it must be in the kernel. */
export interface ChainContent {
  readonly chain: NftChain;
  readonly rules: readonly RuleContent[];
}

/** A table of ours as it is in the kernel. */
export interface ActualTable {
  readonly table: NftTable;
  /** Those of the desired chains that are there. */
  readonly chains: readonly NftChain[];
  readonly rules: readonly NftRule[];
}

/** Numbers of the hooks that chains of type filter are called at. */
const FILTER_HOOKS: Readonly<Record<Exclude<FirewallHook, "nat postrouting">, number>> = {
  "filter prerouting": NF_INET_PRE_ROUTING,
  "filter input": NF_INET_LOCAL_IN,
  "filter forward": NF_INET_FORWARD,
  "filter output": NF_INET_LOCAL_OUT,
};

function hookOf(hook: FirewallHook | null): Pick<NftChain, "type" | "hook" | "priority"> {
  if (hook === null) return { type: "", hook: null, priority: 0 };
  if (hook === "nat postrouting") {
    return { type: "nat", hook: NF_INET_POST_ROUTING, priority: NF_IP_PRI_NAT_SRC };
  }
  const priority = hook === "filter prerouting" ? NF_IP_PRI_RAW : NF_IP_PRI_FILTER;
  return { type: "filter", hook: FILTER_HOOKS[hook], priority };
}

/** 32 bits as a register holds them. */
function hostUint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setUint32(0, value, HOST_LITTLE_ENDIAN);
  return bytes;
}

function masked(mask: Uint8Array, register = NFT_REG_1): KnownExpression {
  return { type: "bitwise", register, mask, xor: new Uint8Array(mask.length) };
}

function compared(value: Uint8Array, isEqual: boolean): KnownExpression {
  return { type: "cmp", register: NFT_REG_1, isEqual, value };
}

function loadMeta(key: number): KnownExpression {
  return { type: "meta", register: NFT_REG_1, key };
}

const BASES = {
  network: NFT_PAYLOAD_NETWORK_HEADER,
  transport: NFT_PAYLOAD_TRANSPORT_HEADER,
} as const;

function loadField(
  { base, offset_bytes: offset, size_bytes }: PacketField,
  register = NFT_REG_1,
): KnownExpression {
  return { type: "payload", register, base: BASES[base], offset, size_bytes };
}

/** `length` bits set, in so many bytes. */
function prefixMask(length: number, size_bytes: number): Uint8Array {
  return Uint8Array.from({ length: size_bytes }, (_, i) => {
    const bits = Math.min(8, Math.max(0, length - 8 * i));
    return 0xff << (8 - bits) & 0xff;
  });
}

/** The field with all but its first `prefixLength` bits cleared. */
function loadPrefix(
  field: PacketField,
  prefixLength: number | null,
  register = NFT_REG_1,
): KnownExpression[] {
  const load = loadField(field, register);
  if (prefixLength === null || prefixLength === 8 * field.size_bytes) return [load];
  return [load, masked(prefixMask(prefixLength, field.size_bytes), register)];
}

const WORD_BYTES = 4;

/** A key in registers one after another; each part begins a word. */
function loadKey(key: readonly KeyPart[]): KnownExpression[] {
  let word = 0;
  return key.flatMap(({ field, prefixLength }) => {
    const register = register32(word);
    word += Math.ceil(field.size_bytes / WORD_BYTES);
    return loadPrefix(field, prefixLength, register);
  });
}

/** `IFNAMSIZ` bytes. */
function linkName(name: string): Uint8Array {
  const bytes = new Uint8Array(IFNAMSIZ);
  bytes.set(new TextEncoder().encode(name));
  return bytes;
}

function addressMatch(
  { type, prefix, isInside }: Extract<FirewallMatch, { readonly isInside: boolean }>,
): KnownExpression[] {
  const { family, address, length } = prefix;
  const offsets = type === "source" ? SOURCE_OFFSET : DESTINATION_OFFSET;
  const size_bytes = bitsOf(family) / 8;
  const field = { base: "network", offset_bytes: offsets[family], size_bytes } as const;
  return [...loadPrefix(field, length), compared(address.toBytes(), isInside)];
}

export function matchExpressions(match: FirewallMatch): KnownExpression[] {
  switch (match.type) {
    case "source":
    case "destination":
      return addressMatch(match);
    case "mark":
      return [
        loadMeta(NFT_META_MARK),
        masked(hostUint32(match.mask)),
        compared(hostUint32(match.value), true),
      ];
    case "protocol":
      return [loadMeta(NFT_META_L4PROTO), compared(Uint8Array.of(match.value), true)];
    case "link": {
      const key = match.direction === "in" ? NFT_META_IIFNAME : NFT_META_OIFNAME;
      return [loadMeta(key), compared(linkName(match.name), match.isEqual)];
    }
    case "link_index": {
      const key = match.direction === "in" ? NFT_META_IIF : NFT_META_OIF;
      return [loadMeta(key), compared(hostUint32(match.index), match.isEqual)];
    }
    case "link_kind":
      return [loadMeta(NFT_META_IIFKIND), compared(linkName(match.kind), match.isEqual)];
    case "user":
      return [loadMeta(NFT_META_SKUID), compared(hostUint32(match.uid), match.isEqual)];
    case "unicast":
      return [
        loadMeta(NFT_META_PKTTYPE),
        compared(Uint8Array.of(PACKET_HOST), match.isUnicast),
      ];
    case "field":
      return [
        ...loadPrefix(match.field, match.prefixLength),
        compared(match.value, match.isEqual),
      ];
    case "range":
      return [
        loadField(match.field),
        { type: "bound", register: NFT_REG_1, isLeast: true, value: match.first },
        { type: "bound", register: NFT_REG_1, isLeast: false, value: match.last },
      ];
    case "member": {
      const { set, isMember } = match;
      return [...loadKey(match.key), { type: "lookup", register: NFT_REG_1, set, isMember }];
    }
    case "reverse_path": {
      const flags = NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT;
      return [
        { type: "fib", register: NFT_REG_1, flags, result: NFT_FIB_RESULT_OIF },
        compared(hostUint32(match.isSame ? 1 : 0), true),
      ];
    }
    case "local_source":
      return [
        {
          type: "fib",
          register: NFT_REG_1,
          flags: NFTA_FIB_F_SADDR,
          result: NFT_FIB_RESULT_ADDRTYPE,
        },
        compared(hostUint32(RTN_LOCAL), match.isLocal),
      ];
  }
}

function verdictExpressions(verdict: FirewallVerdict): KnownExpression[] {
  switch (verdict.type) {
    case "accept":
      return [{ type: "verdict", code: NF_ACCEPT }];
    case "drop":
      return [{ type: "counter", packetCount: 0 }, { type: "verdict", code: NF_DROP }];
    case "return":
      return [{ type: "verdict", code: NFT_RETURN }];
    case "jump":
      return [{ type: "jump", chainName: verdict.chainName }];
    case "mark": {
      const [mask, xor] = [hostUint32(~verdict.bits), hostUint32(verdict.bits)];
      return [
        loadMeta(NFT_META_MARK),
        { type: "bitwise", register: NFT_REG_1, mask, xor },
        { type: "meta_set", register: NFT_REG_1, key: NFT_META_MARK },
      ];
    }
    case "masquerade":
      return [{ type: "masq", flags: verdict.isFullyRandom ? NF_NAT_RANGE_PROTO_RANDOM_FULLY : 0 }];
  }
}

function ruleContent({ matches, verdict }: DesiredRule): RuleContent {
  return {
    expressions: [...matches.flatMap(matchExpressions), ...verdictExpressions(verdict)],
    comment: verdict.type === "drop" ? verdict.reason : "",
  };
}

function chainContent(table: TableName, { name, hook, rules }: DesiredChain): ChainContent {
  const chain = { table, name, ...hookOf(hook), policy: NF_ACCEPT, flags: 0 };
  return { chain, rules: rules.map(ruleContent) };
}

/** What these chains of a table must be in the kernel. */
export function tableContent(
  { family, name, chains }: Pick<DesiredTable, "family" | "name" | "chains">,
): ChainContent[] {
  return chains.map((chain) => chainContent({ family, name }, chain));
}

/** A rule as it is in the kernel, whatever it has counted. */
function withoutCount({ expressions, comment }: NftRule) {
  const uncounted = expressions.map((one: NftExpression) =>
    one.type === "counter" ? { ...one, packetCount: 0 } : one
  );
  return { expressions: uncounted, comment };
}

/** Whether the chains that are there are exactly these, with exactly these rules. */
export function areChains(
  { chains, rules }: Pick<ActualTable, "chains" | "rules">,
  content: readonly ChainContent[],
): boolean {
  return chains.length === content.length && content.every((wanted) => {
    const found = chains.find(({ name }) => name === wanted.chain.name);
    const foundRules = rules.filter(({ chainName }) => chainName === wanted.chain.name)
      .map(withoutCount);
    return isDeepStrictEqual(found, wanted.chain) && isDeepStrictEqual(foundRules, wanted.rules);
  });
}

/** Whether the table holds exactly this: no chain, rule or set more, nothing changed. */
export function isContent(actual: ActualTable, content: readonly ChainContent[]): boolean {
  const { flags, useCount } = actual.table;
  return flags === 0 && useCount === content.length && areChains(actual, content);
}
