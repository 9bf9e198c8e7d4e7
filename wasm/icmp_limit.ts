/**
 * How many ICMP errors a loop sends: RFC 1812 section 4.3.2.8 asks for a limit, lest a
 * flood to nowhere be answered by another. Token buckets, all loops together as fast as Linux's own
 * (`net.ipv4.icmp_msgs_per_sec`). "Too big" has one to itself: path MTU discovery must go on
 * whatever else is answered.
 */
import { LANE_ICMP_RATE_OFFSET } from "./layout.ts";
import * as lane from "./lane.ts";
import { now_ms } from "./sys.ts";

const BURST: f64 = 50;

let tokens: f64 = 0;
let tooBigTokens: f64 = 0;
let filled_ms: f64 = 0;
let rate_per_ms: f64 = 0;

/** Before a loop's first batch. */
export function startLimit(): void {
  tokens = BURST;
  tooBigTokens = BURST;
  rate_per_ms = <f64> lane.field(LANE_ICMP_RATE_OFFSET) / 1000;
  filled_ms = now_ms();
}

function fill(): void {
  const now = now_ms();
  // A clock that was set back fills nothing.
  const more = max(now - filled_ms, 0) * rate_per_ms;
  tokens = min(BURST, tokens + more);
  tooBigTokens = min(BURST, tooBigTokens + more);
  filled_ms = now;
}

/** Whether one more error may be sent now; it then counts as sent. */
export function mayAnswerNow(isTooBig: bool): bool {
  fill();
  const left = isTooBig ? tooBigTokens : tokens;
  if (left < 1) return false;
  if (isTooBig) tooBigTokens -= 1;
  else tokens -= 1;
  return true;
}
