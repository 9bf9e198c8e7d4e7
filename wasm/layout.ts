/**
 * The shared memory of the packet loops: where everything lies. This file is compiled twice, as
 * AssemblyScript into the loops and as TypeScript into the control side, so it holds integer
 * expressions below 2^31 and nothing else. `LAYOUT_HASH` is compared at start.
 *
 * Units: `_OFFSET` is bytes from the start of the memory, or from the start of the thing named
 * before it; `_SIZE` is bytes; `_COUNT` and `_MAX` count things. All numbers are little-endian,
 * as the processor's are, unless it says "network order".
 *
 * Each cell has one writer: the control side, the egress loop (TUN to UDP) or the ingress loop
 * (UDP to TUN). Nothing here is ever moved.
 */

import { PREFIX_TABLE_SIZE } from "./prefix_layout.ts";

/** Raise it when the meaning of a cell changes and no offset does. */
export const LAYOUT_VERSION = 6;

export const WASM_PAGE_SIZE = 65536;
export const CACHE_LINE_SIZE = 64;

/** The compiler owns what is below: static data, of which these loops have none. */
export const STATIC_DATA_END = 65536;

// ---------------------------------------------------------------- control block

export const CONTROL_OFFSET = STATIC_DATA_END;
/** u32, control: not 0 asks all loops to end. */
export const STOP_FLAG_OFFSET = CONTROL_OFFSET;
/** u32, control: offset of the source table in use; one of the two. 56 bytes reserved. */
export const SOURCE_TABLE_CURRENT_OFFSET = CONTROL_OFFSET + 4;

// ---------------------------------------------------------------- lanes

/**
 * A lane is a queue of a TUN device, its sockets, and the two loops between them, all of one
 * address family. Both families with this many queues each at most.
 */
export const QUEUE_COUNT_MAX = 8;
export const LANE_COUNT_MAX = 2 * QUEUE_COUNT_MAX;
export const LANE_SIZE = 2048;
export const LANES_OFFSET = CONTROL_OFFSET + CACHE_LINE_SIZE;

/** What the control side writes before a lane's loops start; u32 unless it says otherwise. */
export const LANE_FAMILY_OFFSET = 0;
export const LANE_TUN_FD_OFFSET = 4;
export const LANE_RECEIVE_FD_OFFSET = 8;
export const LANE_SEND_FD_OFFSET = 12;
/** For ICMP errors; -1: there is none. */
export const LANE_ICMP_FD_OFFSET = 16;
export const LANE_WAKE_FD_OFFSET = 20;
/** `OFFLOAD_…` bits. */
export const LANE_OFFLOADS_OFFSET = 24;
/** Bytes of the largest inner packet. */
export const LANE_MTU_OFFSET = 28;
/** ICMP errors a second at most, of each of the lane's loops. */
export const LANE_ICMP_RATE_OFFSET = 32;
/** VXLAN network identifier; -1: a datagram is an inner packet and nothing else. */
export const LANE_VNI_OFFSET = 36;
/** u64: our VTEP's MAC address, its bytes in order, and two of zero. */
export const LANE_VTEP_MAC_OFFSET = 40;
/** 4 or 16 bytes, network order: the TUN's own address, which ICMP errors come from. */
export const LANE_ADDRESS_OFFSET = 48;
/**
 * The overlay's network and its mask: numbers, upper half and lower half, u64 each; of IPv4 the
 * upper half is 0.
 */
export const LANE_NETWORK_OFFSET = 64;
export const LANE_MASK_OFFSET = 80;
/** u32, IPv6: a socket whose datagrams may be cut on their way; -1: there is none. */
export const LANE_CUT_FD_OFFSET = 96;
/** u32: `LANE_FLAG_…` bits. */
export const LANE_FLAGS_OFFSET = 100;
/** Datagrams may come from any outer address: the inner source says which peer sent them. */
export const LANE_FLAG_ANY_OUTER_SOURCE = 1;
/** Inner packets may come from sources outside of the overlay. */
export const LANE_FLAG_OUTSIDE_SOURCES = 2;
/** The mask of our own subnet, whose first address is the TUN's: halves as above. */
export const LANE_SUBNET_MASK_OFFSET = 104;
/** 4 or 16 bytes, network order: the address that our datagrams leave from. */
export const LANE_OUTER_ADDRESS_OFFSET = 128;

