/**
 * How many ICMP errors an egress loop sends: RFC 1812 section 4.3.2.8 asks for a limit, lest a
 * flood to nowhere be answered by another. A token bucket, as large and all loops
 * together as fast as Linux has its own (`net.ipv4.icmp_msgs_per_sec`, `icmp_msgs_burst`).
 */
import { LANE_ICMP_RATE_OFFSET } from "./layout.ts";
import * as lane from "./lane.ts";
import { now_ms } from "./sys.ts";

const BURST: f64 = 50;

let tokens: f64 = 0;
let filled_ms: f64 = 0;
let rate_per_ms: f64 = 0;

/** Before a loop's first batch. */
export function startLimit(): void {
  tokens = BURST;
  rate_per_ms = <f64> lane.field(LANE_ICMP_RATE_OFFSET) / 1000;
  filled_ms = now_ms();
}

/** Whether one more error may be sent now; it then counts as sent. */
export function mayAnswerNow(): bool {
  const now = now_ms();
  // A clock that was set back fills nothing.
  tokens = min(BURST, tokens + max(now - filled_ms, 0) * rate_per_ms);
  filled_ms = now;
  if (tokens < 1) return false;
  tokens -= 1;
  return true;
}
