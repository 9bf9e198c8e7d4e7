/** ICMPv6 error messages (RFC 4443). Offsets are bytes from the start of the ICMPv6 header. */
import { store16, store32 } from "../bytes.ts";
import { fold, onesSum } from "../checksum.ts";
import * as ipv6 from "./ipv6.ts";

export const TYPE = 0;
export const CODE = 1;
export const CHECKSUM = 2;
/** Packet too big: the next hop's MTU. Zero in the other messages written here. */
export const WORD = 4;
export const HEADER_LEN = WORD + 4;
/** The next header before it. */
export const NEXT_HEADER: u32 = 58;

export const DESTINATION_UNREACHABLE: u32 = 1;
/** No route: nobody has the subnet. */
export const CODE_NO_ROUTE: u32 = 0;
export const PACKET_TOO_BIG: u32 = 2;
export const TIME_EXCEEDED: u32 = 3;
export const CODE_HOP_LIMIT_EXCEEDED: u32 = 0;
/** Types from here on are no errors. */
export const INFORMATIONAL_FIRST: u32 = 128;
export const REDIRECT: u32 = 137;

/**
 * Writes the header of an error behind the IPv6 header of `packet`, which is in place already, as
 * are the `quotedLength` bytes behind it.
 */
export function writeError(
  packet: i32,
  type: u32,
  code: u32,
  word: u32,
  quotedLength: i32,
): void {
  const message = packet + ipv6.HEADER_LEN;
  const length = HEADER_LEN + quotedLength;
  store<u8>(message + TYPE, <u8> type);
  store<u8>(message + CODE, <u8> code);
  store16(message + CHECKSUM, 0);
  store32(message + WORD, word);
  const addresses = onesSum(packet + ipv6.SOURCE, 2 * ipv6.ADDRESS_LEN);
  const sum = addresses + <u32> length + NEXT_HEADER + onesSum(message, length);
  store16(message + CHECKSUM, ~fold(<u64> sum) & 0xffff);
}
