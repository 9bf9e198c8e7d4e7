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

/** Raise it when the meaning of a cell changes and no offset does. */
export const LAYOUT_VERSION = 3;

export const WASM_PAGE_SIZE = 65536;
export const CACHE_LINE_SIZE = 64;

/** The compiler owns what is below: static data, of which these loops have none. */
export const STATIC_DATA_END = 65536;

// ---------------------------------------------------------------- control block

export const CONTROL_OFFSET = STATIC_DATA_END;
/** u32, control: not 0 asks both loops to end. */
export const STOP_FLAG_OFFSET = CONTROL_OFFSET;
/** u32, control: offset of the source table in use; one of the two. */
export const SOURCE_TABLE_CURRENT_OFFSET = CONTROL_OFFSET + 4;
/** 56 bytes reserved, then a cache line for each epoch. */
export const EGRESS_EPOCH_OFFSET = CONTROL_OFFSET + CACHE_LINE_SIZE;
/** u32, one a loop: odd while it is inside a batch; 60 bytes reserved after each. */
export const INGRESS_EPOCH_OFFSET = EGRESS_EPOCH_OFFSET + CACHE_LINE_SIZE;

// ---------------------------------------------------------------- counters

/** Counters of one loop: u64 each, written by that loop alone. */
export const COUNTER_COUNT = 32;
export const COUNTERS_SIZE = COUNTER_COUNT * 8;
export const EGRESS_COUNTERS_OFFSET = INGRESS_EPOCH_OFFSET + 2 * CACHE_LINE_SIZE;
export const INGRESS_COUNTERS_OFFSET = EGRESS_COUNTERS_OFFSET + COUNTERS_SIZE;

/** What came in: read from the TUN, or received from the UDP socket. Bytes of inner packets. */
export const COUNTER_PACKETS_IN = 0;
export const COUNTER_BYTES_IN = 1;
/** What went out: sent to peers, or written to the TUN. `in = out + all drops` after a batch. */
export const COUNTER_PACKETS_OUT = 2;
export const COUNTER_BYTES_OUT = 3;
/** Egress: ICMP errors sent, and those that the kernel did not take. */
export const COUNTER_ICMP_SENT = 4;
export const COUNTER_ICMP_FAILED = 5;
/** Reads or receives that failed for another reason than that nothing was there. */
export const COUNTER_READ_ERRORS = 6;
/** Egress: ICMP errors not sent, because there had been too many. */
export const COUNTER_ICMP_LIMITED = 7;
export const DROP_TRUNCATED = 8;
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
/** Egress: a virtio header that does not fit its packet, or asks for what was not offered. */
export const DROP_BAD_OFFLOAD = 19;
/** Slots from here to `COUNTER_COUNT` are reserved. */
/** Ingress: its source lies in the overlay, and in the subnet of no peer at that address. */
export const DROP_SOURCE_SPOOFED = 20;
export const DROP_END = 21;

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

export const PEER_COUNT_MAX = 65536;
export const PEER_SIZE = 128;
export const PEERS_OFFSET = FIB_LEVEL2_OFFSET + FIB_BLOCK_COUNT_MAX * FIB_BLOCK_SIZE;
/**
 * u64, control, stored and loaded atomically: the first 8 bytes of the kernel's `sockaddr_in`,
 * which are family (u16), port (network order), address (network order). 0: no endpoint.
 */