/** u32, one a loop: odd while it is inside a batch; 60 bytes reserved after each. */
export const LANE_EGRESS_EPOCH_OFFSET = 192;
export const LANE_INGRESS_EPOCH_OFFSET = LANE_EGRESS_EPOCH_OFFSET + CACHE_LINE_SIZE;
/** Counters of one loop: u64 each, written by that loop alone. */
export const COUNTER_COUNT = 32;
export const COUNTERS_SIZE = COUNTER_COUNT * 8;
export const LANE_EGRESS_COUNTERS_OFFSET = LANE_INGRESS_EPOCH_OFFSET + CACHE_LINE_SIZE;
export const LANE_INGRESS_COUNTERS_OFFSET = LANE_EGRESS_COUNTERS_OFFSET + COUNTERS_SIZE;

/**
 * Ingress: outer addresses whose datagrams were refused because no peer has them. A cell is chosen
 * by a hash of the address, so a new address may replace an older one.
 */
export const LANE_REFUSED_OFFSET = LANE_INGRESS_COUNTERS_OFFSET + COUNTERS_SIZE;
export const REFUSED_CELL_COUNT = 16;
export const REFUSED_CELL_SIZE = 64;
/** The address as two numbers, upper half and lower half; of IPv4 the upper half is 0. */
export const REFUSED_ADDRESS_OFFSET = 0;
/** u64: datagrams; 0: the cell is empty, or is being written. */
export const REFUSED_COUNT_OFFSET = 16;
/** u64: ms since 1970 when the last one came. */
export const REFUSED_LAST_OFFSET = 24;
/** u64: 1 + the slot of the peer whose subnet holds the inner source of the last one; 0: none. */
export const REFUSED_PEER_OFFSET = 32;

// ---------------------------------------------------------------- counters

/** What came in: read from the TUN, or received from the UDP socket. Slot 1 is reserved. */
export const COUNTER_PACKETS_IN = 0;
/**
 * What went out: sent to peers, or written to the TUN; bytes of inner packets. After a batch
 * `in = out + all drops`.
 */
export const COUNTER_PACKETS_OUT = 2;
export const COUNTER_BYTES_OUT = 3;
/** ICMP errors sent, and those that the kernel did not take. */
export const COUNTER_ICMP_SENT = 4;
export const COUNTER_ICMP_FAILED = 5;
/** Reads or receives that failed for another reason than that nothing was there. */
export const COUNTER_READ_ERRORS = 6;
/** ICMP errors not sent, because there had been too many. */
export const COUNTER_ICMP_LIMITED = 7;
export const DROP_TRUNCATED = 8;
/** Egress: an IPv6 packet on a TUN of an IPv4 network. */
export const DROP_IPV6 = 9;
export const DROP_BAD_VERSION = 10;
export const DROP_BAD_HEADER_LENGTH = 11;
export const DROP_BAD_TOTAL_LENGTH = 12;
export const DROP_TTL_EXPIRED = 13;
export const DROP_NO_PEER = 14;
export const DROP_SEND_FAILED = 15;
export const DROP_SOURCE_NOT_PEER = 16;
export const DROP_DATAGRAM_TRUNCATED = 17;
export const DROP_TUN_WRITE_FAILED = 18;
/** A virtio header that does not fit its packet, or a packet whose offload cannot be known. */
export const DROP_BAD_OFFLOAD = 19;
/**
 * The source lies in the overlay, and not where it may: ingress, in the subnet of a peer at that
 * outer address; egress, in our own subnet.
 */
