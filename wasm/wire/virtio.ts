/**
 * The header that goes before a packet on a TUN with offloads: `struct virtio_net_hdr`
 * (`linux/virtio_net.h`), 10 bytes in host order. Offsets are bytes from its start.
 */

export const FLAGS = 0;
export const GSO_TYPE = 1;
/** A hint alone: a forwarded packet may come with another length. */
export const HDR_LEN = 2;
/** Payload bytes of each segment but the last. */
export const GSO_SIZE = 4;
/** Where the checksum's data start, and the field's place from there. */
export const CSUM_START = 6;
export const CSUM_OFFSET = 8;
export const SIZE = 10;

/** The checksum field holds the sum of the pseudo-header; the data are still to be added. */
export const NEEDS_CSUM = 1;

export const GSO_NONE: u32 = 0;
export const GSO_TCPV4: u32 = 1;
export const GSO_TCPV6: u32 = 4;
export const GSO_UDP_L4: u32 = 5;
/** With TCP: the first segment has CWR set. */
export const GSO_ECN: u32 = 0x80;
