/** Fresh network namespaces for tests against the real kernel. */
import { spawnSync } from "node:child_process";
import { closeNetns, type Netns, withNetns } from "../../ffi/netns.ts";
import { createTestNetns } from "../netns.ts";
import { NetlinkRouteSocket } from "../../ffi/netlink_socket.ts";
import { NetlinkConnection } from "../../src/netlink/connection.ts";

export interface TestNamespace {
  readonly netns: Netns;
  readonly connection: NetlinkConnection;
  /** Runs iproute2's `ip` in the namespace; what it prints as JSON where asked with `-j`. */
  ip(...words: readonly string[]): unknown;
}

/**
 * Runs `body` with as many fresh namespaces as it takes; they are gone afterwards, with all that
 * is in them.
 */
export function withNamespaces(
  count: number,
  body: (...namespaces: TestNamespace[]) => void,
): void {
  const opened: TestNamespace[] = [];
  try {
    for (let i = 0; i < count; i++) {
      const netns = createTestNetns();
      try {
        const connection = withNetns(netns, () => new NetlinkConnection(new NetlinkRouteSocket()));
        opened.push({ netns, connection, ip: (...words) => ip(netns, words) });
      } catch (error) {
        closeNetns(netns);
        throw error;
      }
    }
    body(...opened);
  } finally {
    for (const { netns, connection } of opened) {
      connection.close();
      closeNetns(netns);
    }
  }
}

function ip(netns: Netns, words: readonly string[]): unknown {
  const result = withNetns(netns, () => spawnSync("ip", words, { encoding: "utf8" }));
  if (result.error) throw result.error;
  if (result.status !== 0) throw new Error(`ip ${words.join(" ")}: ${result.stderr}`);
  return words.some((word) => /^-\w*j/.test(word)) ? JSON.parse(result.stdout || "[]") : null;
}
