/** ICMP error messages (RFC 792). Offsets are bytes from the start of the ICMP header. */
import { store16, store32 } from "../bytes.ts";
import { checksum } from "../checksum.ts";

export const TYPE = 0;
export const CODE = 1;
export const CHECKSUM = 2;
/** Fragmentation needed: the next hop's MTU (RFC 1191). Zero in the other messages written here. */
export const WORD = 4;
export const HEADER_LEN = WORD + 4;
/** How much of the packet's own payload an error quotes behind its IP header. */
export const QUOTED_PAYLOAD_LEN = 8;

export const ECHO_REPLY: u32 = 0;
export const ECHO: u32 = 8;
export const TIMESTAMP: u32 = 13;
export const TIMESTAMP_REPLY: u32 = 14;
export const DESTINATION_UNREACHABLE = 3;
/** Network unreachable: nobody has the subnet. */
export const CODE_NET_UNREACHABLE = 0;
/** Fragmentation needed, and not allowed. */
export const CODE_FRAGMENTATION_NEEDED = 4;
export const TIME_EXCEEDED = 11;
export const CODE_TTL_EXCEEDED = 0;

/** Writes the header of an error; the `quotedLength` bytes behind it are in place already. */
export function writeError(
  message: i32,
  type: u32,
  code: u32,
  word: u32,
  quotedLength: i32,
): void {
  store<u8>(message + TYPE, <u8> type);
  store<u8>(message + CODE, <u8> code);
  store16(message + CHECKSUM, 0);
  store32(message + WORD, word);
  store16(message + CHECKSUM, checksum(message, HEADER_LEN + quotedLength));
}
