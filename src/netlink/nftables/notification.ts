/** What the kernel tells the listeners of `NFNLGRP_NFTABLES`. */
import { Attributes } from "../attribute.ts";
import type { NetlinkMessage } from "../message.ts";
import {
  familyOf,
  NFGENMSG_SIZE,
  NFNL_SUBSYS_NFTABLES,
  NFT_MSG_DELRULE,
  NFT_MSG_NEWGEN,
  NFT_MSG_NEWRULE,
  type TableName,
} from "./layout.ts";

/** enum nft_rule_attributes */
const NFTA_RULE_CHAIN = 2;

/** The multicast group of changes to nftables (`linux/netfilter/nfnetlink.h`). */
export const NFNLGRP_NFTABLES = 7;

/** `NFTA_*_TABLE`, and `NFTA_TABLE_NAME`: attribute 1 in the messages of all that tables hold. */
const NFTA_ANY_TABLE = 1;

/**
 * The table that a notification is about, whether it is of the table, a chain, a rule or a set;
 * null: another family's, or the end of a transaction, or not of nftables. Throws
 * `NetlinkDecodeError`.
 */
export function notifiedTable({ type, payload }: NetlinkMessage): TableName | null {
  if (type >> 8 !== NFNL_SUBSYS_NFTABLES || type === NFT_MSG_NEWGEN) return null;
  const family = familyOf(payload, "firewall notification");
  if (family === null) return null;
  const attributes = Attributes.parse(payload.subarray(NFGENMSG_SIZE), "firewall notification");
  const name = attributes.text(NFTA_ANY_TABLE);
  return name === undefined ? null : { family, name };
}

/** The chain whose rule came or went; null: the notification is of something else. */
export function notifiedRule(
  message: NetlinkMessage,
): { readonly table: TableName; readonly chainName: string } | null {
  if (message.type !== NFT_MSG_NEWRULE && message.type !== NFT_MSG_DELRULE) return null;
  const table = notifiedTable(message);
  const payload = message.payload.subarray(NFGENMSG_SIZE);
  const chainName = Attributes.parse(payload, "firewall notification").text(NFTA_RULE_CHAIN);
  return table === null || chainName === undefined ? null : { table, chainName };
}
