/** The real kernel's firewall in a namespace, and nft as the witness of what is in it. */
import { spawnSync } from "node:child_process";
import { type Netns, withNetns } from "../../ffi/netns.ts";
import { NetlinkNetfilterSocket } from "../../ffi/netlink_socket.ts";
import { Firewall } from "../../src/kernel/firewall.ts";
import { NetlinkConnection } from "../../src/netlink/connection.ts";

/** A connection to the nftables of the namespace. The caller closes it. */
export function connectNftables(netns: Netns): NetlinkConnection {
  return withNetns(netns, () => new NetlinkConnection(new NetlinkNetfilterSocket()));
}

/** Runs `body` with a firewall of the namespace. */
export function withFirewall(netns: Netns, body: (firewall: Firewall) => void): void {
  const firewall = new Firewall(() => connectNftables(netns));
  try {
    body(firewall);
  } finally {
    firewall.close();
  }
}

/** Runs nft in the namespace with these commands, one a line, and options; what it prints. */
export function nft(netns: Netns, commands: string, ...words: readonly string[]): string {
  const options = { encoding: "utf8", input: `${commands}\n` } as const;
  const result = withNetns(netns, () => spawnSync("nft", [...words, "-f", "-"], options));
  if (result.error) throw result.error;
  if (result.status !== 0) throw new Error(`nft ${commands}: ${result.stderr}`);
  return result.stdout;
}
