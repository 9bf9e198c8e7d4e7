/** ICMP error messages (RFC 792). Offsets are bytes from the start of the ICMP header. */
import { store16, store32 } from "../bytes.ts";
import { checksum } from "../checksum.ts";

export const TYPE = 0;
export const CODE = 1;
export const CHECKSUM = 2;
/** Zero in the messages written here. */
export const UNUSED = 4;
export const HEADER_LEN = UNUSED + 4;
/** How much of the packet's own payload an error quotes behind its IP header. */
export const QUOTED_PAYLOAD_LEN = 8;

export const DESTINATION_UNREACHABLE = 3;
/** Network unreachable: nobody has the subnet. */
export const CODE_NET_UNREACHABLE = 0;
export const TIME_EXCEEDED = 11;
export const CODE_TTL_EXCEEDED = 0;

/** Writes the header of an error; the `quotedLength` bytes behind it are in place already. */
export function writeError(message: i32, type: u32, code: u32, quotedLength: i32): void {
  store<u8>(message + TYPE, <u8> type);
  store<u8>(message + CODE, <u8> code);
  store16(message + CHECKSUM, 0);
  store32(message + UNUSED, 0);
  store16(message + CHECKSUM, checksum(message, HEADER_LEN + quotedLength));
}
