/** Whether the kernel has nftables, and this process may use it. */
import { NetlinkNetfilterSocket } from "../../ffi/netlink_socket.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import { getGeneration } from "../netlink/nftables/nftables.ts";
import type { Trial } from "./facts.ts";
import { attempt } from "./trial.ts";

/** Asks for the rules' generation, which every kernel with nftables has, and changes nothing. */
export function probeNftables(): Trial {
  return attempt(() => {
    const connection = new NetlinkConnection(new NetlinkNetfilterSocket());
    try {
      getGeneration(connection);
    } finally {
      connection.close();
    }
  }, ["EPERM", "EACCES"]);
}