export const DROP_SOURCE_SPOOFED = 20;
/** Egress: longer than the path to the peer carries, and it must not be cut. */
export const DROP_TOO_BIG = 21;
/** Ingress, VXLAN: no VXLAN header, or of another network; a frame to another; no IP in it. */
export const DROP_BAD_VXLAN = 22;
export const DROP_NOT_OUR_MAC = 23;
export const DROP_NOT_IP = 24;
/** The source or destination is not one host's address that routers forward to or from. */
export const DROP_SPECIAL_ADDRESS = 25;
/** Ingress: the destination lies outside of our own subnet. */
export const DROP_DESTINATION_NOT_OURS = 26;
/** The source lies outside of the overlay, and is not the sending host's outer address. */
export const DROP_SOURCE_OUTSIDE = 27;
/** Slots from here to the next are reserved. */
export const DROP_END = 28;
/** Egress: how often a path was found to carry less than assumed. */
export const COUNTER_NARROW_PATHS = COUNTER_COUNT - 1;

// ---------------------------------------------------------------- look-up by destination

/**
 * DIR-24-8. Level 1: a u32 for each /24 of the address space, indexed by address >> 8.
 * 0: no peer. Bit 31 clear: peer slot + 1. Bit 31 set: the other bits are a level 2 block.
 */
export const FIB_LEVEL1_OFFSET = 131072;
export const FIB_LEVEL1_COUNT = 16777216;
export const FIB_BLOCK_BIT = 31;
/** Level 2: blocks of 256 u32, indexed by the last byte of the address: 0 or peer slot + 1. */
export const FIB_LEVEL2_OFFSET = FIB_LEVEL1_OFFSET + FIB_LEVEL1_COUNT * 4;
export const FIB_BLOCK_ENTRY_COUNT = 256;
export const FIB_BLOCK_SIZE = FIB_BLOCK_ENTRY_COUNT * 4;
/** As many as peers: a peer longer than /24 needs one at most. */
export const FIB_BLOCK_COUNT_MAX = 65536;

// ---------------------------------------------------------------- peers

/** Of each family; the slots of the two are apart. */
export const PEER_COUNT_MAX = 65536;
export const PEER_SIZE = 128;
export const PEERS4_OFFSET = FIB_LEVEL2_OFFSET + FIB_BLOCK_COUNT_MAX * FIB_BLOCK_SIZE;
export const PEERS6_OFFSET = PEERS4_OFFSET + PEER_COUNT_MAX * PEER_SIZE;
/**
 * u64, control, stored and loaded atomically. The first 4 bytes are the kernel's family (u16) and
 * port (network order). Then IPv4: the address, network order, as in `sockaddr_in`. IPv6: a
 * number that each change of the address makes another. 0: no endpoint.
 */
export const PEER_ENDPOINT_OFFSET = 0;
/** u64, control, stored and loaded atomically: the VTEP's MAC address as in a lane. */
export const PEER_VTEP_MAC_OFFSET = 8;
/** 16 bytes, control: an IPv6 endpoint's address, network order. */
export const PEER_ADDRESS_OFFSET = 16;
/** u64, egress, added to atomically: of all lanes; inner packets and their bytes. */
export const PEER_SENT_PACKETS_OFFSET = 32;
export const PEER_SENT_BYTES_OFFSET = 40;
/**
 * u64, egress and control: bytes of the largest inner packet that the path was last found to carry;
 * 0: all. Egress finds what our own interface refuses; control what probes have confirmed.
 */
export const PEER_PATH_MTU_OFFSET = 48;
/** u64, by the same writers: ms since 1970 until when that is believed. */
export const PEER_PATH_MTU_UNTIL_OFFSET = 56;
/** The longest that it may be believed, in ms: a clock that was set back makes it no longer. */
export const PATH_MTU_BELIEVED_MAX_MS = 60000;
/**
 * Bytes of an outer packet: a path that carries less is believed only if probes confirm it. Every
 * IPv6 link carries so much (RFC 8200 section 5), and so does what IPv4 is spoken over today.
 */
