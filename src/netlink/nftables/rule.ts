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
  NFT_MSG_GETRULE,
  NFT_MSG_NEWRULE,
  startPayload,
  type TableName,
  tableText,
} from "./layout.ts";

// enum nft_rule_attributes
export const NFTA_RULE_TABLE = 1;
export const NFTA_RULE_CHAIN = 2;
export const NFTA_RULE_EXPRESSIONS = 4;
/** enum nft_list_attributes */
const NFTA_LIST_ELEM = 1;

/** A rule as it is in the kernel. */
export interface NftRule {
  readonly table: TableName;
  readonly chainName: string;
  readonly expressions: readonly NftExpression[];
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
  return { table: { family, name }, chainName, expressions };
}

/** Asks for the rules of a table, chain by chain, each in its order. */
export function listRulesRequest(table: TableName): NetlinkRequest {
  return {
    type: NFT_MSG_GETRULE,
    flags: 0,
    payload: startPayload(table.family).attributeText(NFTA_RULE_TABLE, table.name).finish(),
    operation: "list firewall rules",
    object: tableText(table),
  };
}

/** Part of a transaction. Adds a rule after the chain's last; `number` is for errors. */
export function addRuleRequest(
  table: TableName,
  chainName: string,
  expressions: readonly KnownExpression[],
  number: number,
): NetlinkRequest {
  const writer = startPayload(table.family).attributeText(NFTA_RULE_TABLE, table.name)
    .attributeText(NFTA_RULE_CHAIN, chainName);
  writer.nested(NLA_F_NESTED | NFTA_RULE_EXPRESSIONS, () => {
    for (const expression of expressions) {
      writer.nested(NLA_F_NESTED | NFTA_LIST_ELEM, () => writeExpression(writer, expression));
    }
  });
  return {
    type: NFT_MSG_NEWRULE,
    flags: NLM_F_CREATE | NLM_F_APPEND,
    payload: writer.finish(),
    operation: `add firewall rule ${number}`,
    object: `to ${tableText(table)} ${chainName}`,
  };
}
