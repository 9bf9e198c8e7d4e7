/** The UDP header (RFC 768). Offsets are bytes from its start. */

/** Header and payload. */
export const LENGTH = 4;
/** 0: the sender computed none. */
export const CHECKSUM = 6;
export const HEADER_LEN = 8;
