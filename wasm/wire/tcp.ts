/** The TCP header (RFC 9293 section 3.1). Offsets are bytes from its start. */

export const SEQUENCE = 4;
export const ACKNOWLEDGMENT = 8;
/** Length in 32-bit words in the upper four bits. */
export const DATA_OFFSET = 12;
export const FLAGS = 13;
export const CHECKSUM = 16;
export const URGENT_POINTER = 18;
/** Without options. */
export const HEADER_LEN = 20;

export const FIN: u32 = 0x01;
export const SYN: u32 = 0x02;
export const RST: u32 = 0x04;
export const PSH: u32 = 0x08;
export const URG: u32 = 0x20;
export const CWR: u32 = 0x80;
