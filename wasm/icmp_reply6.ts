/** Whether a dropped IPv6 packet is answered with an ICMPv6 error, and the answer. */
import { load16 } from "./bytes.ts";
import * as icmpv6 from "./wire/icmpv6.ts";
import * as ipv6 from "./wire/ipv6.ts";

/** ::1, both halves as the processor reads them. */
const LOOPBACK_LOW: u64 = 1 << 56;

function isOneHost(address: i32): bool {
  if (ipv6.isMulticast(address)) return false;
  const low = load<u64>(address, 8);
  return load<u64>(address) !== 0 || (low !== 0 && low !== LOOPBACK_LOW);
}

/** Whether what follows is a header that may have anything behind it, an ICMPv6 error too. */
function isExtension(kind: u32): bool {
  return kind === ipv6.HOP_BY_HOP || kind === ipv6.ROUTING || kind === ipv6.FRAGMENT ||
    kind === ipv6.AUTHENTICATION || kind === ipv6.DESTINATION_OPTIONS;
}

/**
 * Whether the packet is surely no ICMPv6 error and no redirect. Behind the IPv6 header the header
 * of a first fragment is understood, and no other extension.
 */
function isNoError(packet: i32, size: i32): bool {
  let kind = <u32> load<u8>(packet + ipv6.NEXT_HEADER);
  let at = ipv6.HEADER_LEN;
  if (kind === ipv6.FRAGMENT) {
    const fragment = packet + at;
    at += ipv6.FRAGMENT_HEADER_LEN;
    if (size < at) return false;
    const offset = load16(fragment + ipv6.FRAGMENT_OFFSET) & ipv6.FRAGMENT_OFFSET_MASK;
    if (offset !== 0) return false;
    kind = load<u8>(fragment + ipv6.FRAGMENT_NEXT_HEADER);
  }
  if (kind !== icmpv6.NEXT_HEADER) return !isExtension(kind);
  if (size <= at) return false;
  const type = <u32> load<u8>(packet + at + icmpv6.TYPE);
  return type >= icmpv6.INFORMATIONAL_FIRST && type !== icmpv6.REDIRECT;
}

/**
 * Whether an error of this type may be sent about `packet` (checked, `size` bytes): RFC 4443
 * section 2.4 (e). None about an error or a redirect, or what may be one; none to a source that is
 * no single host; and about a packet to many only that it is too big, which path MTU discovery
 * needs.
 */
export function mayAnswer6(packet: i32, size: i32, type: u32): bool {
  if (!isOneHost(packet + ipv6.SOURCE)) return false;
  if (ipv6.isMulticast(packet + ipv6.DESTINATION) && type !== icmpv6.PACKET_TOO_BIG) return false;
  return isNoError(packet, size);
}

/**
 * Builds an error about `packet` (checked, `size` bytes) at `at`, where `ipv6.MTU_MIN` bytes are
 * free that are not the packet's. `from` is where the 16 bytes of the source address lie, `word`
 * the MTU of a packet too big, else 0. It quotes as much as every link carries (RFC 4443 section
 * 2.4 (c)). Returns its size in bytes.
 */
export function build6(
  at: i32,
  packet: i32,
  size: i32,
  from: i32,
  type: u32,
  code: u32,
  word: u32,
): i32 {
  const start = ipv6.HEADER_LEN + icmpv6.HEADER_LEN;
  const quotedLength = min(size, ipv6.MTU_MIN - start);
  memory.copy(at + start, packet, quotedLength);
  const length = icmpv6.HEADER_LEN + quotedLength;
  ipv6.writeHeader(at, 0, length, icmpv6.NEXT_HEADER, from, packet + ipv6.SOURCE);
  icmpv6.writeError(at, type, code, word, quotedLength);
  return start + quotedLength;
}
