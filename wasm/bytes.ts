/** Numbers in network order. */

export function load16(offset: i32): u32 {
  return <u32> bswap<u16>(load<u16>(offset));
}

export function store16(offset: i32, value: u32): void {
  store<u16>(offset, bswap<u16>(<u16> value));
}

export function load32(offset: i32): u32 {
  return bswap<u32>(load<u32>(offset));
}

export function store32(offset: i32, value: u32): void {
  store<u32>(offset, bswap<u32>(value));
}

export function load64(offset: i32): u64 {
  return bswap<u64>(load<u64>(offset));
}
