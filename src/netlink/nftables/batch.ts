/** The messages around a transaction (`linux/netfilter/nfnetlink.h`). */
import type { NetlinkTransaction } from "../connection.ts";
import type { NetlinkRequest } from "../request.ts";
import { NFNL_SUBSYS_NFTABLES, startPayload } from "./layout.ts";

export const NFNL_MSG_BATCH_BEGIN = 0x10;
export const NFNL_MSG_BATCH_END = 0x11;

/** All of `requests` or none of them. `operation` and `object` name the whole in errors. */
export function nftTransaction(
  operation: string,
  object: string,
  requests: readonly NetlinkRequest[],
): NetlinkTransaction {
  const edge = (type: number): NetlinkRequest => ({
    type,
    flags: 0,
    payload: startPayload(null, NFNL_SUBSYS_NFTABLES).finish(),
    operation,
    object,
  });
  return { begin: edge(NFNL_MSG_BATCH_BEGIN), requests, end: edge(NFNL_MSG_BATCH_END) };
}