export const PEER_ENDPOINT_OFFSET = 0;
/** u64, egress; inner packets and their bytes. 40 bytes reserved after them. */
export const PEER_SENT_PACKETS_OFFSET = 8;
export const PEER_SENT_BYTES_OFFSET = 16;
/** u64, ingress; the second cache line. */
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
export const SOURCE_TABLE_A_OFFSET = PEERS_OFFSET + PEER_COUNT_MAX * PEER_SIZE;
export const SOURCE_TABLE_B_OFFSET = SOURCE_TABLE_A_OFFSET + SOURCE_TABLE_SIZE;

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
/** Room for a packet: no IPv4 packet is longer. */
export const PACKET_SIZE_MAX = 65536;
/** Before each packet: room for a virtio header, which ends where the packet starts. */
export const PACKET_HEADROOM = 16;
/** Packets in one message (the kernel's UDP_MAX_SEGMENTS), or in one write to the TUN. */
export const SEGMENT_COUNT_MAX = 64;
/** Bytes in one message, whatever it is cut into: what an IPv4 packet leaves for UDP. */
export const MESSAGE_PAYLOAD_MAX = 65507;
/** Room for an IPv4 and a TCP header, with all their options. */
export const SEGMENT_HEADER_SIZE = 128;

/** Sizes of the kernel's structures on 64-bit Linux; see `messages.ts`. */
export const POLLFD_SIZE = 8;
export const MMSGHDR_SIZE = 64;
export const IOVEC_SIZE = 16;
export const SOCKADDR_IN_SIZE = 16;
/** Room for one control message: `cmsghdr` and up to 8 bytes, and 8 bytes reserved. */
export const CONTROL_SIZE = 32;

/** What both areas start with. Two pollfds; 48 bytes reserved. */
export const WORK_POLL_OFFSET = 0;
export const WORK_MESSAGES_OFFSET = 64;
export const WORK_NAMES_OFFSET = WORK_MESSAGES_OFFSET + BATCH_SIZE_MAX * MMSGHDR_SIZE;
export const WORK_CONTROLS_OFFSET = WORK_NAMES_OFFSET + BATCH_SIZE_MAX * SOCKADDR_IN_SIZE;
export const WORK_COMMON_SIZE = WORK_CONTROLS_OFFSET + BATCH_SIZE_MAX * CONTROL_SIZE;

export const EGRESS_WORK_OFFSET = SOURCE_TABLE_B_OFFSET + SOURCE_TABLE_SIZE;
/** A message: slot of its peer, packets, bytes, bytes of each packet but the last; u32 each. */
export const SEND_INFO_OFFSET = EGRESS_WORK_OFFSET + WORK_COMMON_SIZE;
export const SEND_INFO_SIZE = 16;
export const SEND_INFO_PACKETS = 4;
export const SEND_INFO_BYTES = 8;
export const SEND_INFO_SEGMENT = 12;
/** A message for one packet of those that the kernel did not take together. */
export const SINGLE_MESSAGE_OFFSET = SEND_INFO_OFFSET + BATCH_SIZE_MAX * SEND_INFO_SIZE;
/** The message of an ICMP error: mmsghdr, iovec, name; and the error, 128 bytes reserved for it. */
export const ICMP_MESSAGE_OFFSET = SINGLE_MESSAGE_OFFSET + MMSGHDR_SIZE;
export const ICMP_IOVEC_OFFSET = ICMP_MESSAGE_OFFSET + MMSGHDR_SIZE;
export const ICMP_NAME_OFFSET = ICMP_IOVEC_OFFSET + IOVEC_SIZE;
export const ICMP_ERROR_OFFSET = ICMP_NAME_OFFSET + SOCKADDR_IN_SIZE + 32;
export const ICMP_ERROR_SIZE_MAX = 128;
/** What all messages of a batch together consist of: two iovecs and a header a packet at most. */
export const SEND_PACKET_COUNT_MAX = 1024;
export const SEND_IOVECS_OFFSET = ICMP_ERROR_OFFSET + ICMP_ERROR_SIZE_MAX;
export const SEND_HEADERS_OFFSET = SEND_IOVECS_OFFSET + SEND_PACKET_COUNT_MAX * 2 * IOVEC_SIZE;
/** What was read from the TUN, one after the other; a batch ends where no packet has room. */
export const ARENA_OFFSET = SEND_HEADERS_OFFSET + SEND_PACKET_COUNT_MAX * SEGMENT_HEADER_SIZE;
export const ARENA_SIZE = 6 * PACKET_SIZE_MAX;
export const EGRESS_WORK_SIZE = ARENA_OFFSET + ARENA_SIZE - EGRESS_WORK_OFFSET;

