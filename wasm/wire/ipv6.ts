/** The IPv6 header (RFC 8200 section 3). Offsets are bytes from its start. */

/** What is behind this header. */
export const PAYLOAD_LENGTH = 4;
/** The hop limit is the byte behind it. */
export const NEXT_HEADER = 6;
export const SOURCE = 8;
export const HEADER_LEN = 40;
