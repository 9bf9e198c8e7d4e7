/** The chains of all programs that see forwarded packets of this host. */
import { Attributes } from "../attribute.ts";
import type { NetlinkConnection } from "../connection.ts";
import {
  NF_ACCEPT,
  NF_DROP,
  NF_INET_FORWARD,
  NFTA_CHAIN_HOOK,
  NFTA_CHAIN_NAME,
  NFTA_CHAIN_POLICY,
  NFTA_CHAIN_TABLE,
  NFTA_HOOK_HOOKNUM,
} from "./chain.ts";
import {
  familyOf,
  familyText,
  NFGENMSG_SIZE,
  NFT_MSG_GETCHAIN,
  NFT_MSG_NEWCHAIN,
  startPayload,
  type TableName,
} from "./layout.ts";

/** A chain that the kernel calls at the forward hook. */
export interface ForwardChain {
  readonly table: TableName;
  readonly name: string;
  /** Whether it drops what none of its rules decides on (policy drop). */
  readonly isDropping: boolean;
}

/** As nft writes it: `ip filter FORWARD`. */
export function chainText({ table: { family, name: table }, name }: ForwardChain): string {
  return `${familyText(family)} ${table} ${name}`;
}

/**
 * Reads the payload of an NFT_MSG_NEWCHAIN message; null: a chain of another hook, or of another
 * kind of table.
 */
export function decodeForwardChain(payload: Uint8Array): ForwardChain | null {
  const family = familyOf(payload, "firewall chain");
  if (family === null) return null;
  const attributes = Attributes.parse(payload.subarray(NFGENMSG_SIZE), "firewall chain");
  const hook = attributes.nested(NFTA_CHAIN_HOOK)?.u32be(NFTA_HOOK_HOOKNUM);
  if (hook !== NF_INET_FORWARD) return null;
  return {
    table: { family, name: attributes.text(NFTA_CHAIN_TABLE) ?? "" },
    name: attributes.text(NFTA_CHAIN_NAME) ?? "",
    isDropping: (attributes.u32be(NFTA_CHAIN_POLICY) ?? NF_ACCEPT) === NF_DROP,
  };
}

/** All of them, those of iptables-nft too; old iptables has its own. Throws `NetlinkError`. */
export function listForwardChains(connection: NetlinkConnection): ForwardChain[] {
  const request = {
    type: NFT_MSG_GETCHAIN,
    flags: 0,
    payload: startPayload(null).finish(),
    operation: "list firewall chains",
    object: "",
  };
  return connection.dump(
    request,
    ({ type, payload }) => type === NFT_MSG_NEWCHAIN ? decodeForwardChain(payload) : null,
  );
}
