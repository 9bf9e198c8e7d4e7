/** Network namespaces for tests, alike on every machine. */
import { createNetns, type Netns, withNetns } from "../ffi/netns.ts";
import { switchIpv6On } from "../src/demo/topology.ts";

/** A new namespace in which IPv6 is on. The caller owns it (`closeNetns`). */
export function createTestNetns(): Netns {
  const netns = createNetns();
  withNetns(netns, switchIpv6On);
  return netns;
}
