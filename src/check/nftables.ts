/** Whether the kernel has nftables, and this process may use it. */
import { NetlinkNetfilterSocket } from "../../ffi/netlink_socket.ts";
import { PayloadWriter } from "../netlink/attribute.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import { AF_UNSPEC } from "../netlink/layout.ts";
import type { Trial } from "./facts.ts";
import { attempt } from "./trial.ts";

/** `linux/netfilter/nfnetlink.h`, `linux/netfilter/nf_tables.h`: subsystem and message. */
const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_GETGEN = 16;

/** Asks for the rules' generation, which every kernel with nftables has, and changes nothing. */
export function probeNftables(): Trial {
  return attempt(() => {
    const connection = new NetlinkConnection(new NetlinkNetfilterSocket());
    try {
      connection.request({
        type: (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETGEN,
        flags: 0,
        // struct nfgenmsg
        payload: new PayloadWriter().u8(AF_UNSPEC).u8(0).u16(0).finish(),
        operation: "get the generation of nftables",
        object: "",
      });
    } finally {
      connection.close();
    }
  }, ["EPERM", "EACCES"]);
}
