/** Whether a dropped packet is answered with an ICMP error, and the answer. */
import * as icmpv4 from "./wire/icmpv4.ts";
import * as ipv4 from "./wire/ipv4.ts";

const MULTICAST_FIRST: u32 = 0xe0000000;
const MULTICAST_LAST: u32 = 0xefffffff;
const BROADCAST: u32 = 0xffffffff;

/** Whether the packet is surely no ICMP error: those are what only asks and answers (RFC 792). */
function isNoError(packet: i32, size: i32): bool {
  if (load<u8>(packet + ipv4.PROTOCOL) !== ipv4.PROTOCOL_ICMP) return true;
  const at = ipv4.headerLength(packet);
  if (at >= size) return false;
  const type = <u32> load<u8>(packet + at + icmpv4.TYPE);
  return type === icmpv4.ECHO_REPLY || type === icmpv4.ECHO || type === icmpv4.TIMESTAMP ||
    type === icmpv4.TIMESTAMP_REPLY;
}

/**
 * Whether an error may be sent about `packet` (checked, the first `size` bytes are there): RFC 1122
 * section 3.2.2 and RFC 1812 section 4.3.2.7: none about an ICMP error, a later fragment or a
 * packet to many, or to a source that is no single host.
 */
export function mayAnswer(packet: i32, size: i32): bool {
  if (!isNoError(packet, size)) return false;
  if (ipv4.isLaterFragment(packet)) return false;
  const to = ipv4.destination(packet);
  if (to === BROADCAST || (to >= MULTICAST_FIRST && to <= MULTICAST_LAST)) return false;
  return !ipv4.isSpecial(ipv4.source(packet));
}

/**
 * Builds an error about `packet` (checked, `size` bytes) at `at`, from `address`. `word` is the MTU
 * where fragmentation was needed, else 0. It quotes the packet's header and 8 bytes. Returns its
 * size in bytes.
 */
export function build(
  at: i32,
  packet: i32,
  size: i32,
  address: u32,
  type: u32,
  code: u32,
  word: u32,
): i32 {
  const quotedLength = min(size, ipv4.headerLength(packet) + icmpv4.QUOTED_PAYLOAD_LEN);
  const message = at + ipv4.HEADER_LEN;
  memory.copy(message + icmpv4.HEADER_LEN, packet, quotedLength);
  icmpv4.writeError(message, type, code, word, quotedLength);
  const totalLength = ipv4.HEADER_LEN + icmpv4.HEADER_LEN + quotedLength;
  ipv4.write(
    at,
    ipv4.DSCP_INTERNETWORK_CONTROL,
    totalLength,
    ipv4.PROTOCOL_ICMP,
    address,
    ipv4.source(packet),
  );
  return totalLength;
}
