/** Rules of nftables. */
import { Attributes, NLA_F_NESTED, parseAttributes } from "../attribute.ts";
import { NetlinkDecodeError } from "../error.ts";
import { NLM_F_APPEND, NLM_F_CREATE } from "../message.ts";
import type { NetlinkRequest } from "../request.ts";
import {
  decodeExpression,
  type KnownExpression,
  type NftExpression,
  writeExpression,
} from "./expression.ts";
import {
  familyOf,
  NFGENMSG_SIZE,
  NFT_MSG_DELRULE,
  NFT_MSG_GETRULE,
  NFT_MSG_NEWRULE,
  startPayload,
  type TableName,
  tableText,
} from "./layout.ts";

// enum nft_rule_attributes
export const NFTA_RULE_TABLE = 1;
export const NFTA_RULE_CHAIN = 2;
export const NFTA_RULE_HANDLE = 3;
export const NFTA_RULE_EXPRESSIONS = 4;
export const NFTA_RULE_USERDATA = 7;
/** enum nft_list_attributes */
const NFTA_LIST_ELEM = 1;

/** In a rule's own data: entries of type, length and value; that of type 0 is the comment. */
const NFTNL_UDATA_RULE_COMMENT = 0;

/** A rule as it is in the kernel. */
export interface NftRule {
  readonly table: TableName;
  readonly chainName: string;
  /** The kernel's number of it within the table, 8 bytes as they came; owned. */
  readonly handle: Uint8Array;
  /** What nft or iptables-nft was given as its comment; empty: nothing. */
  readonly comment: string;
  readonly expressions: readonly NftExpression[];
}

function encodeComment(comment: string): Uint8Array {
  const text = new TextEncoder().encode(`${comment}\0`);
  return Uint8Array.of(NFTNL_UDATA_RULE_COMMENT, text.length, ...text);
}

/** The comment in a rule's own data (libnftnl's `udata.h`); empty: there is none. */
function commentIn(data: Uint8Array): string {
  for (let at = 0; at + 2 <= data.length;) {
    const [type, length] = [data[at]!, data[at + 1]!];
    const value = data.subarray(at + 2, at + 2 + length);
    if (type === NFTNL_UDATA_RULE_COMMENT) return new TextDecoder().decode(value).split("\0")[0]!;
    at += 2 + length;
  }
  return "";
}

/**
 * Reads the payload of an NFT_MSG_NEWRULE message; null: of another family. Throws
 * `NetlinkDecodeError`.
 */
export function decodeRule(payload: Uint8Array): NftRule | null {
  const family = familyOf(payload, "firewall rule");
  if (family === null) return null;
  const attributes = Attributes.parse(payload.subarray(NFGENMSG_SIZE), "firewall rule");
  const name = attributes.text(NFTA_RULE_TABLE);
  const chainName = attributes.text(NFTA_RULE_CHAIN);
  if (name === undefined || chainName === undefined) {
    throw new NetlinkDecodeError("firewall rule", "no table or chain");
  }
  const list = attributes.bytes(NFTA_RULE_EXPRESSIONS) ?? new Uint8Array();
  const expressions = parseAttributes(list, "firewall expressions")
    .filter(({ type }) => type === NFTA_LIST_ELEM)
    .map(({ value }) => decodeExpression(value));
  const ofIptables = expressions.find((one) => one.type === "comment");
  return {
    table: { family, name },
    chainName,
    handle: attributes.bytes(NFTA_RULE_HANDLE)?.slice() ?? new Uint8Array(),
    comment: ofIptables?.text ??
      commentIn(attributes.bytes(NFTA_RULE_USERDATA) ?? new Uint8Array()),
    expressions,
  };
}

/** Part of a transaction. Deletes one rule; ENOENT if it has gone. */
export function deleteRuleRequest({ table, chainName, handle }: NftRule): NetlinkRequest {
  return {
    type: NFT_MSG_DELRULE,
    flags: 0,
    payload: startPayload(table.family).attributeText(NFTA_RULE_TABLE, table.name)
      .attributeText(NFTA_RULE_CHAIN, chainName).attribute(NFTA_RULE_HANDLE, handle).finish(),
    operation: "delete firewall rule",
    object: `of ${tableText(table)} ${chainName}`,
  };
}

/** Asks for the rules of a table or of one chain of it, chain by chain, each in its order. */
export function listRulesRequest(
  table: TableName,
  chainName: string | null = null,
): NetlinkRequest {
  const writer = startPayload(table.family).attributeText(NFTA_RULE_TABLE, table.name);
  if (chainName !== null) writer.attributeText(NFTA_RULE_CHAIN, chainName);
  return {
    type: NFT_MSG_GETRULE,
    flags: 0,
    payload: writer.finish(),
    operation: "list firewall rules",
    object: tableText(table),
  };
}

/** The payload of a new rule; `comment` empty: it has none. */
function rulePayload(
  table: TableName,
  chainName: string,
  expressions: readonly KnownExpression[],
  comment: string,
): Uint8Array {
  const writer = startPayload(table.family).attributeText(NFTA_RULE_TABLE, table.name)
    .attributeText(NFTA_RULE_CHAIN, chainName);
  writer.nested(NLA_F_NESTED | NFTA_RULE_EXPRESSIONS, () => {
    for (const expression of expressions) {
      writer.nested(NLA_F_NESTED | NFTA_LIST_ELEM, () => writeExpression(writer, expression));
    }
  });
  if (comment !== "") writer.attribute(NFTA_RULE_USERDATA, encodeComment(comment));
  return writer.finish();
}

/**
 * Part of a transaction. Puts a rule before all others of its chain, in the form of iptables-nft:
 * it counts what it holds for, right before its verdict. The comment, of at most 127 bytes, is
 * shown by nft and by iptables-nft.
 */
export function insertRuleRequest(
  table: TableName,
  chainName: string,
  expressions: readonly KnownExpression[],
  comment: string,
): NetlinkRequest {
  const counted = expressions.toSpliced(-1, 0, { type: "counter", packetCount: 0 });
  return {
    type: NFT_MSG_NEWRULE,
    flags: NLM_F_CREATE,
    payload: rulePayload(table, chainName, counted, comment),
    operation: "insert firewall rule",
    object: `into ${tableText(table)} ${chainName}`,
  };
}

/**
 * Part of a transaction. Adds a rule after the chain's last; `number` is for errors. nft shows
 * `comment`, which has at most 127 bytes; empty: none.
 */
export function addRuleRequest(
  table: TableName,
  chainName: string,
  expressions: readonly KnownExpression[],
  number: number,
  comment = "",
): NetlinkRequest {
  return {
    type: NFT_MSG_NEWRULE,
    flags: NLM_F_CREATE | NLM_F_APPEND,
    payload: rulePayload(table, chainName, expressions, comment),
    operation: `add firewall rule ${number}`,
    object: `to ${tableText(table)} ${chainName}`,
  };
}

/** Part of a transaction. Deletes all rules of the table; its chains stay. */
export function deleteRulesRequest(table: TableName): NetlinkRequest {
  return {
    type: NFT_MSG_DELRULE,
    flags: 0,
    payload: startPayload(table.family).attributeText(NFTA_RULE_TABLE, table.name).finish(),
    operation: "delete firewall rules",
    object: tableText(table),
  };
}
