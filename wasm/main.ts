/**
 * The module's exports: the two loops, each run by a worker of its own, and for tests the pure
 * functions they are made of. Whoever runs it compares `layoutHash` first.
 */
import { adjust, checksum } from "./checksum.ts";
import * as coalesce from "./coalesce.ts";
import { runEgress } from "./egress.ts";
import { lookupPeer } from "./fib.ts";
import { runIngress } from "./ingress.ts";
import * as lane from "./lane.ts";
import { LAYOUT_HASH } from "./layout.ts";
import * as segment from "./segment.ts";
import { lookupSource } from "./source_table.ts";
import {
  fragmentOpen,
  fragmentPayloadAt,
  fragmentPayloadSize,
  fragmentWriteHeaders,
  icmpBuild,
  icmpBuild6,
  icmpMayAnswer6,
  ipv6Check,
  ipv6DecrementHopLimit,
  prefixLookup,
} from "./test_exports.ts";

export { adjust, checksum, lookupPeer, lookupSource, runEgress, runIngress };
export { fragmentOpen, fragmentPayloadAt, fragmentPayloadSize, fragmentWriteHeaders };
export { icmpBuild, icmpBuild6, icmpMayAnswer6, ipv6Check, ipv6DecrementHopLimit };
export { prefixLookup };

export function layoutHash(): i32 {
  return LAYOUT_HASH;
}

export function segmentOpen(packet: i32, size: i32, gsoType: u32, gsoSize: i32): i32 {
  return segment.open(packet, size, gsoType, gsoSize);
}

export function segmentHeadersSize(): i32 {
  return segment.headersSize();
}

/** Writes the headers of segment i; returns its payload's size. */
export function segmentWrite(headers: i32, index: i32): i32 {
  segment.writeHeaders(headers, index);
  return segment.payloadSize(index);
}

/** Starts a group with this packet. */
export function coalesceBegin(packet: i32, size: i32): void {
  lane.openIngress(0, 0);
  coalesce.setUp(true, true);
  coalesce.begin(packet, size);
}

export function coalesceAppend(packet: i32, size: i32): bool {
  return coalesce.append(packet, size);
}

/** Returns how many iovecs at `WRITE_IOVECS_OFFSET` are what is to be written. */
export function coalesceFinish(): i32 {
  return coalesce.finish();
}
