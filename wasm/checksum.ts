/** The Internet checksum (RFC 1071) and its incremental update (RFC 1624). */

/** Folds a sum of 16-bit words into one, with end-around carry. */
export function fold(sum: u64): u32 {
  let folded = (sum & 0xffffffff) + (sum >> 32);
  folded = (folded & 0xffff) + (folded >> 16);
  folded = (folded & 0xffff) + (folded >> 16);
  return <u32> ((folded & 0xffff) + (folded >> 16));
}

/**
 * The one's-complement sum, not inverted, of `size` bytes from `offset`, at any alignment; an odd
 * last byte is followed by a zero in thought. `size` is at most 2^19, where a lane could overflow.
 *
 * It adds words as the processor reads them, and swaps the bytes of the sum at the end: the sum
 * does not depend on byte order (RFC 1071 section 2 B).
 */
export function onesSum(offset: i32, size: i32): u32 {
  let at = offset;
  let left = size;
  let even = i32x4.splat(0);
  let odd = i32x4.splat(0);
  for (; left >= 32; left -= 32, at += 32) {
    even = i32x4.add(even, i32x4.extadd_pairwise_i16x8_u(v128.load(at)));
    odd = i32x4.add(odd, i32x4.extadd_pairwise_i16x8_u(v128.load(at, 16)));
  }
  if (left >= 16) {
    even = i32x4.add(even, i32x4.extadd_pairwise_i16x8_u(v128.load(at)));
    left -= 16;
    at += 16;
  }
  const wide = i64x2.add(
    i64x2.add(i64x2.extend_low_i32x4_u(even), i64x2.extend_high_i32x4_u(even)),
    i64x2.add(i64x2.extend_low_i32x4_u(odd), i64x2.extend_high_i32x4_u(odd)),
  );
  let sum = <u64> i64x2.extract_lane(wide, 0) + <u64> i64x2.extract_lane(wide, 1);
  for (; left >= 2; left -= 2, at += 2) sum += <u64> load<u16>(at);
  if (left === 1) sum += <u64> load<u8>(at);
  return <u32> bswap<u16>(<u16> fold(sum));
}

/** The checksum field's value for data in which that field is zero. */
export function checksum(offset: i32, size: i32): u32 {
  return ~onesSum(offset, size) & 0xffff;
}

/**
 * The checksum after one 16-bit word has changed: RFC 1624 equation 3, `~(~HC + ~m + m')`. A wrong
 * checksum stays wrong.
 */
export function adjust(before: u32, oldWord: u32, newWord: u32): u32 {
  const sum = (~before & 0xffff) + (~oldWord & 0xffff) + newWord;
  return ~fold(<u64> sum) & 0xffff;
}
