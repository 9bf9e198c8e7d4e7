/** Which chains of the host, whoever made them, drop what is forwarded by default. */
import type { Family } from "../../net/ip.ts";
import { Attributes } from "../attribute.ts";
import type { NetlinkConnection } from "../connection.ts";
import { NetlinkDecodeError } from "../error.ts";
import { AF_INET, AF_INET6, viewOf } from "../layout.ts";
import {
  NF_DROP,
  NF_INET_FORWARD,
  NFTA_CHAIN_HOOK,
  NFTA_CHAIN_NAME,
  NFTA_CHAIN_POLICY,
  NFTA_CHAIN_TABLE,
  NFTA_HOOK_HOOKNUM,
} from "./chain.ts";
import { NFGENMSG_SIZE, NFT_MSG_GETCHAIN, NFT_MSG_NEWCHAIN, startPayload } from "./layout.ts";

/** `NFPROTO_INET` (`linux/netfilter.h`): tables whose chains see both families. */
const NFPROTO_INET = 1;

/** By the first byte of `struct nfgenmsg`. */
const KINDS: Readonly<Record<number, { readonly text: string; readonly sees: readonly Family[] }>> =
  {
    [NFPROTO_INET]: { text: "inet", sees: [4, 6] },
    [AF_INET]: { text: "ip", sees: [4] },
    [AF_INET6]: { text: "ip6", sees: [6] },
  };

/** A chain at the forward hook with policy drop. */
export interface ForwardDrop {
  /** Whose packets it sees. */
  readonly families: readonly Family[];
  /** As nft writes it: `inet`, `ip` or `ip6`. */
  readonly familyText: string;
  readonly table: string;
  readonly chain: string;
}

/** Reads the payload of an NFT_MSG_NEWCHAIN message; null: another chain. */
export function decodeForwardDrop(payload: Uint8Array): ForwardDrop | null {
  if (payload.length < NFGENMSG_SIZE) {
    throw new NetlinkDecodeError("firewall chain", `${payload.length} bytes`);
  }
  const kind = KINDS[viewOf(payload).getUint8(0)];
  if (kind === undefined) return null;
  const attributes = Attributes.parse(payload.subarray(NFGENMSG_SIZE), "firewall chain");
  const hook = attributes.nested(NFTA_CHAIN_HOOK)?.u32be(NFTA_HOOK_HOOKNUM);
  if (hook !== NF_INET_FORWARD || attributes.u32be(NFTA_CHAIN_POLICY) !== NF_DROP) return null;
  return {
    families: kind.sees,
    familyText: kind.text,
    table: attributes.text(NFTA_CHAIN_TABLE) ?? "",
    chain: attributes.text(NFTA_CHAIN_NAME) ?? "",
  };
}

/** All of them, those of iptables-nft too; old iptables has its own. Throws `NetlinkError`. */
export function listForwardDrops(connection: NetlinkConnection): ForwardDrop[] {
  const request = {
    type: NFT_MSG_GETCHAIN,
    flags: 0,
    payload: startPayload(null).finish(),
    operation: "list firewall chains",
    object: "",
  };
  return connection.dump(
    request,
    ({ type, payload }) => type === NFT_MSG_NEWCHAIN ? decodeForwardDrop(payload) : null,
  );
}
