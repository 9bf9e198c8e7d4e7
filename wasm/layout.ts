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
export const LAYOUT_VERSION = 1;

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
/** Slot 7 is reserved. */
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
/** Slots from here to `COUNTER_COUNT` are reserved. */
export const DROP_END = 19;

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

// ---------------------------------------------------------------- work area, one a loop

/** Packets handled between two waits. */
export const BATCH_SIZE_MAX = 64;
/** Room for a packet: no IPv4 packet is longer. */
export const PACKET_SIZE_MAX = 65536;
/** Two cache lines more, lest the headers of a batch all fall into one set of the cache. */
export const PACKET_STRIDE = PACKET_SIZE_MAX + 2 * CACHE_LINE_SIZE;

/** Sizes of the kernel's structures on 64-bit Linux; see `messages.ts`. */
export const POLLFD_SIZE = 8;
export const MMSGHDR_SIZE = 64;
export const IOVEC_SIZE = 16;
export const SOCKADDR_IN_SIZE = 16;

/** Two pollfds; 48 bytes reserved. */
export const WORK_POLL_OFFSET = 0;
/** u32 a message: the slot of its peer. Egress only. */
export const WORK_SLOTS_OFFSET = 64;
export const WORK_MESSAGES_OFFSET = WORK_SLOTS_OFFSET + BATCH_SIZE_MAX * 4;
export const WORK_IOVECS_OFFSET = WORK_MESSAGES_OFFSET + BATCH_SIZE_MAX * MMSGHDR_SIZE;
export const WORK_NAMES_OFFSET = WORK_IOVECS_OFFSET + BATCH_SIZE_MAX * IOVEC_SIZE;
/** The message of an ICMP error: mmsghdr, iovec, name. Egress only. */
export const WORK_ICMP_MESSAGE_OFFSET = WORK_NAMES_OFFSET + BATCH_SIZE_MAX * SOCKADDR_IN_SIZE;
export const WORK_ICMP_IOVEC_OFFSET = WORK_ICMP_MESSAGE_OFFSET + MMSGHDR_SIZE;
export const WORK_ICMP_NAME_OFFSET = WORK_ICMP_IOVEC_OFFSET + IOVEC_SIZE;
/** The ICMP error being built; reserved from its end to the packets. Egress only. */
export const WORK_ICMP_OFFSET = WORK_ICMP_NAME_OFFSET + SOCKADDR_IN_SIZE;
export const WORK_PACKETS_OFFSET = 8192;
export const WORK_SIZE = WORK_PACKETS_OFFSET + BATCH_SIZE_MAX * PACKET_STRIDE;

export const EGRESS_WORK_OFFSET = SOURCE_TABLE_B_OFFSET + SOURCE_TABLE_SIZE;
export const INGRESS_WORK_OFFSET = EGRESS_WORK_OFFSET + WORK_SIZE;

// ---------------------------------------------------------------- size and hash

export const MEMORY_END = INGRESS_WORK_OFFSET + WORK_SIZE;
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
  INGRESS_WORK_OFFSET ^ MEMORY_END ^ WORK_ICMP_OFFSET ^ (WORK_PACKETS_OFFSET << 11);
