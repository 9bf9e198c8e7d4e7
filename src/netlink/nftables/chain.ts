/** Chains of nftables: base chains, which the kernel calls at a hook, and those that rules call. */
import { Attributes, NLA_F_NESTED } from "../attribute.ts";
import { NetlinkDecodeError } from "../error.ts";
import { NLM_F_CREATE, NLM_F_EXCL } from "../message.ts";
import type { NetlinkRequest } from "../request.ts";
import {
  familyOf,
  familyText,
  NFGENMSG_SIZE,
  NFT_MSG_DELCHAIN,
  NFT_MSG_GETCHAIN,
  NFT_MSG_NEWCHAIN,
  startPayload,
  type TableFamily,
  type TableName,
  tableText,
} from "./layout.ts";

// enum nft_chain_attributes
export const NFTA_CHAIN_TABLE = 1;
export const NFTA_CHAIN_NAME = 3;
export const NFTA_CHAIN_HOOK = 4;
export const NFTA_CHAIN_POLICY = 5;
export const NFTA_CHAIN_TYPE = 7;
export const NFTA_CHAIN_FLAGS = 10;

// enum nft_hook_attributes
export const NFTA_HOOK_HOOKNUM = 1;
export const NFTA_HOOK_PRIORITY = 2;

/** `NFT_CHAIN_BASE`, which the kernel adds itself. */
const NFT_CHAIN_BASE = 1;

/** enum nf_inet_hooks (`linux/netfilter.h`) */
export const NF_INET_PRE_ROUTING = 0;
export const NF_INET_LOCAL_IN = 1;
export const NF_INET_FORWARD = 2;
export const NF_INET_LOCAL_OUT = 3;
export const NF_INET_POST_ROUTING = 4;

/** `enum nf_ip_hook_priorities` (`linux/netfilter_ipv4.h`); IPv6 has the same. */
export const NF_IP_PRI_RAW = -300;
export const NF_IP_PRI_FILTER = 0;
export const NF_IP_PRI_NAT_SRC = 100;

/** Verdicts (`linux/netfilter.h`), which policies are of too. */
export const NF_DROP = 0;
export const NF_ACCEPT = 1;

/** What a chain is besides its rules. */
export interface NftChain {
  readonly table: TableName;
  readonly name: string;
  /** Such as `nat` or `filter`; empty for a chain that no hook calls. */
  readonly type: string;
  /** `NF_INET_*`; null: no hook calls it. */
  readonly hook: number | null;
  /** Chains of one hook run in the order of it; negative ones too. */
  readonly priority: number;
  /** `NF_ACCEPT` or `NF_DROP`: what becomes of a packet that no rule decides on. */
  readonly policy: number;
  /** `NFT_CHAIN_*` but for `NFT_CHAIN_BASE`. */
  readonly flags: number;
}

/**
 * Reads the payload of an NFT_MSG_NEWCHAIN message; null: of another family. Throws
 * `NetlinkDecodeError`.
 */
export function decodeChain(payload: Uint8Array): NftChain | null {
  const family = familyOf(payload, "firewall chain");
  if (family === null) return null;
  const attributes = Attributes.parse(payload.subarray(NFGENMSG_SIZE), "firewall chain");
  const tableName = attributes.text(NFTA_CHAIN_TABLE);
  const name = attributes.text(NFTA_CHAIN_NAME);
  if (tableName === undefined || name === undefined) {
    throw new NetlinkDecodeError("firewall chain", "no name");
  }
  const hook = attributes.nested(NFTA_CHAIN_HOOK);
  return {
    table: { family, name: tableName },
    name,
    type: attributes.text(NFTA_CHAIN_TYPE) ?? "",
    hook: hook?.u32be(NFTA_HOOK_HOOKNUM) ?? null,
    // Signed, on the wire as its two's complement.
    priority: (hook?.u32be(NFTA_HOOK_PRIORITY) ?? 0) | 0,
    policy: attributes.u32be(NFTA_CHAIN_POLICY) ?? NF_ACCEPT,
    flags: (attributes.u32be(NFTA_CHAIN_FLAGS) ?? 0) & ~NFT_CHAIN_BASE,
  };
}

/** Asks for one chain; ENOENT if the table or the chain is not there. */
export function getChainRequest(table: TableName, name: string): NetlinkRequest {
  return {
    type: NFT_MSG_GETCHAIN,
    flags: 0,
    payload: startPayload(table.family).attributeText(NFTA_CHAIN_TABLE, table.name)
      .attributeText(NFTA_CHAIN_NAME, name).finish(),
    operation: "get firewall chain",
    object: `${tableText(table)} ${name}`,
  };
}

/** Part of a transaction. EBUSY while rules are in the chain or lead to it. */
export function deleteChainRequest(table: TableName, name: string): NetlinkRequest {
  return {
    type: NFT_MSG_DELCHAIN,
    flags: 0,
    payload: startPayload(table.family).attributeText(NFTA_CHAIN_TABLE, table.name)
      .attributeText(NFTA_CHAIN_NAME, name).finish(),
    operation: "delete firewall chain",
    object: `${tableText(table)} ${name}`,
  };
}

/** Asks for all chains of the family: the kernel leaves the choice of the table to the reader. */
export function listChainsRequest(family: TableFamily): NetlinkRequest {
  return {
    type: NFT_MSG_GETCHAIN,
    flags: 0,
    payload: startPayload(family).finish(),
    operation: "list firewall chains",
    object: familyText(family),
  };
}

/** Part of a transaction. ENOENT also where the kernel has no such type of chain. */
export function addChainRequest(
  { table, name, type, hook, priority, policy }: NftChain,
): NetlinkRequest {
  const writer = startPayload(table.family).attributeText(NFTA_CHAIN_TABLE, table.name)
    .attributeText(NFTA_CHAIN_NAME, name);
  if (hook !== null) {
    writer.nested(NLA_F_NESTED | NFTA_CHAIN_HOOK, () => {
      writer.attributeU32be(NFTA_HOOK_HOOKNUM, hook).attributeU32be(NFTA_HOOK_PRIORITY, priority);
    });
    writer.attributeU32be(NFTA_CHAIN_POLICY, policy).attributeText(NFTA_CHAIN_TYPE, type);
  }
  return {
    type: NFT_MSG_NEWCHAIN,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    payload: writer.finish(),
    operation: hook === null ? "add firewall chain" : `add firewall chain of type ${type}`,
    object: `${tableText(table)} ${name}`,
  };
}
