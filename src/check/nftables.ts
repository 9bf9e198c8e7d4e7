/** Whether the kernel has nftables, this process may use it, and who drops what is forwarded. */
import { NetlinkNetfilterSocket } from "../../ffi/netlink_socket.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import { type ForwardDrop, listForwardDrops } from "../netlink/nftables/forward_drop.ts";
import { getGeneration } from "../netlink/nftables/nftables.ts";
import type { Trial } from "./facts.ts";
import { attempt } from "./trial.ts";

export interface NftablesFacts {
  readonly nftables: Trial;
  /** Chains that drop what is forwarded by default; null: not known. */
  readonly forwardDrops: readonly ForwardDrop[] | null;
}

/** Asks for the rules' generation, which every kernel with nftables has, and changes nothing. */
export function probeNftables(): NftablesFacts {
  let forwardDrops: readonly ForwardDrop[] | null = null;
  const nftables = attempt(() => {
    const connection = new NetlinkConnection(new NetlinkNetfilterSocket());
    try {
      getGeneration(connection);
      forwardDrops = listForwardDrops(connection);
    } finally {
      connection.close();
    }
  }, ["EPERM", "EACCES"]);
  return { nftables, forwardDrops };
}