export const PATH_MTU_FLOOR = 1280;
/** u64, ingress, added to atomically; the second cache line. */
export const PEER_RECEIVED_PACKETS_OFFSET = 64;
export const PEER_RECEIVED_BYTES_OFFSET = 72;
/** u64, ingress: ms since 1970 when a packet last came from it; 0: never. 40 bytes reserved. */
export const PEER_LAST_HEARD_OFFSET = 80;

// ---------------------------------------------------------------- look-up by outer source

/**
 * Open addressing with linear probing. A cell is a u64, stored and loaded atomically: IPv4
 * address << 32 | peer slot + 1. 0: empty, ends a probe. Slot part 0: removed, does not end it.
 */
export const SOURCE_CELL_COUNT_BITS = 18;
export const SOURCE_CELL_COUNT = 1 << SOURCE_CELL_COUNT_BITS;
/** Above this many used cells, removed ones among them, the table is built anew in its twin. */
export const SOURCE_CELL_USED_MAX = SOURCE_CELL_COUNT / 2;
/** An address lies at most so many cells behind its place. */
export const SOURCE_PROBE_MAX = 128;
/** Multiplier of the hash: 2^32 divided by the golden ratio, as a signed number. */
export const SOURCE_HASH_MULTIPLIER = -1640531535;
export const SOURCE_TABLE_SIZE = SOURCE_CELL_COUNT * 8;
export const SOURCE_TABLE_A_OFFSET = PEERS6_OFFSET + PEER_COUNT_MAX * PEER_SIZE;
export const SOURCE_TABLE_B_OFFSET = SOURCE_TABLE_A_OFFSET + SOURCE_TABLE_SIZE;

// ---------------------------------------------------------------- look-up of IPv6

/** Two prefix tables (`prefix_layout.ts`): inner destinations, and outer sources. */
export const DESTINATIONS6_OFFSET = SOURCE_TABLE_B_OFFSET + SOURCE_TABLE_SIZE;
export const SOURCES6_OFFSET = DESTINATIONS6_OFFSET + PREFIX_TABLE_SIZE;

// ---------------------------------------------------------------- offloads

/** Bits of what the kernel was found to have and the loops are to use. */
export const OFFLOAD_CSUM = 1;
export const OFFLOAD_TSO = 2;
export const OFFLOAD_USO = 4;
export const OFFLOAD_UDP_SEGMENT = 8;
export const OFFLOAD_UDP_GRO = 16;

// ---------------------------------------------------------------- work areas, one a loop

/** Reads of the TUN, or receives from the socket, between two waits. */
export const BATCH_SIZE_MAX = 64;
/** Room for a packet: no IP packet of ours is longer. */
export const PACKET_SIZE_MAX = 65536;
/** Before each packet: room for a virtio or an encapsulation header, which end where it starts. */
export const PACKET_HEADROOM = 32;
/** Packets in one message (the kernel's UDP_MAX_SEGMENTS), or in one write to the TUN. */
export const SEGMENT_COUNT_MAX = 64;
/** Bytes in one message, whatever it is cut into: what an IPv4 packet leaves for UDP. */
export const MESSAGE_PAYLOAD_MAX = 65507;
/** Room for an IP and a TCP header with all their options, copied 16 bytes at a time. */
export const SEGMENT_HEADER_SIZE = 128;
/** The same with what encapsulation puts before it. */
export const SEND_HEADER_SIZE = PACKET_HEADROOM + SEGMENT_HEADER_SIZE;

/** Sizes of the kernel's structures on 64-bit Linux; see `messages.ts`. */
export const POLLFD_SIZE = 8;
export const MMSGHDR_SIZE = 64;
export const IOVEC_SIZE = 16;
export const SOCKADDR_IN_SIZE = 16;
export const SOCKADDR_IN6_SIZE = 28;
/** Room for either of them. */
export const NAME_SIZE = 32;
/** Room for one control message: `cmsghdr` and up to 8 bytes, and 8 bytes reserved. */
export const CONTROL_SIZE = 32;

