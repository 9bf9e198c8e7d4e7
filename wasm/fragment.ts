/**
 * Cutting an IPv4 packet that is longer than the path carries (RFC 791 section 3.2). Payload stays
 * where it is: each fragment is a header of its own and a part of it.
 */
import { SEGMENT_COUNT_MAX, SEGMENT_HEADER_SIZE } from "./layout.ts";
import { load16, store16 } from "./bytes.ts";
import { checksum } from "./checksum.ts";
import * as ipv4 from "./wire/ipv4.ts";

/** Fragments begin at multiples of so many bytes. */
const UNIT = 8;
/** More data than that behind an IPv4 header has no offset. */
const DATA_END_MAX = 65535;

/** An option that is in every fragment (RFC 791 section 3.1), and the two that have no length. */
const OPTION_COPIED: u32 = 0x80;
const OPTION_END: u32 = 0;
const OPTION_NO_OPERATION: u32 = 1;

/** The packet being cut: its headers and, in thought behind them, its payload. */
let headers: i32 = 0;
let headersSize: i32 = 0;
let payload: i32 = 0;
let payloadLength: i32 = 0;
/** Bytes of the IPv4 header of the first fragment, and of those of the others. */
let firstHeader: i32 = 0;
let laterHeader: i32 = 0;
/** Payload bytes of the first fragment, and of each other but the last. */
let firstStep: i32 = 0;
let laterStep: i32 = 0;
let count: i32 = 0;

/** Bytes of the option at `option`, `left` being those up to the header's end; 0: it is none. */
function optionSize(option: i32, left: i32): i32 {
  const kind = <u32> load<u8>(option);
  if (kind === OPTION_END) return 0;
  if (kind === OPTION_NO_OPERATION) return 1;
  if (left < 2) return 0;
  const size = <i32> load<u8>(option + 1);
  return size < 2 || size > left ? 0 : size;
}

/**
 * Writes to `at` what of the packet's options is in every fragment, padded to words; 0: writes
 * nothing. Returns how many bytes that is. What follows an option that is broken is none.
 */
function copyOptions(at: i32): i32 {
  let option = headers + ipv4.HEADER_LEN;
  const end = headers + firstHeader;
  let total = 0;
  for (let size = 0; option < end; option += size) {
    size = optionSize(option, end - option);
    if (size === 0) break;
    if ((load<u8>(option) & OPTION_COPIED) === 0) continue;
    if (at !== 0) memory.copy(at + total, option, size);
    total += size;
  }
  for (; (total & 3) !== 0; total++) if (at !== 0) store<u8>(at + total, <u8> OPTION_END);
  return total;
}

/**
 * How many fragments there are; `transport` bytes of the data lie in `headers`. The last one alone
 * need not end at a multiple of `UNIT`.
 */
function countFragments(transport: i32, mtu: i32): i32 {
  if (payloadLength <= firstStep) return 1;
  if (firstStep < 0 || transport + firstStep < UNIT) return 0;
  const beforeLast = payloadLength - firstStep - (mtu - laterHeader);
  if (beforeLast <= 0) return 2;
  return laterStep < UNIT ? 0 : 2 + (beforeLast + laterStep - 1) / laterStep;
}

/**
 * Starts on the packet of `size` bytes at `at` (checked: an IPv4 header, maybe a transport header
 * after it) and of `partSize` bytes of payload at `part`, for a path that carries `mtu` bytes. It
 * may be a fragment itself. What is at either place must stay until all fragments are written.
 *
 * Returns how many fragments it has; 0 if it must not be cut (DF), or cannot: its headers do not
 * fit in one fragment, it had more than `SEGMENT_COUNT_MAX`, or it ends where no packet does.
 */
export function open(at: i32, size: i32, part: i32, partSize: i32, mtu: i32): i32 {
  headers = at;
  headersSize = size;
  payload = part;
  payloadLength = partSize;
  firstHeader = ipv4.headerLength(at);
  const field = load16(at + ipv4.FLAGS_FRAGMENT_OFFSET);
  if ((field & ipv4.DONT_FRAGMENT) !== 0 || size > SEGMENT_HEADER_SIZE) return 0;
  const transport = size - firstHeader;
  const start = <i32> (field & ipv4.FRAGMENT_OFFSET_MASK) * UNIT;
  if (start + transport + partSize > DATA_END_MAX) return 0;
  laterHeader = ipv4.HEADER_LEN + copyOptions(0);
  firstStep = mtu >= size + partSize ? partSize : ((mtu - firstHeader) & ~(UNIT - 1)) - transport;
  laterStep = (mtu - laterHeader) & ~(UNIT - 1);
  count = countFragments(transport, mtu);
  return count > SEGMENT_COUNT_MAX ? 0 : count;
}

/** Where the payload of fragment `index` is. */
export function payloadAt(index: i32): i32 {
  return index === 0 ? payload : payload + firstStep + (index - 1) * laterStep;
}

/** Bytes of the payload of fragment `index`. */
export function payloadSize(index: i32): i32 {
  if (index + 1 === count) return payload + payloadLength - payloadAt(index);
  return index === 0 ? firstStep : laterStep;
}

/** Copies the headers that fragment `index` has, whole; returns their size. */
function copyHeaders(at: i32, index: i32): i32 {
  if (index === 0) {
    for (let i = 0; i < headersSize; i += 16) v128.store(at + i, v128.load(headers + i));
    return headersSize;
  }
  v128.store(at, v128.load(headers));
  store<u32>(at + 16, load<u32>(headers + 16));
  if (laterHeader > ipv4.HEADER_LEN) copyOptions(at + ipv4.HEADER_LEN);
  store<u8>(at + ipv4.VERSION_IHL, <u8> (4 << 4 | laterHeader >> 2));
  return laterHeader;
}

/**
 * Writes the headers of fragment `index`, the IPv4 checksum complete, at `at`, where
 * `SEGMENT_HEADER_SIZE` bytes are free that are not the packet's. Returns their size: the first has
 * all of the packet's, the others an IPv4 header with the options that every fragment has.
 */
export function writeHeaders(at: i32, index: i32): i32 {
  const size = copyHeaders(at, index);
  const data = index === 0 ? 0 : headersSize - firstHeader + payloadAt(index) - payload;
  const more = index + 1 < count ? ipv4.MORE_FRAGMENTS : 0;
  const field = load16(headers + ipv4.FLAGS_FRAGMENT_OFFSET) + <u32> (data / UNIT);
  store16(at + ipv4.TOTAL_LENGTH, size + payloadSize(index));
  // The last keeps what the packet itself said: it may be a fragment that others follow.
  store16(at + ipv4.FLAGS_FRAGMENT_OFFSET, field | more);
  store16(at + ipv4.HEADER_CHECKSUM, 0);
  store16(at + ipv4.HEADER_CHECKSUM, checksum(at, index === 0 ? firstHeader : laterHeader));
  return size;
}
