/**
 * What VXLAN puts before an inner packet: its header (RFC 7348 section 5) and an Ethernet header
 * without tag. Offsets are bytes from the start of the VXLAN header.
 */

/** The flag that says that there is a network identifier; all other bits are to be ignored. */
export const FLAGS = 0;
export const FLAG_VNI: u32 = 0x08;
/** Three bytes, and one reserved behind them. */
export const VNI = 4;
export const DESTINATION_MAC = 8;
export const SOURCE_MAC = DESTINATION_MAC + 6;
export const ETHERTYPE = SOURCE_MAC + 6;
export const SIZE = ETHERTYPE + 2;

export const ETHERTYPE_IPV4: u32 = 0x0800;
export const ETHERTYPE_IPV6: u32 = 0x86dd;