export const INGRESS_WORK_OFFSET = EGRESS_WORK_OFFSET + EGRESS_WORK_SIZE;
export const RECEIVE_IOVECS_OFFSET = INGRESS_WORK_OFFSET + WORK_COMMON_SIZE;
/** One write to the TUN: iovecs, the first of which is a virtio header and the packet's. */
export const WRITE_IOVECS_OFFSET = RECEIVE_IOVECS_OFFSET + BATCH_SIZE_MAX * IOVEC_SIZE;
/** 48 bytes reserved, which align what follows. */
export const WRITE_HEADER_OFFSET = WRITE_IOVECS_OFFSET + (SEGMENT_COUNT_MAX + 4) * IOVEC_SIZE;
export const WRITE_HEADER_SIZE = PACKET_HEADROOM + SEGMENT_HEADER_SIZE + 48;
/** A write of one packet: two iovecs, the first being a virtio header of zeros behind them. */
export const PLAIN_IOVECS_OFFSET = WRITE_HEADER_OFFSET + WRITE_HEADER_SIZE;
export const PLAIN_HEADER_OFFSET = PLAIN_IOVECS_OFFSET + 2 * IOVEC_SIZE;
/** 16 bytes reserved. A buffer a message; what is in one stays until the batch ends. */
export const RECEIVE_BUFFERS_OFFSET = PLAIN_HEADER_OFFSET + 32;
/** Two cache lines more, lest the headers of a batch all fall into one set of the cache. */
export const RECEIVE_BUFFER_STRIDE = PACKET_SIZE_MAX + 2 * CACHE_LINE_SIZE;
export const INGRESS_WORK_SIZE = RECEIVE_BUFFERS_OFFSET + BATCH_SIZE_MAX * RECEIVE_BUFFER_STRIDE -
  INGRESS_WORK_OFFSET;

// ---------------------------------------------------------------- size and hash

export const MEMORY_END = INGRESS_WORK_OFFSET + INGRESS_WORK_SIZE;
/** Initial and maximum size of the memory. Pages that nobody touches take no room. */
export const MEMORY_PAGES = (MEMORY_END + WASM_PAGE_SIZE - 1 - (MEMORY_END - 1) % WASM_PAGE_SIZE) /
  WASM_PAGE_SIZE;

/** Shifts and exclusive-ors alone: both languages compute them alike. */
export const LAYOUT_HASH_1 = (LAYOUT_VERSION << 24) ^ (COUNTER_COUNT << 16) ^ (DROP_END << 8) ^
  BATCH_SIZE_MAX ^ (EGRESS_COUNTERS_OFFSET << 3) ^ (INGRESS_COUNTERS_OFFSET << 7);
export const LAYOUT_HASH_2 = (LAYOUT_HASH_1 << 5) ^ (LAYOUT_HASH_1 >>> 27) ^ FIB_LEVEL2_OFFSET ^
  PEERS_OFFSET ^ (PEER_SIZE << 9) ^ (PEER_RECEIVED_PACKETS_OFFSET << 17) ^ FIB_BLOCK_BIT;
export const LAYOUT_HASH_3 = (LAYOUT_HASH_2 << 5) ^ (LAYOUT_HASH_2 >>> 27) ^ SOURCE_TABLE_A_OFFSET ^
  SOURCE_TABLE_B_OFFSET ^ SOURCE_PROBE_MAX ^ SOURCE_HASH_MULTIPLIER;
export const LAYOUT_HASH = (LAYOUT_HASH_3 << 5) ^ (LAYOUT_HASH_3 >>> 27) ^ EGRESS_WORK_OFFSET ^
  INGRESS_WORK_OFFSET ^ MEMORY_END ^ ICMP_ERROR_OFFSET ^ (ARENA_OFFSET << 11) ^
  (RECEIVE_BUFFERS_OFFSET << 3) ^ OFFLOAD_UDP_GRO;