/** What both areas start with; offsets from the area's start. Two pollfds; 48 bytes reserved. */
export const WORK_POLL_OFFSET = 0;
export const WORK_MESSAGES_OFFSET = 64;
export const WORK_NAMES_OFFSET = WORK_MESSAGES_OFFSET + BATCH_SIZE_MAX * MMSGHDR_SIZE;
export const WORK_CONTROLS_OFFSET = WORK_NAMES_OFFSET + BATCH_SIZE_MAX * NAME_SIZE;
/** The message of an ICMP error: mmsghdr, iovec, name; 16 bytes reserved. Then the error itself. */
export const ICMP_MESSAGE_OFFSET = WORK_CONTROLS_OFFSET + BATCH_SIZE_MAX * CONTROL_SIZE;
export const ICMP_IOVEC_OFFSET = ICMP_MESSAGE_OFFSET + MMSGHDR_SIZE;
export const ICMP_NAME_OFFSET = ICMP_IOVEC_OFFSET + IOVEC_SIZE;
export const ICMP_ERROR_OFFSET = ICMP_NAME_OFFSET + NAME_SIZE + 16;
/** RFC 4443 section 2.4 (c): what every IPv6 link carries. */
export const ICMP_ERROR_SIZE_MAX = 1280;
export const WORK_COMMON_SIZE = ICMP_ERROR_OFFSET + ICMP_ERROR_SIZE_MAX;

/** Egress. A message: slot of its peer, packets, bytes, bytes of each packet but the last. */
export const SEND_INFO_OFFSET = WORK_COMMON_SIZE;
export const SEND_INFO_SIZE = 16;
export const SEND_INFO_PACKETS = 4;
export const SEND_INFO_BYTES = 8;
export const SEND_INFO_SEGMENT = 12;
/** A message for one packet of those that the kernel did not take together. */
export const SINGLE_MESSAGE_OFFSET = SEND_INFO_OFFSET + BATCH_SIZE_MAX * SEND_INFO_SIZE;
/** Two iovecs and a header: a fragment of such a packet. */
export const FRAGMENT_IOVECS_OFFSET = SINGLE_MESSAGE_OFFSET + MMSGHDR_SIZE;
export const FRAGMENT_HEADER_OFFSET = FRAGMENT_IOVECS_OFFSET + 2 * IOVEC_SIZE;
/** The first headers of a packet of many, which an ICMP error quotes. */
export const ICMP_QUOTE_OFFSET = FRAGMENT_HEADER_OFFSET + SEND_HEADER_SIZE;
/** What all messages of a batch together consist of: two iovecs and a header a packet at most. */
export const SEND_PACKET_COUNT_MAX = 1024;
export const SEND_IOVECS_OFFSET = ICMP_QUOTE_OFFSET + SEGMENT_HEADER_SIZE;
export const SEND_HEADERS_OFFSET = SEND_IOVECS_OFFSET + SEND_PACKET_COUNT_MAX * 2 * IOVEC_SIZE;
/** What was read from the TUN, one after the other; a batch ends where no packet has room. */
export const ARENA_OFFSET = SEND_HEADERS_OFFSET + SEND_PACKET_COUNT_MAX * SEND_HEADER_SIZE;
export const ARENA_SIZE = 6 * PACKET_SIZE_MAX;
export const EGRESS_WORK_SIZE = ARENA_OFFSET + ARENA_SIZE;

