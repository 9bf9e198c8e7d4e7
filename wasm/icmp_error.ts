/** Telling a sender why its packet goes no further. */
import {
  COUNTER_ICMP_FAILED,
  COUNTER_ICMP_LIMITED,
  COUNTER_ICMP_SENT,
  ICMP_ERROR_OFFSET,
  LANE_ICMP_FD_OFFSET,
} from "./layout.ts";
import { load32 } from "./bytes.ts";
import { count } from "./counters.ts";
import { mayAnswerNow } from "./icmp_limit.ts";
import { build, mayAnswer } from "./icmp_reply.ts";
import { build6, mayAnswer6 } from "./icmp_reply6.ts";
import { MSG_DONTWAIT } from "./kernel.ts";
import * as lane from "./lane.ts";
import { addressIcmp } from "./messages.ts";
import { sendmmsg } from "./sys.ts";
import * as icmpv4 from "./wire/icmpv4.ts";
import * as icmpv6 from "./wire/icmpv6.ts";
import * as ipv4 from "./wire/ipv4.ts";
import * as ipv6 from "./wire/ipv6.ts";

/** Nobody has the subnet. */
export const UNREACHABLE: u32 = 0;
export const TIME_EXCEEDED: u32 = 1;
/** The path carries no packet so long. */
export const TOO_BIG: u32 = 2;

/** The error's type and code. */
let type: u32 = 0;
let code: u32 = 0;

function choose4(kind: u32): void {
  type = kind === TIME_EXCEEDED ? icmpv4.TIME_EXCEEDED : icmpv4.DESTINATION_UNREACHABLE;
  code = kind === UNREACHABLE
    ? icmpv4.CODE_NET_UNREACHABLE
    : kind === TOO_BIG
    ? icmpv4.CODE_FRAGMENTATION_NEEDED
    : icmpv4.CODE_TTL_EXCEEDED;
}

function choose6(kind: u32): void {
  code = kind === UNREACHABLE ? icmpv6.CODE_NO_ROUTE : icmpv6.CODE_HOP_LIMIT_EXCEEDED;
  type = kind === UNREACHABLE
    ? icmpv6.DESTINATION_UNREACHABLE
    : kind === TOO_BIG
    ? icmpv6.PACKET_TOO_BIG
    : icmpv6.TIME_EXCEEDED;
}

/** Whether the limit lets one more out that may be sent; it counts those that it does not. */
function isWithinLimit(may: bool, kind: u32): bool {
  if (!may || mayAnswerNow(kind === TOO_BIG)) return may;
  count(COUNTER_ICMP_LIMITED, 1);
  return false;
}

/** Builds the error, if there may be one; returns its size, or 0. */
function buildError(kind: u32, packet: i32, size: i32, mtu: i32): i32 {
  const at = lane.work + ICMP_ERROR_OFFSET;
  if (lane.isV6) {
    choose6(kind);
    if (!isWithinLimit(mayAnswer6(packet, size, type), kind)) return 0;
    return build6(at, packet, size, lane.address(), type, code, mtu);
  }
  choose4(kind);
  if (!isWithinLimit(mayAnswer(packet, size), kind)) return 0;
  return build(at, packet, size, load32(lane.address()), type, code, mtu);
}

/**
 * Sends the error about `packet`, unless it or the limit forbids one. The first `size` bytes are
 * there to be quoted; `mtu` is what TOO_BIG tells. Not through the TUN: the kernel takes what comes
 * in with one of its own addresses as source for spoofed ("martian") and drops it.
 */
export function answer(kind: u32, packet: i32, size: i32, mtu: i32): void {
  const errorSize = buildError(kind, packet, size, mtu);
  if (errorSize === 0) return;
  const message = addressIcmp(packet + (lane.isV6 ? ipv6.SOURCE : ipv4.SOURCE), errorSize);
  const sent = sendmmsg(lane.field(LANE_ICMP_FD_OFFSET), message, 1, MSG_DONTWAIT);
  count(sent === 1 ? COUNTER_ICMP_SENT : COUNTER_ICMP_FAILED, 1);
}
