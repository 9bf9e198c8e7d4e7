/**
 * The module's exports: the two loops, each run by a worker of its own, and for tests the pure
 * functions they are made of. Whoever runs it compares `layoutHash` first.
 */
import { adjust, checksum } from "./checksum.ts";
import { runEgress } from "./egress.ts";
import { lookupPeer } from "./fib.ts";
import { runIngress } from "./ingress.ts";
import { LAYOUT_HASH } from "./layout.ts";
import { lookupSource } from "./source_table.ts";

export { adjust, checksum, lookupPeer, lookupSource, runEgress, runIngress };

export function layoutHash(): i32 {
  return LAYOUT_HASH;
}