/** Ingress. */
export const RECEIVE_IOVECS_OFFSET = WORK_COMMON_SIZE;
/** One write to the TUN: iovecs, the first of which is a virtio header and the packet's. */
export const WRITE_IOVECS_OFFSET = RECEIVE_IOVECS_OFFSET + BATCH_SIZE_MAX * IOVEC_SIZE;
/** A virtio header ends where the packet's headers start; 32 bytes reserved, which align. */
export const WRITE_HEADER_OFFSET = WRITE_IOVECS_OFFSET + (SEGMENT_COUNT_MAX + 4) * IOVEC_SIZE;
export const WRITE_HEADER_SIZE = PACKET_HEADROOM + SEGMENT_HEADER_SIZE + 32;
/** A write of one packet: two iovecs, the first being a virtio header of zeros behind them. */
export const PLAIN_IOVECS_OFFSET = WRITE_HEADER_OFFSET + WRITE_HEADER_SIZE;
export const PLAIN_HEADER_OFFSET = PLAIN_IOVECS_OFFSET + 2 * IOVEC_SIZE;
/** 16 bytes reserved. A buffer a message; what is in one stays until the batch ends. */
export const RECEIVE_BUFFERS_OFFSET = PLAIN_HEADER_OFFSET + 32;
/** Two cache lines more, lest the headers of a batch all fall into one set of the cache. */
export const RECEIVE_BUFFER_STRIDE = PACKET_SIZE_MAX + 2 * CACHE_LINE_SIZE;
export const INGRESS_WORK_SIZE = RECEIVE_BUFFERS_OFFSET + BATCH_SIZE_MAX * RECEIVE_BUFFER_STRIDE;

/** The two areas of lane 0, and how far those of the next are behind them. */
export const EGRESS_WORK_OFFSET = SOURCES6_OFFSET + PREFIX_TABLE_SIZE;
export const INGRESS_WORK_OFFSET = EGRESS_WORK_OFFSET + EGRESS_WORK_SIZE;
export const LANE_WORK_STRIDE = EGRESS_WORK_SIZE + INGRESS_WORK_SIZE;

// ---------------------------------------------------------------- size and hash

export const MEMORY_END = EGRESS_WORK_OFFSET + LANE_COUNT_MAX * LANE_WORK_STRIDE;
/** Initial and maximum size of the memory. Pages that nobody touches take no room. */
export const MEMORY_PAGES = (MEMORY_END + WASM_PAGE_SIZE - 1 - (MEMORY_END - 1) % WASM_PAGE_SIZE) /
  WASM_PAGE_SIZE;

/** Shifts and exclusive-ors alone: both languages compute them alike. */
export const LAYOUT_HASH_1 = (LAYOUT_VERSION << 24) ^ (COUNTER_COUNT << 16) ^ (DROP_END << 8) ^
  BATCH_SIZE_MAX ^ (LANE_EGRESS_COUNTERS_OFFSET << 3) ^ (LANE_CUT_FD_OFFSET << 7) ^
  (DROP_SPECIAL_ADDRESS << 13) ^ (LANE_REFUSED_OFFSET << 4);
export const LAYOUT_HASH_2 = (LAYOUT_HASH_1 << 5) ^ (LAYOUT_HASH_1 >>> 27) ^ FIB_LEVEL2_OFFSET ^
  PEERS6_OFFSET ^ (PEER_SIZE << 9) ^ (PEER_RECEIVED_PACKETS_OFFSET << 17) ^ FIB_BLOCK_BIT;
export const LAYOUT_HASH_3 = (LAYOUT_HASH_2 << 5) ^ (LAYOUT_HASH_2 >>> 27) ^ SOURCE_TABLE_A_OFFSET ^
  SOURCE_TABLE_B_OFFSET ^ SOURCE_PROBE_MAX ^ SOURCE_HASH_MULTIPLIER ^ SOURCES6_OFFSET;
export const LAYOUT_HASH = (LAYOUT_HASH_3 << 5) ^ (LAYOUT_HASH_3 >>> 27) ^ EGRESS_WORK_OFFSET ^
  INGRESS_WORK_OFFSET ^ MEMORY_END ^ ICMP_ERROR_OFFSET ^ (ARENA_OFFSET << 11) ^
  (RECEIVE_BUFFERS_OFFSET << 3) ^ OFFLOAD_UDP_GRO ^ PREFIX_TABLE_SIZE ^ LANES_OFFSET ^
  (LANE_SIZE << 2);
