/** Whether the kernel has nftables, this process may use it, and who drops what is forwarded. */
import { readLegacyFilter } from "../../ffi/legacy_iptables.ts";
import { NetlinkNetfilterSocket } from "../../ffi/netlink_socket.ts";
import { isLegacyDropping, legacyCommands } from "../kernel/legacy_filter.ts";
import { type Family, IpPrefix } from "../net/ip.ts";
import { NetlinkConnection } from "../netlink/connection.ts";
import { type ForwardChain, listForwardChains } from "../netlink/nftables/forward_chain.ts";
import { getGeneration } from "../netlink/nftables/nftables.ts";
import type { Trial } from "./facts.ts";
import { attempt, valueOr } from "./trial.ts";

export interface NftablesFacts {
  readonly nftables: Trial;
  /** Chains that drop what is forwarded by default; null: not known. */
  readonly forwardDrops: readonly ForwardChain[] | null;
}

/** Asks for the rules' generation, which every kernel with nftables has, and changes nothing. */
export function probeNftables(): NftablesFacts {
  let forwardDrops: readonly ForwardChain[] | null = null;
  const nftables = attempt(() => {
    const connection = new NetlinkConnection(new NetlinkNetfilterSocket());
    try {
      getGeneration(connection);
      forwardDrops = listForwardChains(connection).filter(({ isDropping }) => isDropping);
    } finally {
      connection.close();
    }
  }, ["EPERM", "EACCES"]);
  return { nftables, forwardDrops };
}

const EVERYTHING: Readonly<Record<Family, IpPrefix>> = {
  4: IpPrefix.parse("0.0.0.0/0"),
  6: IpPrefix.parse("::/0"),
};

/**
 * The commands that let these networks pass the forward chain of the old iptables where it drops
 * them; without networks those of IPv4, for any.
 */
export function probeLegacyDrops(networks: readonly IpPrefix[]): string[] {
  const asked = networks.length > 0 ? networks : [EVERYTHING[4]];
  return asked.flatMap((network) => {
    const { family } = network;
    const filter = valueOr(() => readLegacyFilter(family), null);
    if (filter === null || !isLegacyDropping(filter, network, [])) return [];
    return [legacyCommands(family, networks.length > 0 ? `${network}` : "NETWORK")];
  });
}
